//! A whole world in one thread: controllers, store, platform, edge, keeper and people in virtual
//! time, with everything that can go wrong between them. What decides in it is the real kernel.
//!
//! A seed says everything: the stack, what people do, and which faults strike when. After every
//! step the invariants are checked; see [`run`]. It knows nothing of processes, sockets or files.

#![forbid(unsafe_code)]

mod asked;
mod bug;
mod controller;
mod databases;
mod edge;
mod faults;
mod invariants;
mod jobs;
mod load;
mod network;
mod people;
mod platform;
mod rng;
mod scenario;
mod simulation;
mod store;

pub use bug::Bug;
pub use invariants::Violation;
pub use simulation::{Report, run};

#[cfg(test)]
mod tests;
