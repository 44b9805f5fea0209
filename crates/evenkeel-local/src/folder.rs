//! The folder of one instance, and the names of everything in it.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{InstanceId, ServiceName};
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::spec::Spec;
use crate::status::{self, Status};

/// The files of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The shim's socket.
    pub(crate) socket: PathBuf,
    /// The socket on which the process says `READY=1`.
    pub(crate) notify: PathBuf,
}

impl Folder {
    /// Names only; touches nothing.
    pub(crate) fn new(home: &Path, instance: &InstanceId) -> Self {
        let socket = home.join(layout::shim_socket(instance));
        Self {
            path: home.join(layout::instance_dir(instance)),
            notify: socket.with_extension("note"),
            socket,
        }
    }

    /// Makes it, open to its owner only.
    pub(crate) fn create(&self) -> io::Result<()> {
        private_dir(&self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn spec(&self) -> io::Result<Spec> {
        read_json(&self.path.join("spec.json"))
    }

    pub(crate) fn write_spec(&self, spec: &Spec) -> io::Result<()> {
        write_json(&self.path.join("spec.json"), spec)
    }

    pub(crate) fn status_path(&self) -> PathBuf {
        self.path.join("status")
    }

    pub(crate) fn status(&self) -> io::Result<Status> {
        status::read(&self.status_path())
    }

    /// Copies of its configuration files.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    /// Its secrets, as files.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("out.log")
    }

    /// Where a shim's own last words go; made when there are any.
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.path.join("shim.log")
    }

    /// Waits until the folder and what lies in it would be found after a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let above = self.path.parent().unwrap_or(&self.path);
        File::open(&self.path)?.sync_all()?;
        File::open(above)?.sync_all()
    }

    /// Takes the lock that makes its holder the one shim of this instance. `None` while another
    /// process holds it. It is free again when the holder ends, however it ends.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = File::open(&self.path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes a folder, and those above it, open to their owner only.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// Replaces the whole file at once: a reader sees the old or the new text, never a part.
fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_vec(value).map_err(io::Error::other)?;
    let next = path.with_extension("json.next");
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
    file.write_all(&text)?;
    fs::rename(next, path)
}

/// Removes a file that may be absent.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What lies in a folder that may be absent.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    Ok(listed.into_iter().flatten())
}

/// What lies in a folder that may be absent, and has not been touched for `age`.
pub(crate) fn untouched(
    folder: &Path,
    age: Duration,
) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let if_old = move |entry: io::Result<DirEntry>| {
        let entry = entry?;
        let touched = entry.metadata()?.modified()?;
        Ok((touched.elapsed().unwrap_or_default() >= age).then_some(entry))
    };
    Ok(entries(folder)?.filter_map(move |entry| if_old(entry).transpose()))
}

/// The instances that have a folder.
pub(crate) fn instances(home: &Path) -> io::Result<Vec<InstanceId>> {
    let mut found = Vec::new();
    for entry in entries(&home.join(layout::INSTANCES))? {
        // A name that is no instance's was not put there by us, and is left alone.
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    found.sort();
    Ok(found)
}

/// One log file of one instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogFile {
    /// Whose output it is.
    pub instance: InstanceId,
    /// The file; the older half, where there is one, has the same path with `.1` after it and is
    /// listed before.
    pub path: PathBuf,
}

/// The log files of `service`, or of all services: those of an instance together, older first.
///
/// # Errors
/// When the instances' folder cannot be read.
pub fn log_files(home: &Path, service: Option<&ServiceName>) -> io::Result<Vec<LogFile>> {
    let wanted = |id: &InstanceId| service.is_none_or(|service| id.pool.service == *service);
    let files = instances(home)?.into_iter().filter(wanted).flat_map(|instance| {
        let log = Folder::new(home, &instance).log();
        let older = crate::log::older(&log);
        [older, log]
            .into_iter()
            .filter(|path| path.exists())
            .map(move |path| LogFile { instance: instance.clone(), path })
    });
    Ok(files.collect())
}
