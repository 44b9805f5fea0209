//! Short commands that control runs itself: they are bounded in time and output, and end with it.
//!
//! What must outlive control is an instance and has a shim. A hook is killed as soon as the thread
//! that waits for it is gone, so that a successor can run it again without meeting it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The last bytes of what a hook says that are kept.
const OUTPUT_MAX: usize = 16 << 10;
/// The longest time between two looks whether the hook is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Variables of control's own environment that its commands are given. The others may hold secrets
/// of whoever started control.
const GIVEN: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Those that are set.
pub fn given() -> impl Iterator<Item = (&'static str, OsString)> {
    GIVEN.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; no shell is involved.
    pub run: Vec<String>,
    /// The working folder.
    pub dir: PathBuf,
    /// Its environment, beside what is [`given`].
    pub env: BTreeMap<String, String>,
    /// What it reads on its standard input; what it leaves unread is dropped.
    pub stdin: Vec<u8>,
    /// How long it may take before it is killed with everything in its session's group.
    pub timeout: Duration,
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub how: How,
    /// The end of what it wrote to its standard output and error.
    pub output: String,
}

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// Killed, because it took too long.
    TookTooLong,
    /// Killed, because nobody wanted it any more.
    Unwanted,
}

/// Runs a hook and waits for its end, as long as `wanted` says so.
///
/// The thread that calls this must wait here until it returns: the kernel kills the hook when that
/// thread ends.
///
/// # Errors
/// When it could not be started: the folder or the program is not there, or may not be run.
pub fn run(hook: &Hook, wanted: &dyn Fn() -> bool) -> io::Result<Ended> {
    let (name, args) = hook.run.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let program = match name.contains('/') {
        true => hook.dir.join(name),
        false => PathBuf::from(name),
    };
    let mut command = Command::new(program);
    command.args(args).current_dir(&hook.dir);
    command.env_clear().envs(given()).envs(&hook.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    leash(&mut command);
    let mut child = command.spawn()?;
    let ended = watch(hook, &mut child, wanted);
    // Its whole group goes, also what it left in the background.
    kill_group(&child);
    let status = child.wait()?;
    let (stopped, output) = ended?;
    Ok(Ended { how: stopped.unwrap_or_else(|| how(status)), output })
}

/// Feeds it and listens to it until it ends or must end.
fn watch(
    hook: &Hook,
    child: &mut Child,
    wanted: &dyn Fn() -> bool,
) -> io::Result<(Option<How>, String)> {
    let until = Instant::now() + hook.timeout;
    let handle = rustix::process::pidfd_open(pid(child)?, PidfdFlags::empty())?;
    let mut feed = Feed::new(child.stdin.take(), &hook.stdin)?;
    let mut heard = Heard::new(child)?;
    let stopped = loop {
        if !wanted() {
            break Some(How::Unwanted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Some(How::TookTooLong);
        }
        if wait(&handle, &feed, &heard, left.min(LOOK))? {
            break None;
        }
        feed.write();
        heard.read();
    };
    heard.read();
    Ok((stopped, heard.text()))
}

/// Waits until there is something to do. Returns whether the process has ended.
fn wait(handle: &OwnedFd, feed: &Feed<'_>, heard: &Heard, most: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(most).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    let mut fds = vec![PollFd::new(handle, PollFlags::IN)];
    fds.extend(feed.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    fds.extend(heard.pipes.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) => Ok(fds.first().is_some_and(|it| !it.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is still to be written to its standard input.
struct Feed<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: Option<ChildStdin>, rest: &'a [u8]) -> io::Result<Self> {
        let pipe = pipe.filter(|_| !rest.is_empty());
        pipe.iter().try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe.as_fd(), true))?;
        Ok(Self { pipe, rest })
    }

    fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.rest) {
            Ok(count) => self.rest = self.rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // It does not read what it is told; its exit status says whether that matters.
            Err(_) => self.rest = &[],
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
    }
}

/// What it has said.
struct Heard {
    pipes: Vec<std::fs::File>,
    end: Vec<u8>,
}

impl Heard {
    fn new(child: &mut Child) -> io::Result<Self> {
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let pipes: Vec<std::fs::File> =
            stdout.into_iter().chain(stderr).map(std::fs::File::from).collect();
        pipes.iter().try_for_each(|pipe| rustix::io::ioctl_fionbio(pipe.as_fd(), true))?;
        Ok(Self { pipes, end: Vec::new() })
    }

    /// Reads what is there, as much as one pipe holds.
    fn read(&mut self) {
        let end = &mut self.end;
        self.pipes.retain_mut(|pipe| {
            let mut piece = [0; 64 << 10];
            match pipe.read(&mut piece) {
                Ok(0) => false,
                Ok(count) => {
                    end.extend_from_slice(piece.get(..count).unwrap_or_default());
                    true
                }
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        });
        let excess = end.len().saturating_sub(OUTPUT_MAX);
        end.drain(..excess);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.end).into_owned()
    }
}

/// Makes `command` lead a session of its own, which ends with the calling thread.
fn leash(command: &mut Command) {
    let control = rustix::process::getpid();
    let in_child = move || {
        rustix::process::setsid()?;
        rustix::thread::set_no_new_privs(true)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Whoever waits for it may have gone before the line above.
        match rustix::process::getppid() == Some(control) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: the closure runs between fork and exec in a process with one thread. It makes only
    // direct system calls (setsid, prctl, getppid), all async-signal-safe; it takes no lock, and
    // allocates nothing: its errors are plain numbers.
    #[expect(unsafe_code, reason = "the leash must be on before the program runs")]
    unsafe {
        command.pre_exec(in_child);
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound.into())
}

/// Kills what has not been reaped yet, so that its number still means it, and its group.
fn kill_group(child: &Child) {
    if let Ok(pid) = pid(child) {
        // All of it may have ended by now.
        let _best_effort = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

fn how(status: ExitStatus) -> How {
    match (status.code(), status.signal()) {
        (Some(code), _) => How::Exited(code),
        (None, signal) => How::Signalled(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout_ms: u64) -> Hook {
        Hook {
            run: ["sh", "-c", script].map(str::to_owned).to_vec(),
            dir: "/".into(),
            env: BTreeMap::from([("WORD".to_owned(), "spring".to_owned())]),
            stdin: b"from control".to_vec(),
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    #[test]
    fn a_hook_is_fed_heard_and_says_how_it_ended() {
        let ended = run(&hook("cat; echo \" and $WORD\" >&2; exit 7", 20_000), &|| true).unwrap();
        assert_eq!(ended.how, How::Exited(7));
        assert!(ended.output.contains("from control"), "{ended:?}");
        assert!(ended.output.contains("and spring"), "{ended:?}");
        let ended = run(&hook("kill -USR1 $$", 20_000), &|| true).unwrap();
        assert_eq!(ended.how, How::Signalled(10));
        assert!(run(&Hook { run: vec!["./nowhere".to_owned()], ..hook("", 1) }, &|| true).is_err());
    }

    #[test]
    fn a_hook_sees_nothing_of_controls_own_environment() {
        // Whatever runs this test sets some of its own.
        assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
        let ended = run(&hook("env", 20_000), &|| true).unwrap();
        let names = ended.output.lines().filter_map(|line| Some(line.split_once('=')?.0));
        // A shell adds these by itself.
        let own = ["PWD", "SHLVL", "_", "OLDPWD", "WORD"];
        let strange: Vec<&str> =
            names.filter(|name| !own.contains(name) && !GIVEN.contains(name)).collect();
        assert_eq!(strange, [""; 0]);
    }

    #[test]
    fn a_hook_that_takes_too_long_goes_with_all_it_started() {
        let ended = run(&hook("sleep 1000 & echo $!; wait", 500), &|| true).unwrap();
        assert_eq!(ended.how, How::TookTooLong);
        let started: i32 = ended.output.trim().parse().unwrap();
        let started = Pid::from_raw(started).unwrap();
        let gone = || match rustix::process::test_kill_process(started) {
            Err(error) => error == rustix::io::Errno::SRCH,
            // It may wait for whoever adopted it to notice.
            Ok(()) => std::fs::read_to_string(format!("/proc/{started}/stat"))
                .is_ok_and(|stat| stat.contains(") Z ")),
        };
        let until = Instant::now() + Duration::from_secs(20);
        while !gone() {
            assert!(Instant::now() < until, "it is still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hook_that_nobody_wants_any_more_ends_and_a_flood_is_cut() {
        let asked = std::cell::Cell::new(0);
        let wanted = || asked.replace(asked.get() + 1) < 3;
        let ended = run(&hook("exec yes", 20_000), &wanted).unwrap();
        assert_eq!(ended.how, How::Unwanted);
        assert!(ended.output.len() <= OUTPUT_MAX);
    }
}
