//! The platform "this machine": one shim per instance, and the driver that starts, adopts and
//! stops them.
//!
//! The driver ([`Local`]) lives in control and may die at any moment. A shim ([`shim()`]) keeps one
//! process running and knows nothing of pools, releases or traffic. They meet in the instance's
//! folder and on the shim's socket.

pub mod artifact;
mod backoff;
mod cgroup;
mod child;
mod driver;
mod folder;
mod fork;
pub mod hook;
mod isolation;
mod log;
mod nursery;
mod process;
mod protocol;
pub mod secret;
mod shim;
pub mod shims;
mod spec;
mod status;
mod tree;
mod turn;
mod user;

pub use backoff::Backoff;
pub use child::{Obstacle, look};
pub use driver::{Config, Local, Routed};
pub use folder::{LogFile, log_files};
pub use isolation::{Enforcement, Isolation, isolation};
pub use shim::shim;
pub use user::{own_uid, user_ids, user_name};
