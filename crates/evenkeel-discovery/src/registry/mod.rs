//! Services that others register: what they are, how they are, and until when they are believed.
//!
//! What is registered is on disk, one small file each, so that it outlives this process and reaches
//! the one that takes over from it. Nothing here decides about the stack's own services.

mod check;
mod desk;
mod disk;
mod entry;
mod wire;

pub(crate) use desk::{Desk, Refused};
pub(crate) use entry::{Checked, Entry, Group, Kind, Registered, Status, Test};
pub(crate) use wire::{read, span};
