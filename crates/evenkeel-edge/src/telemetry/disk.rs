//! The thread that writes the access log.
//!
//! Another edge may write the same file for a while, and somebody else may put it aside: before each
//! batch it is looked whether the file at the path is still the one that is open. Lines are appended
//! whole, so those of two edges do not mix.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::AccessLog;
use rustix::fs::{FlockOperation, flock};

use crate::limits::{LINES_BATCH, LINES_QUEUE};
use crate::log;
use crate::shared::Shared;

/// How long lines are gathered before they are written together: the first of them wakes the
/// thread, and the others need not.
const GATHER: Duration = Duration::from_millis(50);
/// Between two tries to open a file that cannot be opened. What comes meanwhile is dropped.
const RETRY: Duration = Duration::from_secs(1);
/// The file below the home folder where none is named.
const FILE: &str = "access.log";

/// Starts to write lines.
pub(super) fn start(
    shared: Arc<Shared>,
    wanted: &AccessLog,
) -> io::Result<(SyncSender<String>, JoinHandle<()>)> {
    let path = match &wanted.file {
        Some(file) => PathBuf::from(file),
        None => shared.home.join(layout::LOGS).join(FILE),
    };
    let (to, lines) = sync_channel(LINES_QUEUE);
    let (rotate, keep) = (wanted.rotate, wanted.keep);
    let book = Book { path, file: None, rotate, keep };
    let thread = thread::Builder::new().name("access-log".to_owned());
    let thread = thread.spawn(move || book.keep(&shared, &lines))?;
    Ok((to, thread))
}

/// The file, and the ones that are put aside.
struct Book {
    path: PathBuf,
    file: Option<File>,
    rotate: u64,
    keep: u32,
}

impl Book {
    /// Writes until nobody tells lines any more.
    fn keep(mut self, shared: &Shared, lines: &Receiver<String>) {
        let fate = &shared.telemetry.lines;
        let mut failed = false;
        while let Ok(first) = lines.recv() {
            thread::sleep(GATHER);
            let (mut batch, mut count) = (first, 1);
            while batch.len() < LINES_BATCH
                && let Ok(line) = lines.try_recv()
            {
                batch.push_str(&line);
                count += 1;
            }
            match self.write(batch.as_bytes()) {
                Ok(()) => {
                    fate.told(count);
                    failed = false;
                }
                Err(error) => {
                    fate.dropped(count);
                    self.file = None;
                    if !std::mem::replace(&mut failed, true) {
                        let path = self.path.display();
                        log::error(format_args!("could not write {path}: {error}"));
                    }
                    thread::sleep(RETRY);
                }
            }
        }
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        let mut file = self.current()?;
        file.write_all(batch)?;
        if file.metadata()?.len() >= self.rotate {
            self.rotate(&file)?;
        } else {
            self.file = Some(file);
        }
        Ok(())
    }

    /// The file at the path.
    fn current(&mut self) -> io::Result<File> {
        let there = fs::metadata(&self.path).ok().map(|it| (it.dev(), it.ino()));
        if let Some(file) = self.file.take() {
            let open = file.metadata()?;
            if there == Some((open.dev(), open.ino())) {
                return Ok(file);
            }
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }

    /// Puts the file aside, unless another edge has done so.
    fn rotate(&self, file: &File) -> io::Result<()> {
        flock(file, FlockOperation::LockExclusive)?;
        let (open, there) = (file.metadata()?, fs::metadata(&self.path)?);
        if (open.dev(), open.ino()) != (there.dev(), there.ino()) {
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.aside(number), self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.log");
        let book = || Book { path: path.clone(), file: None, rotate: 10, keep: 2 };
        let (mut one, mut other) = (book(), book());
        let read = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).ok();
        one.write(b"1234\n").unwrap();
        other.write(b"abcd\n").unwrap();
        assert_eq!(read("access.log.1").as_deref(), Some("1234\nabcd\n"));
        // The first notices that its file is another now.
        one.write(b"5678\n").unwrap();
        assert_eq!(read("access.log").as_deref(), Some("5678\n"));
        for _ in 0..2 {
            other.write(b"a longer line\n").unwrap();
        }
        assert_eq!(read("access.log.1").as_deref(), Some("a longer line\n"));
        assert_eq!(read("access.log.2").as_deref(), Some("5678\na longer line\n"));
        assert_eq!(read("access.log.3"), None);
        // Somebody else puts it aside.
        one.write(b"1\n").unwrap();
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        one.write(b"2\n").unwrap();
        assert_eq!(read("access.log").as_deref(), Some("2\n"));
    }
}
