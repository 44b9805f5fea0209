//! Backups: making one, finding the newest that is whole, and putting one back.
//!
//! A backup is one closed file. It is checked when it is made, exactly as opening it would, because
//! a backup that was never read is a hope.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use evenkeel_kernel::model::Epoch;
use rusqlite::Connection;

use crate::check::{self, Summary};
use crate::error::{Kind, StoreError};
use crate::journal::{BACKUPS, FILE, set_fence};
use crate::lock::Lock;
use crate::{folder, schema};

/// How many backups are kept: the newest.
const KEPT: usize = 10;

/// Makes a backup of an open journal in `to`.
///
/// `VACUUM INTO` reads every row and builds a new file from them, so damage to a page cannot travel
/// into the backup unnoticed, and the new file is whole in itself: it needs no log beside it.
pub(crate) fn backup(connection: &Connection, to: &Path) -> Result<PathBuf, StoreError> {
    folder::prepare(to)?;
    let partial = to.join("partial.db");
    remove(&partial)?;
    let text = partial.to_str().ok_or_else(|| {
        let because = "its path is not UTF-8".to_owned();
        StoreError::new(Kind::Unsuitable(because), format!("back up to {}", to.display()))
    })?;
    connection
        .execute("VACUUM INTO ?1", [text])
        .map_err(|error| StoreError::sqlite(format!("back up to {}", to.display()), error))?;
    sync(&partial)?;
    let head = verify_file(&partial)?.head;
    let path = to.join(format!("state-{}.db", head.0));
    rename(&partial, &path)?;
    folder::sync(to)?;
    for (_, old) in backups(to).into_iter().rev().skip(KEPT) {
        remove(&old)?;
    }
    Ok(path)
}

/// Checks a closed journal or a backup.
///
/// # Errors
/// [`Kind::Corrupt`] when it is not what was written.
pub fn verify_file(path: &Path) -> Result<Summary, StoreError> {
    check::walk(&schema::connect_reading(path)?)
}

/// The newest backup in `dir` that is whole.
#[must_use]
pub fn newest_good_backup(dir: &Path) -> Option<PathBuf> {
    let newest_first = backups(dir).into_iter().rev();
    newest_first.map(|(_, path)| path).find(|path| verify_file(path).is_ok())
}

/// The backups in `dir` by the row they end at, oldest first. Nothing if it cannot be read.
fn backups(dir: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = files
        .filter_map(|file| {
            let path = file.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let head = name.strip_prefix("state-")?.strip_suffix(".db")?.parse().ok()?;
            Some((head, path))
        })
        .collect();
    found.sort();
    found
}

/// Adds the newest good backup of `dir` to a corruption.
pub(crate) fn name_backup(mut error: StoreError, dir: &Path) -> StoreError {
    if let Kind::Corrupt { backup, .. } = &mut error.kind {
        *backup = newest_good_backup(&dir.join(BACKUPS));
    }
    error
}

/// Puts a backup in the place of the journal in `dir`; what was there is kept as `broken-<n>.db`.
///
/// `now_s` is the wall clock in seconds since 1970. It becomes the claimed epoch: executors may
/// have seen epochs that the backup does not know, and no number of starts reaches it, so the next
/// controller is above them all, also after a second restore of the same backup.
///
/// # Errors
/// [`Kind::Locked`] while a controller runs, [`Kind::Corrupt`] when the backup is not whole.
/// The journal is then as it was; after any other error, restore again.
pub fn restore(dir: &Path, backup: &Path, now_s: u64) -> Result<Summary, StoreError> {
    folder::prepare(dir)?;
    let _lock = Lock::take(dir)?;
    let known = verify_file(backup)?.epoch;
    let incoming = dir.join("restoring.db");
    remove(&incoming)?;
    fs::copy(backup, &incoming)
        .map_err(|error| StoreError::io(format!("copy {}", backup.display()), error))?;
    raise_epoch(&incoming, Epoch(now_s.max(known.0)))?;
    sync(&incoming)?;
    let summary = verify_file(&incoming)?;
    keep_broken(dir)?;
    rename(&incoming, &dir.join(FILE))?;
    folder::sync(dir)?;
    Ok(summary)
}

fn raise_epoch(path: &Path, epoch: Epoch) -> Result<(), StoreError> {
    let connection = Connection::open(path)
        .map_err(|error| StoreError::sqlite(format!("open {}", path.display()), error))?;
    set_fence(&connection, epoch)
}

/// Keeps what is there under another name. Until the backup takes its place the file also keeps its
/// own name, so that no crash leaves a folder that looks new; its log must go first, or it would be
/// replayed onto the backup.
fn keep_broken(dir: &Path) -> Result<(), StoreError> {
    let file = dir.join(FILE);
    if !file.exists() {
        return Ok(());
    }
    let broken = (1_u32..)
        .map(|n| dir.join(format!("broken-{n}.db")))
        .find(|path| !path.exists())
        .expect("a folder holds fewer files than there are numbers");
    fs::hard_link(&file, &broken)
        .map_err(|error| StoreError::io(format!("keep {}", file.display()), error))?;
    let log = dir.join(format!("{FILE}-wal"));
    if log.exists() {
        rename(&log, &broken.with_extension("db-wal"))?;
    }
    folder::sync(dir)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::io(format!("sync {}", path.display()), error))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to)
        .map_err(|error| StoreError::io(format!("rename {}", from.display()), error))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(format!("remove {}", path.display()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
