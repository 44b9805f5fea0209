//! The journal: what was decided, by whom and in which order, and the state that came of it.
//!
//! It decides nothing about releases. To this room a decision is a row of text and the state is one
//! opaque text; what they mean is control's to say. It promises four things: what `commit`
//! acknowledged survives any crash; the rows are never changed, and a change made behind its back
//! is noticed; only the controller with the newest epoch can write; and after a write whose result
//! is unknown it refuses to go on, so that the process ends and reads what is really there.
//!
//! [`Store`] is the promise, [`Journal`] keeps it with one SQLite file, and [`conformance`] checks
//! it on any store.

#![forbid(unsafe_code)]

mod ballast;
mod chain;
mod check;
pub mod clock;
pub mod conformance;
mod dump;
mod error;
mod folder;
mod journal;
mod lock;
mod packed;
mod recovery;
mod schema;
mod store;

pub use chain::Hash;
pub use check::Summary;
pub use error::{Kind, StoreError};
pub use journal::{BACKUPS, FILE, Journal};
pub use recovery::{newest_good_backup, restore, verify_file};
pub use store::{
    ACTOR_BYTES_MAX, BODY_BYTES_MAX, Entry, META_BYTES_MAX, ROW_BYTES_MAX, ROWS_MAX, Row, Saved,
    Seq, Store, TAIL_MAX, Version, kept_bytes,
};
