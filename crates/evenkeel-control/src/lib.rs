//! The control plane: it observes, lets the kernel decide, commits, and makes the wants true.
//!
//! It decides nothing itself, and nothing in traffic or instances depends on it: it may die at any
//! moment. What it must not forget is in the journal before anyone is told about it.

#![forbid(unsafe_code)]

pub mod api;
mod calendar;
mod checks;
pub mod client;
mod clock;
mod engine;
mod events;
mod hands;
mod listen;
mod log;
mod notify;
mod orders;
pub mod outbound;
mod role;
mod saved;
mod schemas;
mod snapshot;
mod startable;
#[cfg(test)]
mod upgrades;
mod view;
mod wake;

pub use role::{Config, ControlError, run};
pub use saved::FORMAT;
