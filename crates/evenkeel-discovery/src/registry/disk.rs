//! What is registered, on disk: one file each, named by a digest of its id.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Digest;
use serde::{Deserialize, Serialize};

use super::entry::{External, Status};

/// The version of the files' format.
const VERSION: u32 = 1;

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    pub(super) service: External,
    /// What was known last, by test.
    pub(super) statuses: Vec<Status>,
}

impl Kept {
    pub(super) fn new(service: External, statuses: Vec<Status>) -> Self {
        Self { version: VERSION, service, statuses }
    }
}

fn folder(home: &Path) -> PathBuf {
    home.join(layout::REGISTERED)
}

fn path(home: &Path, id: &str) -> PathBuf {
    folder(home).join(format!("{}.json", Digest::of(id.as_bytes()).hex()))
}

/// Writes one, so that a crash leaves either the old or the new.
pub(super) fn write(home: &Path, kept: &Kept) -> io::Result<()> {
    let path = path(home, &kept.service.id);
    fs::create_dir_all(folder(home))?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_data()?;
    fs::rename(&temporary, path)
}

/// Takes one away.
pub(super) fn remove(home: &Path, id: &str) -> io::Result<()> {
    match fs::remove_file(path(home, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// When something was written or taken away last.
pub(super) fn touched(home: &Path) -> Option<SystemTime> {
    fs::metadata(folder(home)).ok()?.modified().ok()
}

/// All of them. A file that cannot be read is left out; so are those beyond `most`.
pub(super) fn read(home: &Path, most: usize) -> Vec<Kept> {
    let Ok(entries) = fs::read_dir(folder(home)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort();
    let read = |path: &PathBuf| serde_json::from_slice::<Kept>(&fs::read(path).ok()?).ok();
    let kept = paths.iter().filter_map(read).filter(|it| it.version == VERSION);
    kept.take(most).collect()
}
