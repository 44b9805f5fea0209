//! The start of one process: what exactly is run, and in which surroundings.
//!
//! No shell is ever involved. What stands in the way of a start is said so that a person knows
//! what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_kernel::model::{Digest, Workload};
use rustix::process::{Pid, Resource, Rlimit};

use crate::artifact;
use crate::cgroup::Leaf;
use crate::fork::spawn_into;
use crate::spec::Spec;

/// Where programs are looked for when the instance has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where a command is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The home folder, where copies of pinned files lie.
    pub(crate) home: &'a Path,
    /// The working folder.
    pub(crate) dir: &'a Path,
    /// The folders in which programs are looked for, as in `PATH`.
    pub(crate) path: Option<&'a str>,
    /// Pinned files by absolute path.
    pub(crate) files: &'a BTreeMap<String, Digest>,
}

/// Why a command cannot be run where it is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The working folder, and what is wrong with it.
    Folder(String),
    /// The program, and what is wrong with it.
    Program(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(reason) | Self::Program(reason) => f.write_str(reason),
        }
    }
}

/// Looks whether `run`, a command of `workload`, could be run on this machine now.
///
/// # Errors
/// What stands in its way.
pub fn look(home: &Path, workload: &Workload, run: &[String]) -> Result<(), Obstacle> {
    let ours = std::env::var("PATH").ok();
    let path = workload.env.get("PATH").or(ours.as_ref());
    let place = Place {
        home,
        dir: Path::new(&workload.dir),
        path: path.map(String::as_str),
        files: &workload.files,
    };
    Program::find(place, run).map(drop)
}

/// What is run, with every file found.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<PathBuf>,
}

impl Program {
    /// Finds everything that `run` names.
    pub(crate) fn find(place: Place<'_>, run: &[String]) -> Result<Self, Obstacle> {
        if !place.dir.is_dir() {
            return Err(Obstacle::Folder(format!(
                "its working folder {} does not exist; create it, or change `dir`",
                place.dir.display()
            )));
        }
        let found = || {
            let (name, args) =
                run.split_first().ok_or_else(|| "`run` is empty; name a program".to_owned())?;
            let path = place.program(name)?;
            let args = args
                .iter()
                .map(|arg| Ok(place.pinned(arg)?.unwrap_or_else(|| PathBuf::from(arg))))
                .collect::<Result<_, String>>()?;
            Ok(Self { path, args })
        };
        found().map_err(Obstacle::Program)
    }

    /// The command in the instance's folder and environment, with nothing inherited.
    pub(crate) fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(&spec.dir).env_clear().envs(&spec.env);
        command.stdin(Stdio::null());
        command
    }
}

impl Place<'_> {
    fn program(self, name: &str) -> Result<PathBuf, String> {
        let is_program = |path: &Path| {
            path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
        };
        let path = if name.contains('/') {
            self.pinned(name)?.unwrap_or_else(|| self.dir.join(name))
        } else {
            let places = self.path.unwrap_or(PATH_DEFAULT);
            let found = std::env::split_paths(places)
                .map(|folder| self.dir.join(folder).join(name))
                .find(|path| is_program(path));
            // The program may be gone from where it was found when its revision was made.
            let named = |path: &&String| Path::new(path).file_name() == Some(name.as_ref());
            match (found, self.files.keys().find(named)) {
                (Some(path), _) => self.pinned(&path.to_string_lossy())?.unwrap_or(path),
                (None, Some(known)) => self.pinned(known)?.unwrap_or_default(),
                (None, None) => {
                    return Err(format!("`{name}` is in no folder of its PATH ({places})"));
                }
            }
        };
        match (is_program(&path), path.exists()) {
            (true, _) => Ok(path),
            (false, true) => Err(format!("{} may not be executed; try `chmod +x`", path.display())),
            (false, false) => Err(format!("{} does not exist", path.display())),
        }
    }

    /// Where the pinned content of `text` lies now, if `text` names a pinned file.
    fn pinned(self, text: &str) -> Result<Option<PathBuf>, String> {
        let path = artifact::plain(&self.dir.join(text));
        let digest = path.to_str().and_then(|path| self.files.get(path));
        digest.map(|digest| artifact::locate(self.home, &path, digest)).transpose()
    }
}

/// Starts `command` as the leader of a session of its own, in a cgroup of its own if there is one.
/// Returns its pid; reaping it is the caller's.
pub(crate) fn spawn(
    mut command: Command,
    leaf: Option<&Leaf>,
    files_max: Option<u64>,
) -> io::Result<u32> {
    lead(&mut command, files_max);
    if let Some(leaf) = leaf {
        if let Some(pid) = spawn_into(leaf.folder()?.as_fd(), &mut command)? {
            return Ok(pid);
        }
        join(&mut command, leaf.door()?);
    }
    // The handle is dropped without waiting: the shim reaps all its children in one place.
    command.spawn().map(|child| child.id())
}

/// Fails in a process whose parent is not `parent` any more. One direct system call, so that it can
/// be made between fork and exec.
pub(crate) fn still_of(parent: Pid) -> io::Result<()> {
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Makes `command` lead a session of its own.
fn lead(command: &mut Command, files_max: Option<u64>) {
    let shim = rustix::process::getpid();
    let in_child = move || {
        rustix::process::setsid()?;
        rustix::thread::set_no_new_privs(true)?;
        if let Some(files) = files_max {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        // A shim that was killed just now has told nobody of this process: then it must not be.
        still_of(shim)
    };
    // SAFETY: the closure runs between fork and exec in a process with one thread. It makes only
    // direct system calls (setsid, prctl, prlimit, getppid), all async-signal-safe; it takes no
    // lock, and allocates nothing: its errors are plain numbers.
    #[expect(unsafe_code, reason = "the session must be made between fork and exec")]
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Has `command` move itself into a cgroup.
fn join(command: &mut Command, door: File) {
    let in_child = move || {
        // Outside of the cgroup it is still found by its session and its marker.
        let _best_effort = rustix::io::write(&door, b"0");
        Ok(())
    };
    // SAFETY: as in `lead`; the closure makes one system call, write.
    #[expect(unsafe_code, reason = "only the child can move itself before its program runs")]
    unsafe {
        command.pre_exec(in_child);
    }
}
