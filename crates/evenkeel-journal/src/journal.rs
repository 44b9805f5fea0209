//! The journal in one SQLite file: opening it, and the promise of [`Store`] kept with it.

use std::io::Write;
use std::path::{Path, PathBuf};

use evenkeel_kernel::model::Epoch;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::ballast::Ballast;
use crate::chain::{self, Hash};
use crate::check::{self, Summary};
use crate::error::{Kind, StoreError};
use crate::lock::Lock;
use crate::store::{Entry, META_BYTES_MAX, Row, Saved, Seq, Store, TAIL_MAX, Version, bounded};
use crate::{folder, packed, recovery, schema};

/// The name of the file in its folder.
pub const FILE: &str = "state.db";
/// The folder below it that opening looks into when it has to name a backup.
pub const BACKUPS: &str = "backups";

/// A journal in one SQLite file, open for its one writer.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    dir: PathBuf,
    reads: u32,
    ballast: Ballast,
    /// Set before every write and cleared after it succeeded: a panic in between leaves it set.
    poisoned: bool,
    /// After the connection, so that it is let go last.
    _lock: Lock,
}

impl Journal {
    /// Opens the journal in `dir`, or makes a new one, and checks all of it.
    ///
    /// `reads` is the newest format of the state that the caller understands.
    ///
    /// # Errors
    /// [`Kind::Locked`] when another process has it open, [`Kind::Corrupt`] when it is not what was
    /// written (with the newest good backup, if there is one), [`Kind::Newer`] when a newer version
    /// of this program wrote it, [`Kind::Unsuitable`] when the place cannot keep the promise.
    pub fn open(dir: &Path, reads: u32) -> Result<Self, StoreError> {
        folder::prepare(dir)?;
        let lock = Lock::take(dir)?;
        let mut ballast = Ballast::find(dir);
        let connection = connect(dir).map_err(|error| recovery::name_backup(error, dir))?;
        ballast.take();
        let dir = dir.to_owned();
        let mut journal = Self { connection, dir, reads, ballast, poisoned: false, _lock: lock };
        journal.load()?;
        Ok(journal)
    }

    /// Checks everything again, as opening does.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when something is not what was written. The process should end then, and
    /// a person restore a backup.
    pub fn verify(&self) -> Result<Summary, StoreError> {
        check::walk(&self.connection).map_err(|error| recovery::name_backup(error, &self.dir))
    }

    /// Writes a backup `state-<row>.db` into `to`, makes it durable, checks it as opening would,
    /// and removes all but the newest ten. Gives its path.
    ///
    /// # Errors
    /// When it could not be written, or is not whole.
    pub fn backup(&self, to: &Path) -> Result<PathBuf, StoreError> {
        self.sound("back up the journal")?;
        recovery::backup(&self.connection, to)
    }

    /// Writes the whole journal and the state to `out`, one JSON object per line.
    ///
    /// # Errors
    /// When it could not be read or written.
    pub fn dump(&self, out: &mut dyn Write) -> Result<(), StoreError> {
        crate::dump::write(&self.connection, out)
    }

    /// Whether room is held back for the moment when the disk is full. If not, it was full and
    /// still nearly is: the way back can be written, and nothing new should be begun.
    #[must_use]
    pub fn has_ballast(&self) -> bool {
        self.ballast.held()
    }

    fn sound(&self, doing: &str) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::new(Kind::Poisoned, doing)) } else { Ok(()) }
    }

    /// One write. Whatever goes wrong, nothing is done here afterwards.
    fn write<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.sound(doing)?;
        self.poisoned = true;
        let written = work(&mut self.connection);
        match &written {
            Ok(_) => {
                self.poisoned = false;
                self.ballast.take();
            }
            Err(error) if error.kind == Kind::Full => {
                self.ballast.give_up();
            }
            Err(_) => {}
        }
        written
    }

    /// One write that is one transaction.
    fn transact<T>(
        &mut self,
        doing: &str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(doing, |connection| transact(connection, doing, work))
    }
}

impl Store for Journal {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        let doing = "read the state";
        self.sound(doing)?;
        let found = check::state(&self.connection).map_err(|e| StoreError::sqlite(doing, e))?;
        match found {
            Some((saved, _)) if saved.format > self.reads => {
                let kind = Kind::Newer { found: saved.format, reads: self.reads };
                Err(StoreError::new(kind, doing))
            }
            Some((saved, _)) => {
                let body = packed::unpack(&saved.body).map_err(|it| StoreError::io(doing, it))?;
                Ok(Some(Saved { body: body.into_owned(), ..saved }))
            }
            None => Ok(None),
        }
    }

    fn claim(&mut self) -> Result<Epoch, StoreError> {
        let doing = "claim the next epoch";
        self.write(doing, |connection| {
            write_back(connection)?;
            transact(connection, doing, |transaction| {
                let next = fence(transaction)?.next();
                set_fence(transaction, next)?;
                Ok(next)
            })
        })
    }

    fn commit(
        &mut self,
        expected: Version,
        epoch: Epoch,
        rows: &[Row],
        format: u32,
        body: &str,
    ) -> Result<Version, StoreError> {
        let doing = format!("commit after {expected}");
        let body = packed::pack(body).map_err(|error| StoreError::io(&*doing, error))?;
        self.transact(&doing, |transaction| {
            bounded(rows, &body)?;
            admit(transaction, epoch)?;
            let before = newest(transaction).map_err(sqlite)?;
            let found = before.map_or(Version(0), |(version, _)| version);
            if found != expected {
                return Err(StoreError::new(Kind::Conflict { expected, found }, "commit"));
            }
            let (head, head_hash) = append(transaction, rows)?;
            let at = rows.last().map(|row| row.at).or(before.map(|(_, at)| at)).unwrap_or(0);
            let version = Version(expected.0 + 1);
            let saved = Saved { version, epoch, format, at, head, body: body.into_owned() };
            save(transaction, &saved, head_hash)?;
            Ok(version)
        })
    }

    fn tail(&mut self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let doing = "read the journal";
        self.sound(doing)?;
        let limit = i64::try_from(limit.min(TAIL_MAX)).unwrap_or(i64::MAX);
        // A place beyond the largest number of SQLite is beyond the end.
        let after = i64::try_from(after.0).unwrap_or(i64::MAX);
        let read = || -> rusqlite::Result<Vec<Entry>> {
            self.connection
                .prepare(&format!(
                    "SELECT {} FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2",
                    check::ENTRY
                ))?
                .query_map(params![after, limit], check::entry)?
                .collect()
        };
        read().map_err(|error| StoreError::sqlite(doing, error))
    }

    fn meta(&mut self, key: &str) -> Result<Option<String>, StoreError> {
        let doing = format!("read {key}");
        self.sound(&doing)?;
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(|error| StoreError::sqlite(doing, error))
    }

    fn set_meta(&mut self, epoch: Epoch, key: &str, value: &str) -> Result<(), StoreError> {
        self.transact(&format!("keep {key}"), |transaction| {
            if key.len().max(value.len()) > META_BYTES_MAX {
                return Err(StoreError::new(Kind::TooLarge, "keep more than 4 KiB"));
            }
            admit(transaction, epoch)?;
            transaction
                .execute(
                    "INSERT INTO meta VALUES (?1, ?2, ?3)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value, hash = excluded.hash",
                    params![key, value, chain::fact(key, value).0],
                )
                .map_err(sqlite)?;
            Ok(())
        })
    }
}

/// Opens and checks the file. A disk so full that the log cannot be written back still lets it be
/// read; `claim` will find the same disk, so nobody acts on it.
fn connect(dir: &Path) -> Result<Connection, StoreError> {
    let mut connection = schema::connect(&dir.join(FILE))?;
    schema::prepare(&mut connection).map_err(check::doubt)?;
    match write_back(&connection) {
        Err(error) if error.kind != Kind::Full => return Err(error),
        Ok(()) | Err(_) => {}
    }
    folder::sync(dir)?;
    check::walk(&connection)?;
    Ok(connection)
}

/// Makes sure that what the journal says is on the disk before anyone acts on it: a commit whose
/// sync failed may be in the log as the system remembers it, but not on the disk. Writing the log
/// back to the file syncs it anew.
fn write_back(connection: &Connection) -> Result<(), StoreError> {
    let doing = "write the log back to the file";
    let busy: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|error| StoreError::sqlite(doing, error))?;
    if busy { Err(StoreError::new(Kind::Locked { pid: None }, doing)) } else { Ok(()) }
}

fn sqlite(error: rusqlite::Error) -> StoreError {
    StoreError::sqlite("write the journal", error)
}

fn transact<T>(
    connection: &mut Connection,
    doing: &str,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let failed = |error| StoreError::sqlite(doing, error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let value = work(&transaction)?;
    transaction.commit().map_err(failed)?;
    Ok(value)
}

/// Lets only the newest epoch write.
fn admit(transaction: &Transaction<'_>, epoch: Epoch) -> Result<(), StoreError> {
    let claimed = fence(transaction)?;
    if epoch == claimed {
        return Ok(());
    }
    Err(StoreError::new(Kind::Fenced { claimed }, format!("write as {epoch}")))
}

fn fence(connection: &Connection) -> Result<Epoch, StoreError> {
    connection
        .query_row("SELECT epoch FROM fence", [], |row| row.get(0))
        .map(|epoch: i64| Epoch(epoch.cast_unsigned()))
        .map_err(sqlite)
}

/// Writes which epoch was claimed last.
pub(crate) fn set_fence(connection: &Connection, epoch: Epoch) -> Result<(), StoreError> {
    connection
        .execute(
            "INSERT INTO fence VALUES (1, ?1, ?2)
             ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, hash = excluded.hash",
            params![epoch.0.cast_signed(), check::fence_hash(epoch).0],
        )
        .map(|_| ())
        .map_err(sqlite)
}

/// The version of the newest state, and the wall clock of its commit.
fn newest(transaction: &Transaction<'_>) -> rusqlite::Result<Option<(Version, u64)>> {
    transaction
        .query_row("SELECT version, at FROM state", [], |row| {
            let (version, at): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((Version(version.cast_unsigned()), at.cast_unsigned()))
        })
        .optional()
}

/// Appends the rows, each linked to the one before. Gives the new end.
fn append(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(Seq, Hash), StoreError> {
    let mut last = transaction
        .query_row("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((Seq(row.get::<_, i64>(0)?.cast_unsigned()), Hash(row.get(1)?)))
        })
        .optional()
        .map_err(sqlite)?
        .unwrap_or((Seq(0), Hash::ZERO));
    let mut insert = transaction
        .prepare("INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
        .map_err(sqlite)?;
    for row in rows {
        let seq = Seq(last.0.0 + 1);
        let hash = chain::link(last.1, seq, row);
        insert
            .execute(params![
                seq.0.cast_signed(),
                row.release.map(|release| release.0.cast_signed()),
                row.at.cast_signed(),
                row.actor,
                row.kind,
                row.body,
                last.1.0,
                hash.0
            ])
            .map_err(sqlite)?;
        last = (seq, hash);
    }
    Ok(last)
}

fn save(transaction: &Transaction<'_>, saved: &Saved, head_hash: Hash) -> Result<(), StoreError> {
    transaction
        .prepare("INSERT OR REPLACE INTO state VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)")
        .and_then(|mut upsert| {
            upsert.execute(params![
                saved.version.0.cast_signed(),
                saved.epoch.0.cast_signed(),
                saved.format,
                saved.at.cast_signed(),
                saved.head.0.cast_signed(),
                saved.body,
                chain::seal(saved, head_hash).0
            ])
        })
        .map(|_| ())
        .map_err(sqlite)
}

#[cfg(test)]
mod tests;
