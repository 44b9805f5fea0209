//! The check: walks a whole file and says whether it is what was written.
//!
//! Every byte that `load`, `tail` or `meta` could give is covered by a hash; the rest (pages,
//! indexes) by SQLite's own check. One gap is left: a damaged frame at the end of the log looks to
//! SQLite like a commit that never finished, and is dropped with all that follow it.

use evenkeel_kernel::model::{Epoch, ReleaseId};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use crate::chain::{self, Hash};
use crate::error::StoreError;
use crate::schema;
use crate::store::{Entry, Row, Saved, Seq, Version};

/// What a check walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last row; also how many there are.
    pub head: Seq,
    /// The last row's hash. Kept elsewhere, it proves later that no row was changed.
    pub head_hash: Hash,
    /// The state's version; 0 when there is none.
    pub version: Version,
    /// The newest epoch that was claimed.
    pub epoch: Epoch,
}

/// The columns of an entry, in the order [`entry`] reads them.
pub(crate) const ENTRY: &str = "seq, release, at, actor, kind, body, prev_hash, hash";

/// Reads one entry from the columns [`ENTRY`].
pub(crate) fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let release: Option<i64> = row.get(1)?;
    Ok(Entry {
        seq: Seq(unsigned(row, 0)?),
        row: Row {
            release: release.map(|id| ReleaseId(id.cast_unsigned())),
            at: unsigned(row, 2)?,
            actor: row.get(3)?,
            kind: row.get(4)?,
            body: row.get(5)?,
        },
        prev_hash: Hash(row.get(6)?),
        hash: Hash(row.get(7)?),
    })
}

/// Numbers are kept as SQLite's signed ones, bit for bit.
fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// Reads the state and its seal.
pub(crate) fn state(connection: &Connection) -> rusqlite::Result<Option<(Saved, Hash)>> {
    connection
        .query_row("SELECT version, epoch, format, at, head, body, hash FROM state", [], |row| {
            let saved = Saved {
                version: Version(unsigned(row, 0)?),
                epoch: Epoch(unsigned(row, 1)?),
                format: row.get(2)?,
                at: unsigned(row, 3)?,
                head: Seq(unsigned(row, 4)?),
                body: row.get(5)?,
            };
            Ok((saved, Hash(row.get(6)?)))
        })
        .optional()
}

/// Walks the whole file.
pub(crate) fn walk(connection: &Connection) -> Result<Summary, StoreError> {
    schema::recognise(connection).map_err(doubt)?;
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(unreadable)?;
    if verdict != "ok" {
        return Err(StoreError::corrupt(format!("SQLite finds: {verdict}")));
    }
    let (head, head_hash) = walk_rows(connection)?;
    let epoch = walk_fence(connection)?;
    walk_meta(connection)?;
    let version = walk_state(connection, head, head_hash, epoch)?;
    Ok(Summary { head, head_hash, version, epoch })
}

fn walk_rows(connection: &Connection) -> Result<(Seq, Hash), StoreError> {
    let mut query = connection
        .prepare(&format!("SELECT {ENTRY} FROM journal ORDER BY seq"))
        .map_err(unreadable)?;
    let mut last = (Seq(0), Hash::ZERO);
    for found in query.query_map([], entry).map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        let next = Seq(last.0.0 + 1);
        if found.seq != next || !found.follows(last.1) {
            return Err(StoreError::corrupt(format!("the chain breaks at {next}")));
        }
        last = (found.seq, found.hash);
    }
    Ok(last)
}

fn walk_fence(connection: &Connection) -> Result<Epoch, StoreError> {
    let (epoch, hash): (i64, [u8; 32]) = connection
        .query_row("SELECT epoch, hash FROM fence", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(unreadable)?;
    let epoch = Epoch(epoch.cast_unsigned());
    if Hash(hash) != fence_hash(epoch) {
        return Err(StoreError::corrupt("the claimed epoch was changed"));
    }
    Ok(epoch)
}

/// The hash that goes with a claimed epoch.
pub(crate) fn fence_hash(epoch: Epoch) -> Hash {
    chain::fact("evenkeel epoch", &epoch.0.to_string())
}

fn walk_meta(connection: &Connection) -> Result<(), StoreError> {
    let mut query = connection.prepare("SELECT key, value, hash FROM meta").map_err(unreadable)?;
    let facts = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, Hash(row.get(2)?))))
        .map_err(unreadable)?;
    for fact in facts {
        let (key, value, hash): (String, String, Hash) = fact.map_err(unreadable)?;
        if hash != chain::fact(&key, &value) {
            return Err(StoreError::corrupt(format!("the value of {key} was changed")));
        }
    }
    Ok(())
}

fn walk_state(
    connection: &Connection,
    head: Seq,
    head_hash: Hash,
    claimed: Epoch,
) -> Result<Version, StoreError> {
    let Some((saved, hash)) = state(connection).map_err(unreadable)? else {
        return if head == Seq(0) {
            Ok(Version(0))
        } else {
            Err(StoreError::corrupt("the state is missing"))
        };
    };
    if saved.head != head {
        return Err(StoreError::corrupt(format!(
            "the state is of {}, the journal ends at {head}",
            saved.head
        )));
    }
    if hash != chain::seal(&saved, head_hash) {
        return Err(StoreError::corrupt("the state was changed"));
    }
    if saved.epoch > claimed {
        return Err(StoreError::corrupt("the state is of an epoch that was never claimed"));
    }
    Ok(saved.version)
}

/// What could not be read is corrupt, unless the system says why it could not be read.
fn unreadable(error: rusqlite::Error) -> StoreError {
    let of_the_system = [
        ErrorCode::SystemIoFailure,
        ErrorCode::DiskFull,
        ErrorCode::OutOfMemory,
        ErrorCode::CannotOpen,
        ErrorCode::DatabaseBusy,
        ErrorCode::PermissionDenied,
    ];
    if error.sqlite_error_code().is_some_and(|code| of_the_system.contains(&code)) {
        return StoreError::sqlite("read the journal", error);
    }
    let mut corrupt = StoreError::corrupt(error.to_string());
    corrupt.source = Some(Box::new(error));
    corrupt
}

/// An unclear failure while a file is recognised means that it is not what was written.
pub(crate) fn doubt(error: StoreError) -> StoreError {
    match error.source {
        Some(source) if error.kind == crate::Kind::Io => match source.downcast::<rusqlite::Error>()
        {
            Ok(sqlite) => unreadable(*sqlite),
            Err(source) => StoreError { source: Some(source), ..error },
        },
        source => StoreError { source, ..error },
    }
}
