//! The promise of a store, whatever keeps it: the words of its language and the one trait.
//!
//! It does not know what a row says or what the state holds; both are text to it.

use std::{fmt, io};

use evenkeel_kernel::model::{Epoch, ReleaseId};

use crate::chain::{self, Hash};
use crate::error::{Kind, StoreError};
use crate::packed;

/// The longest state as it is kept ([`kept_bytes`]), in bytes. One commit writes it to the log and later to the file; both fit
/// into the ballast (16 MiB) that a full disk is given back, with room for a second commit.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// The longest row body, in bytes: a plan of 3,000 objects. A longer text is a mistake.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// The longest actor or kind, in bytes: a name, not a text.
pub const ACTOR_BYTES_MAX: usize = 256;
/// The most rows in one commit: one decision touches every release at most a few times.
pub const ROWS_MAX: usize = 1_000;
/// The most entries one call of [`Store::tail`] gives, so that an answer fits into memory.
pub const TAIL_MAX: usize = 1_000;
/// The longest key or value of the small facts beside the state, in bytes.
pub const META_BYTES_MAX: usize = 4 << 10;

/// How often the state was committed. Rises by one with every commit; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.0)
    }
}

/// The place of a row in the journal. The first row is 1; there are no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.0)
    }
}

/// One decision, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The release it belongs to; `None` is the system itself.
    pub release: Option<ReleaseId>,
    /// The wall clock, in milliseconds since 1970 UTC. For people; nothing is decided by it.
    pub at: u64,
    /// Who decided: a user, or the engine.
    pub actor: String,
    /// What kind of decision, one word of control's vocabulary.
    pub kind: String,
    /// The decision, as JSON.
    pub body: String,
}

/// One decision, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// What it says.
    pub row: Row,
    /// The hash of the entry before it; all zeros for the first.
    pub prev_hash: Hash,
    /// Its own hash: over everything above.
    pub hash: Hash,
}

impl Entry {
    /// Whether the entry is what was written, and follows the one whose hash is `prev`.
    #[must_use]
    pub fn follows(&self, prev: Hash) -> bool {
        self.prev_hash == prev && self.hash == chain::link(prev, self.seq, &self.row)
    }
}

/// The newest state, as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Which commit made it.
    pub version: Version,
    /// Which controller made it. Not the newest epoch that was claimed: that is `claim`'s to say.
    pub epoch: Epoch,
    /// The format of `body`, a number of control's.
    pub format: u32,
    /// The wall clock of that commit's last row (of an earlier one if it had none), in
    /// milliseconds since 1970 UTC.
    pub at: u64,
    /// The last row of the journal at that commit.
    pub head: Seq,
    /// The state.
    pub body: String,
}

/// The journal and the state, kept durably.
///
/// After *any* error of `claim`, `commit` or `set_meta` it is unknown whether the write happened.
/// The store is poisoned then: every later call fails with [`Kind::Poisoned`]. The process must
/// end, and its successor reads what is really there.
pub trait Store: Send {
    /// The newest state; `None` before the first commit.
    ///
    /// # Errors
    /// [`Kind::Newer`] when the state is of a format this controller does not read.
    fn load(&mut self) -> Result<Option<Saved>, StoreError>;

    /// Makes the caller the only one who may write: a new epoch, higher than every one before,
    /// durable when this returns. To be called before anything is observed or sent.
    ///
    /// # Errors
    /// When it could not be made durable.
    fn claim(&mut self) -> Result<Epoch, StoreError>;

    /// Appends `rows` and replaces the state, both or neither, durable when this returns.
    ///
    /// `expected` is the version the new state was decided from.
    ///
    /// # Errors
    /// [`Kind::Fenced`] when `epoch` is not the newest, [`Kind::Conflict`] when the state is not at
    /// `expected`, [`Kind::TooLarge`] when a bound of this module is exceeded, [`Kind::Full`] when
    /// there is no room. After any of them the process must end.
    fn commit(
        &mut self,
        expected: Version,
        epoch: Epoch,
        rows: &[Row],
        format: u32,
        body: &str,
    ) -> Result<Version, StoreError>;

    /// The entries after `after`, in order, at most `limit` and at most [`TAIL_MAX`].
    ///
    /// # Errors
    /// When they could not be read.
    fn tail(&mut self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// A small fact kept beside the state.
    ///
    /// # Errors
    /// When it could not be read.
    fn meta(&mut self, key: &str) -> Result<Option<String>, StoreError>;

    /// Keeps a small fact beside the state, durable when this returns. Not for decisions: it has no
    /// row and no version.
    ///
    /// # Errors
    /// As `commit`.
    fn set_meta(&mut self, epoch: Epoch, key: &str, value: &str) -> Result<(), StoreError>;
}

/// How many bytes a state takes where it is kept, which is fewer than it has if it is large.
///
/// # Errors
/// When there is no memory to compress it in.
pub fn kept_bytes(body: &str) -> io::Result<usize> {
    Ok(packed::pack(body)?.len())
}

/// Refuses what exceeds a bound, before anything is written.
pub(crate) fn bounded(rows: &[Row], body: &str) -> Result<(), StoreError> {
    let too_large = |what: &str| Err(StoreError::new(Kind::TooLarge, format!("commit {what}")));
    if body.len() > BODY_BYTES_MAX {
        return too_large("a state longer than 4 MiB where it is kept");
    }
    if rows.len() > ROWS_MAX {
        return too_large("more than 1,000 rows at once");
    }
    if rows.iter().any(|row| row.body.len() > ROW_BYTES_MAX) {
        return too_large("a row longer than 1 MiB");
    }
    if rows.iter().any(|row| row.actor.len().max(row.kind.len()) > ACTOR_BYTES_MAX) {
        return too_large("an actor or kind longer than 256 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(body: usize, actor: usize) -> Row {
        let text = |length| "x".repeat(length);
        Row { release: None, at: 0, actor: text(actor), kind: text(1), body: text(body) }
    }

    #[test]
    fn every_bound_lets_its_own_value_pass_and_no_more() {
        let full = row(ROW_BYTES_MAX, ACTOR_BYTES_MAX);
        assert!(bounded(&[full], &"x".repeat(BODY_BYTES_MAX)).is_ok());
        assert!(bounded(&vec![row(0, 0); ROWS_MAX], "").is_ok());
        let kind = |rows: &[Row], body: &str| bounded(rows, body).unwrap_err().kind;
        assert_eq!(kind(&[], &"x".repeat(BODY_BYTES_MAX + 1)), Kind::TooLarge);
        assert_eq!(kind(&vec![row(0, 0); ROWS_MAX + 1], ""), Kind::TooLarge);
        assert_eq!(kind(&[row(ROW_BYTES_MAX + 1, 0)], ""), Kind::TooLarge);
        assert_eq!(kind(&[row(0, ACTOR_BYTES_MAX + 1)], ""), Kind::TooLarge);
    }
}
