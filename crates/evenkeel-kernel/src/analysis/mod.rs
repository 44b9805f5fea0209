//! Judging a new revision by its bad events, beside those of the revision it replaces.
//!
//! What counts as bad is a *track*: a request that failed, or one that was slow. Each track gathers
//! [`Evidence`] against the new revision, batch by batch, and may be asked after each batch without
//! ever spoiling the answer. What is concluded from it is the caller's: a release that is taken
//! back, or goes on.

mod evidence;
mod judgement;
mod verdict;

pub use evidence::{Batch, Evidence, Tally};
pub use judgement::{Case, Finding, Track, percent, requests_needed};
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
