//! Secrets that revisions name, kept by content.
//!
//! A revision knows a secret only by a digest that is made with a key of this home: who reads the
//! journal or a plan cannot try out guesses against it. The content lies in a folder that only its
//! owner can read, as long as a kept revision needs it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{Digest, SecretSource};

use crate::folder::{private_dir, untouched};
use crate::process::unique_id;

/// The largest secret: systemd's bound for a credential.
const SECRET_MAX: u64 = 1 << 20;
/// Names the file with the key by which `age` opens what is encrypted.
const IDENTITY: &str = "EVENKEEL_AGE_IDENTITY";
/// The key of this home's digests.
const KEY: &str = "key";
/// Random bytes in it.
const KEY_BYTES: usize = 32;

/// Reads a secret where it comes from, and keeps it below `home`.
///
/// # Errors
/// Why it could not be read or kept: a fragment for people, never with anything of its content.
pub fn keep(home: &Path, from: &SecretSource) -> Result<Digest, String> {
    let content = fetched(from)?;
    store(home, &content).map_err(|error| format!("it could not be kept: {error}"))
}

/// Reads a secret and says by which digest it would be known, without writing anything. Where this
/// home has no key yet, nothing is released that could be the same, and any digest will do.
///
/// # Errors
/// As [`keep`].
pub fn look(home: &Path, from: &SecretSource) -> Result<Digest, String> {
    let content = fetched(from)?;
    let mut keyed = match fs::read(home.join(layout::SECRETS).join(KEY)) {
        Ok(key) => key,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            random().map_err(|error| format!("no key could be drawn for it: {error}"))?
        }
        Err(error) => return Err(format!("the key of this home could not be read: {error}")),
    };
    keyed.extend_from_slice(&content);
    Ok(Digest::of(&keyed))
}

/// Reads a secret that is text, without keeping it.
///
/// # Errors
/// As [`keep`].
pub fn read_text(from: &SecretSource) -> Result<String, String> {
    String::from_utf8(fetched(from)?).map_err(|_private| "it is not UTF-8 text".to_owned())
}

fn fetched(from: &SecretSource) -> Result<Vec<u8>, String> {
    let content = match from {
        SecretSource::Env(name) => std::env::var_os(name)
            .map(|value| value.as_encoded_bytes().to_vec())
            .ok_or_else(|| "the variable is not set".to_owned())?,
        SecretSource::File(path) => read(Path::new(path)).map_err(|error| error.to_string())?,
        SecretSource::Age(path) => decrypted(Path::new(path))?,
    };
    if content.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(content)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(SECRET_MAX + 1).read_to_end(&mut content)?;
    match content.len() as u64 > SECRET_MAX {
        true => Err(io::Error::other(format!("it has more than {SECRET_MAX} bytes"))),
        false => Ok(content),
    }
}

/// Has `age` open a file. Neither the key nor the content is ever among its arguments.
fn decrypted(path: &Path) -> Result<Vec<u8>, String> {
    let identity = std::env::var_os(IDENTITY)
        .ok_or_else(|| format!("${IDENTITY} does not name the file with the key"))?;
    let output = Command::new("age")
        .arg("--decrypt")
        .arg("--identity")
        .arg(identity)
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`age` could not be run: {error}"))?;
    match output.status.success() {
        true if output.stdout.len() as u64 > SECRET_MAX => {
            Err(format!("it has more than {SECRET_MAX} bytes"))
        }
        true => Ok(output.stdout),
        false => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(words.lines().next().unwrap_or("`age` could not open it").to_owned())
        }
    }
}

fn store(home: &Path, content: &[u8]) -> io::Result<Digest> {
    let folder = home.join(layout::SECRETS);
    private_dir(&folder)?;
    let mut keyed = key(&folder)?;
    keyed.extend_from_slice(content);
    let digest = Digest::of(&keyed);
    let kept = kept_path(home, &digest);
    if kept.exists() {
        // It is wanted again.
        fs::File::open(&kept)?.set_modified(std::time::SystemTime::now())?;
        return Ok(digest);
    }
    let part = folder.join(format!("{}.part", unique_id()?));
    write_secret(&part, content)?;
    fs::rename(part, kept)?;
    Ok(digest)
}

/// The key of this home, made when it is first needed.
fn key(folder: &Path) -> io::Result<Vec<u8>> {
    let path = folder.join(KEY);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let random = random()?;
    let part = folder.join(format!("{}.part", unique_id()?));
    write_secret(&part, &random)?;
    // Whoever is first has made it.
    let made = fs::hard_link(&part, &path);
    fs::remove_file(&part)?;
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => fs::read(path),
    }
}

fn random() -> io::Result<Vec<u8>> {
    let mut random = vec![0; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}

fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o400).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn kept_path(home: &Path, digest: &Digest) -> PathBuf {
    home.join(layout::SECRETS).join(digest.hex())
}

/// The content that is known by `digest`.
///
/// # Errors
/// Why it cannot be had, and what to do.
pub fn content(home: &Path, name: &str, digest: &Digest) -> Result<Vec<u8>, String> {
    fs::read(kept_path(home, digest)).map_err(|error| {
        format!("the secret {name} is not kept any more ({error}); apply again for a new revision")
    })
}

/// Hands a secret to an instance as a file of its own.
pub(crate) fn deliver(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    crate::folder::remove_file(&path)?;
    write_secret(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400))
}

/// Removes the secrets that are not in `keep`, unless they are younger than `age`: those may belong
/// to a change that is being handed in just now.
///
/// # Errors
/// When the folder cannot be read or a secret not be removed.
pub fn sweep(home: &Path, keep: &BTreeSet<Digest>, age: Duration) -> io::Result<()> {
    let kept: BTreeSet<&str> = keep.iter().map(Digest::hex).collect();
    for entry in untouched(&home.join(layout::SECRETS), age)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name != KEY && !kept.contains(name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_at_a_secret_tells_its_digest_and_writes_nothing() {
        let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = folder.path().join("key.txt");
        fs::write(&file, "hunter2").unwrap();
        let from = SecretSource::File(file.to_str().unwrap().to_owned());
        let first = look(home.path(), &from).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        assert_ne!(first, Digest::of(b"hunter2"), "it could be guessed at");
        let kept = keep(home.path(), &from).unwrap();
        assert_eq!(look(home.path(), &from).unwrap(), kept);
    }

    #[test]
    fn a_secret_is_kept_by_a_digest_that_no_other_home_makes() {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let file = homes[0].path().join("key.txt");
        fs::write(&file, "hunter2").unwrap();
        let from = SecretSource::File(file.to_str().unwrap().to_owned());
        let [one, other] = homes.each_ref().map(|home| keep(home.path(), &from).unwrap());
        assert_ne!(one, other);
        assert_ne!(one, Digest::of(b"hunter2"));
        let home = homes[0].path();
        assert_eq!(keep(home, &from).unwrap(), one);
        assert_eq!(content(home, "KEY", &one).unwrap(), b"hunter2");
        let mode = fs::metadata(kept_path(home, &one)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);

        fs::write(&file, "hunter3").unwrap();
        let two = keep(home, &from).unwrap();
        assert_ne!(two, one);
        sweep(home, &BTreeSet::new(), Duration::from_secs(3600)).unwrap();
        assert_eq!(content(home, "KEY", &one).unwrap(), b"hunter2", "too young to go");
        sweep(home, &BTreeSet::from([two.clone()]), Duration::ZERO).unwrap();
        assert!(content(home, "KEY", &one).unwrap_err().contains("apply again"));
        assert_eq!(content(home, "KEY", &two).unwrap(), b"hunter3");
        assert_eq!(keep(home, &from).unwrap(), two, "the key of the home is kept");
    }

    #[test]
    fn s40_what_cannot_be_read_is_said_without_its_content() {
        let home = tempfile::tempdir().unwrap();
        let wrong = |from: SecretSource| keep(home.path(), &from).unwrap_err();
        assert_eq!(wrong(SecretSource::Env("NO_SUCH_VARIABLE".into())), "the variable is not set");
        let file = home.path().join("empty");
        fs::write(&file, "").unwrap();
        assert_eq!(wrong(SecretSource::File(file.to_str().unwrap().into())), "it is empty");
        assert!(wrong(SecretSource::File("/no/such/file".into())).contains("No such file"));
    }
}
