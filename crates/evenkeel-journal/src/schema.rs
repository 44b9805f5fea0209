//! The file's shape and settings: what every connection to it has in common.
//!
//! One connection, exclusive: it needs no shared-memory file, so a full disk can still be read, and
//! the write-ahead log cannot be reset under a second connection. The price is that no other
//! program can look into the file while control runs; `dump` is there for that.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Kind, StoreError};

/// The oldest SQLite whose write-ahead log does not lose commits when it is reset.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Marks the file as ours: "EVKL".
const APPLICATION_ID: u32 = 0x4556_4b4c;
/// The version of the tables below.
const VERSION: u32 = 1;
/// How long a writer waits for a lock; with one connection only a backup tool could hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is cut to this size after a commit that made it longer.
const LOG_BYTES_MAX: u32 = 64 << 20;

/// The insert trigger also stops `INSERT OR REPLACE`, which would not fire the delete trigger.
const TABLES: &str = "
CREATE TABLE journal (
    seq       INTEGER PRIMARY KEY,
    release   INTEGER,
    at        INTEGER NOT NULL,
    actor     TEXT NOT NULL,
    kind      TEXT NOT NULL,
    body      TEXT NOT NULL,
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash      BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX journal_by_release ON journal (release, seq) WHERE release IS NOT NULL;
CREATE TRIGGER journal_only_grows BEFORE INSERT ON journal
WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM journal)
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: rows follow one another'); END;
CREATE TRIGGER journal_keeps_rows BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a row never changes'); END;
CREATE TRIGGER journal_keeps_all BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a row is never removed'); END;
CREATE TABLE state (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    format  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    head    INTEGER NOT NULL,
    body    TEXT NOT NULL,
    hash    BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE fence (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT, WITHOUT ROWID;
";

/// Opens the file for its one writer, with every setting in force.
pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    check_library(rusqlite::version_number())?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::sqlite(format!("open {}", path.display()), error))?;
    configure(&connection)
        .map_err(|error| StoreError::sqlite(format!("open {}", path.display()), error))?;
    in_force(&connection)?;
    Ok(connection)
}

/// Opens a closed file for reading: a backup, or one that is looked at while control is down.
pub(crate) fn connect_reading(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let doing = || format!("open {}", path.display());
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::sqlite(doing(), error))?;
    connection
        .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
        .map_err(|error| StoreError::sqlite(doing(), error))?;
    Ok(connection)
}

fn check_library(version: i32) -> Result<(), StoreError> {
    if version >= SQLITE_VERSION_MIN {
        return Ok(());
    }
    let because = format!(
        "it was built with SQLite {version}, which can lose commits; {SQLITE_VERSION_MIN} or later is needed"
    );
    Err(StoreError::new(Kind::Unsuitable(because), "open the journal"))
}

/// The locking mode comes first: it decides how the log is opened.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(&format!(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA recursive_triggers = ON;
         PRAGMA journal_size_limit = {LOG_BYTES_MAX};"
    ))
}

/// A setting that is not taken is not an error to SQLite; here it is one.
fn in_force(connection: &Connection) -> Result<(), StoreError> {
    let wanted = [
        ("locking_mode", "exclusive"),
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("trusted_schema", "0"),
        ("cell_size_check", "1"),
    ];
    for (name, value) in wanted {
        let found = pragma(connection, name)?;
        if found != value {
            let because = format!("SQLite keeps {name} at {found} here, and {value} is needed");
            return Err(StoreError::new(Kind::Unsuitable(because), "open the journal"));
        }
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<String, StoreError> {
    let text = connection.query_row(&format!("PRAGMA {name}"), [], |row| {
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Null
            | rusqlite::types::Value::Real(_)
            | rusqlite::types::Value::Blob(_) => String::new(),
        })
    });
    text.map_err(|error| StoreError::sqlite(format!("read the setting {name}"), error))
}

fn number(connection: &Connection, name: &str) -> Result<u32, StoreError> {
    // SQLite shows these as signed 32-bit numbers.
    let signed: i32 = pragma(connection, name)?.parse().unwrap_or(0);
    Ok(signed.cast_unsigned())
}

/// Makes the tables in a new file; refuses a file that is not ours, or newer than this program.
pub(crate) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let sqlite = |error| StoreError::sqlite("make the tables", error);
    let empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    if empty && number(connection, "application_id")? == 0 {
        let transaction = connection.transaction().map_err(sqlite)?;
        transaction.execute_batch(TABLES).map_err(sqlite)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
        crate::journal::set_fence(&transaction, evenkeel_kernel::model::Epoch(0))?;
        transaction.commit().map_err(sqlite)?;
    }
    recognise(connection)
}

/// Refuses a file that is not ours, is newer than this program, or whose tables were changed.
pub(crate) fn recognise(connection: &Connection) -> Result<(), StoreError> {
    if number(connection, "application_id")? != APPLICATION_ID {
        return Err(StoreError::corrupt("the file is not a journal of Evenkeel"));
    }
    let found = number(connection, "user_version")?;
    if found > VERSION {
        let kind = Kind::Newer { found, reads: VERSION };
        return Err(StoreError::new(kind, "read the journal's tables"));
    }
    let fresh = Connection::open_in_memory()
        .and_then(|fresh| fresh.execute_batch(TABLES).map(|()| fresh))
        .map_err(|error| StoreError::sqlite("make the tables in memory", error))?;
    if texts(connection)? == texts(&fresh)? {
        Ok(())
    } else {
        Err(StoreError::corrupt("the tables or triggers were changed"))
    }
}

fn texts(connection: &Connection) -> Result<Vec<String>, StoreError> {
    connection
        .prepare(
            "SELECT type || name || tbl_name || coalesce(sql, '') FROM sqlite_schema ORDER BY name",
        )
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .map_err(|error| StoreError::sqlite("read the tables' definitions", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_library_is_refused() {
        assert!(check_library(SQLITE_VERSION_MIN).is_ok());
        let error = check_library(SQLITE_VERSION_MIN - 1).unwrap_err();
        assert!(matches!(error.kind, Kind::Unsuitable(_)), "{error}");
    }

    #[test]
    fn rows_cannot_be_changed_removed_replaced_or_skipped() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let insert = |verb: &str, seq: u32| {
            connection.execute(
                &format!(
                    "{verb} INTO journal VALUES ({seq}, NULL, 0, '', '', '', zeroblob(32), zeroblob(32))"
                ),
                [],
            )
        };
        insert("INSERT", 1).unwrap();
        insert("INSERT", 2).unwrap();
        for refused in [
            insert("INSERT OR REPLACE", 1),
            insert("INSERT", 4),
            connection.execute("UPDATE journal SET actor = 'other' WHERE seq = 1", []),
            connection.execute("DELETE FROM journal WHERE seq = 2", []),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("append-only"), "{text}");
        }
    }
}
