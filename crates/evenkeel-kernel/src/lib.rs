//! The kernel: everything Evenkeel decides, as functions from values to values.
//!
//! It reads no file, no clock and no socket, and draws no random number: what was observed is
//! handed in as a [`world::World`], the time is the last argument, and what should be true is
//! handed out as [`want::Want`]s. The same input therefore always gives the same output, which is
//! what lets the simulator run a hundred thousand releases through exactly this code.

#![forbid(unsafe_code)]

pub mod analysis;
pub mod calendar;
pub mod health;
pub mod layout;
pub mod lint;
pub mod model;
pub mod plan;
pub mod release;
pub mod rollout;
pub mod routing;
pub mod scaling;
pub mod spec;
pub mod time;
pub mod want;
pub mod world;
