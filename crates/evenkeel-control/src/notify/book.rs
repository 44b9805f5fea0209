//! How far one receiver is, durably: a small file that is replaced as a whole.
//!
//! It is written after an event was taken, so a death in between tells that event once more: each
//! event is told at least once.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::ReceiverName;
use serde::{Deserialize, Serialize};

/// What is known of one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    /// Every row of the journal up to this one is settled.
    pub(crate) after: u64,
    /// When it took something last.
    pub(crate) taken_ms: Option<u64>,
    /// Since it took something last, nothing but this.
    pub(crate) failing: Option<Failing>,
    /// Events that it never took and that were given up.
    pub(crate) given_up: u64,
}

/// Tries that failed one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failing {
    /// When the first of them failed.
    pub(crate) since_ms: u64,
    /// When the last of them did.
    pub(crate) last_ms: u64,
    /// Why that one did.
    pub(crate) error: String,
    /// How many there were.
    pub(crate) tries: u32,
}

impl Book {
    /// One that begins after this row.
    pub(crate) fn beginning(after: u64) -> Self {
        Self { after, ..Self::default() }
    }

    /// Something was taken; the row, if it was one.
    pub(crate) fn taken(&mut self, seq: Option<u64>, now_ms: u64) {
        self.after = self.after.max(seq.unwrap_or(0));
        self.taken_ms = Some(now_ms);
        self.failing = None;
    }

    /// A try failed.
    pub(crate) fn failed(&mut self, error: String, now_ms: u64) {
        let before = self.failing.take();
        self.failing = Some(Failing {
            since_ms: before.as_ref().map_or(now_ms, |it| it.since_ms),
            last_ms: now_ms,
            error,
            tries: before.map_or(0, |it| it.tries).saturating_add(1),
        });
    }

    /// Reads it; none where there is none.
    pub(crate) fn load(home: &Path, name: &ReceiverName) -> io::Result<Option<Self>> {
        match fs::read(path(home, name)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what is kept; durable when this returns.
    pub(crate) fn save(&self, home: &Path, name: &ReceiverName) -> io::Result<()> {
        let folder = home.join(layout::NOTIFY);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = path(home, name);
        // No name of a receiver has a dot in it.
        let part = path.with_extension("part");
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(part, path)?;
        File::open(folder)?.sync_all()
    }

    /// Forgets a receiver that is gone.
    pub(crate) fn forget(home: &Path, name: &ReceiverName) -> io::Result<()> {
        match fs::remove_file(path(home, name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The receivers that something is kept of.
    pub(crate) fn names(home: &Path) -> Vec<ReceiverName> {
        let entries = fs::read_dir(home.join(layout::NOTIFY)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).collect()
    }
}

fn path(home: &Path, name: &ReceiverName) -> PathBuf {
    home.join(layout::NOTIFY).join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_kept_and_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let (home, name) = (home.path(), "ops".parse().unwrap());
        assert_eq!(Book::load(home, &name).unwrap(), None);
        let mut book = Book::beginning(7);
        book.failed("no".to_owned(), 10);
        book.failed("still no".to_owned(), 20);
        book.save(home, &name).unwrap();
        assert_eq!(Book::load(home, &name).unwrap(), Some(book.clone()));
        assert_eq!(Book::names(home), std::slice::from_ref(&name));
        let failing = book.failing.clone().unwrap();
        assert_eq!((failing.since_ms, failing.last_ms, failing.tries), (10, 20, 2));
        book.taken(Some(8), 30);
        book.taken(None, 40);
        assert_eq!(book, Book { after: 8, taken_ms: Some(40), ..Book::default() });
        Book::forget(home, &name).unwrap();
        assert_eq!(Book::load(home, &name).unwrap(), None);
    }
}
