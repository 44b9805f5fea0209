//! Files that revisions name, kept by content.
//!
//! A revision names its program by digest, but it lies somewhere on the disk where the next build
//! overwrites it. A copy is kept, so that an old revision always starts as itself.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Digest;
use sha2::Digest as _;

use crate::folder::{private_dir, untouched};
use crate::process::unique_id;

/// Folder of what was found out about files, below that of the copies.
const MEMOS: &str = "known";
/// How much is read at a time.
const PIECE: usize = 64 * 1024;

/// Digests the file at `path` and keeps a copy of it below `home`, unless it is kept already.
///
/// # Errors
/// When the file cannot be read, or the copy not be written.
pub fn pin(home: &Path, path: &Path) -> io::Result<Digest> {
    let mut from = File::open(path)?;
    let meta = from.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let folder = home.join(layout::ARTIFACTS);
    private_dir(&folder)?;
    let memo = Memo::of(&folder, path, &meta);
    if let Some(digest) = memo.read().filter(|digest| kept_path(home, path, digest).is_file()) {
        // The content is the same, so only its folder is touched: it is wanted again.
        let kept = kept_path(home, path, &digest);
        File::open(kept.parent().unwrap_or(&folder))?.set_modified(SystemTime::now())?;
        return Ok(digest);
    }
    // Digested while it is copied: whatever happens to the original meanwhile, the copy has the
    // content that the digest names.
    let part = folder.join(format!("{}.part", unique_id()?));
    let result = copy(&mut from, &part, &meta).and_then(|digest| {
        let kept = kept_path(home, path, &digest);
        match fs::metadata(&kept) {
            Ok(old) if old.len() == fs::metadata(&part)?.len() => {
                // The same content again, maybe built again: the copy takes the newest time.
                File::open(&kept)?.set_modified(meta.modified()?)?;
            }
            Ok(_) | Err(_) => {
                private_dir(kept.parent().unwrap_or(&folder))?;
                fs::rename(&part, &kept)?;
            }
        }
        Ok(digest)
    });
    crate::folder::remove_file(&part)?;
    if let Ok(digest) = &result {
        memo.write(digest)?;
    }
    result
}

/// Digests the file at `path` as [`pin`] does, and writes nothing.
///
/// # Errors
/// When the file cannot be read.
pub fn digest(home: &Path, path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    match Memo::of(&home.join(layout::ARTIFACTS), path, &meta).read() {
        Some(digest) => Ok(digest),
        None => hash(&mut file, |_| Ok(())),
    }
}

/// What was found out about a file, for as long as nothing has changed it: digesting a large
/// program takes seconds.
struct Memo {
    file: PathBuf,
    /// Device, number, length, and times of the file.
    seen: String,
}

impl Memo {
    fn of(folder: &Path, path: &Path, meta: &fs::Metadata) -> Self {
        let name = Digest::of(path.as_os_str().as_encoded_bytes());
        let times = format!(
            "{}.{:09} {}.{:09}",
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        Self {
            file: folder.join(MEMOS).join(name.hex()),
            seen: format!("{} {} {} {times}", meta.dev(), meta.ino(), meta.len()),
        }
    }

    fn read(&self) -> Option<Digest> {
        let text = fs::read_to_string(&self.file).ok()?;
        let (digest, seen) = text.split_once(' ')?;
        if seen == self.seen { from_hex(digest) } else { None }
    }

    fn write(&self, digest: &Digest) -> io::Result<()> {
        private_dir(self.file.parent().unwrap_or(Path::new("/")))?;
        fs::write(&self.file, format!("{} {}", digest.hex(), self.seen))
    }
}

fn copy(from: &mut File, part: &Path, meta: &fs::Metadata) -> io::Result<Digest> {
    let mut to = File::create_new(part)?;
    let digest = hash(from, |piece| to.write_all(piece))?;
    to.set_permissions(meta.permissions())?;
    to.set_modified(meta.modified()?)?;
    to.sync_all()?;
    Ok(digest)
}

fn hash(from: &mut File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece)?;
        let read = piece.get(..length).unwrap_or_default();
        if read.is_empty() {
            return Ok(Digest::from_sha256(&hasher.finalize()));
        }
        hasher.update(read);
        each(read)?;
    }
}

fn kept_path(home: &Path, path: &Path, digest: &Digest) -> PathBuf {
    let name = path.file_name().unwrap_or("file".as_ref());
    home.join(layout::ARTIFACTS).join(digest.hex()).join(name)
}

/// A digest written as 64 hexadecimal digits.
fn from_hex(hex: &str) -> Option<Digest> {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes.filter(|bytes| bytes.len() == 32).map(|bytes| Digest::from_sha256(&bytes))
}

/// Removes the copies that are not in `keep`, and what an interrupted [`pin`] left behind, unless
/// they are younger than `age`: those may belong to a change that is being handed in just now.
///
/// # Errors
/// When the folder cannot be read or a copy not be removed.
pub fn sweep(home: &Path, keep: &BTreeSet<Digest>, age: Duration) -> io::Result<()> {
    let kept: BTreeSet<&str> = keep.iter().map(Digest::hex).collect();
    for entry in untouched(&home.join(layout::ARTIFACTS), age)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.ends_with(".part") {
            fs::remove_file(entry.path())?;
        } else if name.len() == 64 && !kept.contains(name) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The path under which the content `digest` can be found now: where the revision named it, as
/// long as it is unchanged there, else the copy. The error says what to do.
pub(crate) fn locate(home: &Path, path: &Path, digest: &Digest) -> Result<PathBuf, String> {
    let kept = kept_path(home, path, digest);
    let there = fs::metadata(path).ok();
    let Ok(copy) = fs::metadata(&kept) else {
        let same = there.is_some()
            && File::open(path)
                .and_then(|mut file| hash(&mut file, |_| Ok(())))
                .is_ok_and(|now| now == *digest);
        return match same {
            true => Ok(path.to_owned()),
            false => Err(format!(
                "{} is not what this revision was made of ({digest}), and the copy that was kept \
                 is gone; put the file back, or apply again for a new revision",
                path.display()
            )),
        };
    };
    let unchanged = there.is_some_and(|there| {
        there.len() == copy.len() && there.modified().ok() == copy.modified().ok()
    });
    Ok(if unchanged { path.to_owned() } else { kept })
}

/// The same path without `.` and `..`, by its text alone.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_is_digested_once() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("web");
        fs::write(&file, "one").unwrap();
        let one = pin(home.path(), &file).unwrap();
        let memo =
            Memo::of(&home.path().join(layout::ARTIFACTS), &file, &fs::metadata(&file).unwrap());
        assert_eq!(memo.read(), Some(one.clone()));
        assert_eq!(pin(home.path(), &file).unwrap(), one);
        fs::write(&file, "two").unwrap();
        assert_ne!(pin(home.path(), &file).unwrap(), one);
        // A memo without its copy is worth nothing.
        sweep(home.path(), &BTreeSet::new(), Duration::ZERO).unwrap();
        let two = pin(home.path(), &file).unwrap();
        assert!(kept_path(home.path(), &file, &two).is_file());
    }

    #[test]
    fn looking_at_a_file_tells_its_digest_and_writes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("web");
        fs::write(&file, "one").unwrap();
        assert_eq!(digest(home.path(), &file).unwrap(), Digest::of(b"one"));
        let left: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(pin(home.path(), &file).unwrap(), digest(home.path(), &file).unwrap());
        fs::write(&file, "two!").unwrap();
        assert_eq!(digest(home.path(), &file).unwrap(), Digest::of(b"two!"));
    }

    #[test]
    fn s15_content_is_kept_once_and_found_after_it_was_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("web");
        fs::write(&program, "one").unwrap();
        let one = pin(home.path(), &program).unwrap();
        assert_eq!(one, Digest::of(b"one"));
        assert_eq!(pin(home.path(), &program).unwrap(), one);
        assert_eq!(locate(home.path(), &program, &one).unwrap(), program);

        fs::write(&program, "two!").unwrap();
        let kept = locate(home.path(), &program, &one).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"one");
        assert_eq!(kept.file_name(), program.file_name());

        let two = pin(home.path(), &program).unwrap();
        sweep(home.path(), &BTreeSet::from([two.clone()]), Duration::ZERO).unwrap();
        assert_eq!(locate(home.path(), &program, &two).unwrap(), program);
        let reason = locate(home.path(), &program, &one).unwrap_err();
        assert!(reason.contains("apply again"), "{reason}");
        let left = fs::read_dir(home.path().join(layout::ARTIFACTS)).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.iter().filter(|name| *name != MEMOS).count(), 1, "{left:?}");
    }

    #[test]
    fn without_a_copy_the_original_is_believed_by_content() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("web");
        fs::write(&program, "one").unwrap();
        assert_eq!(locate(home.path(), &program, &Digest::of(b"one")).unwrap(), program);
        assert!(locate(home.path(), &program, &Digest::of(b"two")).is_err());
    }

    #[test]
    fn paths_are_made_plain_by_their_text() {
        assert_eq!(plain(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
