//! The release state machine.
//!
//! [`State`] is everything that must survive a crash. [`State::decide`] makes the next one from it
//! and from what was observed; [`State::wants`] says what should be true now. The caller commits a
//! new state before it asks for wants, so no order is ever sent for a decision that a crash could
//! forget. Whether something is done is always read off the world, never off the state.

mod act;
mod affinity;
mod analyse;
mod checks;
mod closed;
mod decide;
mod doubt;
mod expiry;
mod hold;
mod hotfix;
mod job;
mod judge;
mod ledger;
mod leftover;
pub mod news;
mod pools;
mod scale;
mod schema;
mod state;
mod wants;
mod why;

pub use act::{Accepted, Action, Change, Prospect, Refusal};
pub use affinity::Door;
pub use analyse::{Judged, Standing, Watched};
pub use checks::{Checking, Said};
pub use closed::Closed;
pub use decide::Decision;
pub use expiry::Worry;
pub use hold::{Held, Holding};
pub use job::{Attempt, Run};
pub use ledger::{Account, Ledger};
pub use scale::Sized;
pub use schema::Shaping;
pub use state::{
    Approval, Bake, Because, Gate, Kept, Kind, Lock, Note, Outcome, Past, Paused, Phase, Ports,
    Queued, Release, Rollout, Service, Slot, Stage, State,
};
pub use why::Wait;

#[cfg(test)]
mod tests;
