//! The start of one process: what exactly is run, and in which surroundings.
//!
//! No shell is ever involved. What stands in the way of a start is said so that a person knows
//! what to do.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit};

use crate::artifact;
use crate::spec::Spec;

/// Where programs are looked for when the instance has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is run, with every file found.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<PathBuf>,
}

impl Program {
    /// Finds everything that `run` names. The error is a reason for people.
    pub(crate) fn find(home: &Path, spec: &Spec, run: &[String]) -> Result<Self, String> {
        if !spec.dir().is_dir() {
            return Err(format!(
                "its working folder {} does not exist; create it, or change `dir`",
                spec.dir
            ));
        }
        let Some((name, args)) = run.split_first() else {
            return Err("`run` is empty; name a program".to_owned());
        };
        let path = Self::find_program(home, spec, name)?;
        let args = args
            .iter()
            .map(|arg| Ok(pinned(home, spec, arg)?.unwrap_or_else(|| PathBuf::from(arg))))
            .collect::<Result<_, String>>()?;
        Ok(Self { path, args })
    }

    fn find_program(home: &Path, spec: &Spec, name: &str) -> Result<PathBuf, String> {
        let is_program = |path: &Path| {
            path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
        };
        let path = if name.contains('/') {
            pinned(home, spec, name)?.unwrap_or_else(|| spec.dir().join(name))
        } else {
            let places = spec.env.get("PATH").map_or(PATH_DEFAULT, String::as_str);
            let found = std::env::split_paths(places)
                .map(|place| spec.dir().join(place).join(name))
                .find(|path| is_program(path));
            // The program may be gone from where it was found when its revision was made.
            let named = |path: &&String| Path::new(path).file_name() == Some(name.as_ref());
            match (found, spec.files.keys().find(named)) {
                (Some(path), _) => pinned(home, spec, &path.to_string_lossy())?.unwrap_or(path),
                (None, Some(known)) => pinned(home, spec, known)?.unwrap_or_default(),
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

    /// The command in the instance's folder and environment, with nothing inherited.
    pub(crate) fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(&spec.dir).env_clear().envs(&spec.env);
        command.stdin(Stdio::null());
        command
    }
}

/// Where the pinned content of `text` lies now, if `text` names a pinned file.
fn pinned(home: &Path, spec: &Spec, text: &str) -> Result<Option<PathBuf>, String> {
    let path = artifact::plain(&spec.dir().join(text));
    let digest = path.to_str().and_then(|path| spec.files.get(path));
    digest.map(|digest| artifact::locate(home, &path, digest)).transpose()
}

/// Starts `command` as the leader of a session of its own. Returns its pid; reaping it is the
/// caller's.
pub(crate) fn spawn(
    mut command: Command,
    cgroup_door: Option<File>,
    files_max: Option<u64>,
) -> io::Result<u32> {
    let shim = rustix::process::getpid();
    let in_child = move || {
        rustix::process::setsid()?;
        rustix::thread::set_no_new_privs(true)?;
        if let Some(door) = &cgroup_door {
            // Outside of the cgroup it is still found by its session and its marker.
            let _best_effort = rustix::io::write(door, b"0");
        }
        if let Some(files) = files_max {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        // A shim that was killed just now has told nobody of this process: then it must not be.
        match rustix::process::getppid() == Some(shim) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: the closure runs between fork and exec in a process with one thread. It makes only
    // direct system calls (setsid, prctl, write, prlimit, getppid), all async-signal-safe; it
    // takes no lock, and allocates nothing: its errors are plain numbers.
    #[expect(unsafe_code, reason = "the session must be made between fork and exec")]
    unsafe {
        command.pre_exec(in_child);
    }
    // The handle is dropped without waiting: the shim reaps all its children in one place.
    command.spawn().map(|child| child.id())
}
