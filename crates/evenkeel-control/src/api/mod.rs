//! The API, version 1: JSON over HTTP on a unix socket.
//!
//! The types are the wire's own; [`openapi`] is generated from them.

mod check;
pub(crate) mod doc;
pub(crate) mod handlers;
pub mod types;

pub(crate) use check::planned;
pub use check::{check, plan_from_nothing};
pub use doc::openapi;
