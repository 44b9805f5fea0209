//! Short commands that control runs itself, bounded in time and in what is kept of their output.
//!
//! What must outlive control is an instance and has a shim. Between control and a hook stands a
//! process of ours that holds it on a leash: when control dies or gives the hook up, or when its
//! time is over, it ends the hook with everything that this has left in its group. So a successor
//! of control can run it again without meeting it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::child::still_of;

/// The last bytes of what a hook says that are kept.
const OUTPUT_MAX: usize = 16 << 10;
/// The longest line of it that is shown, in characters.
const LINE_MAX: usize = 500;
/// The longest time between two looks whether the hook is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// How much longer than its hook a holder may take before it is killed with it.
const GRACE: Duration = Duration::from_secs(10);
/// What the first line of a report begins with when nothing was run; the reason follows.
const NOT_RUN: &str = "not run: ";
/// The longest report: how it ended, and its output.
const REPORT_MAX: u64 = 2 * OUTPUT_MAX as u64;
/// Variables of control's own environment that its commands are given. The others may hold secrets
/// of whoever started control.
const GIVEN: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; no shell is involved. A program with a `/` in it is seen from `dir`.
    pub run: Vec<String>,
    /// The working folder.
    pub dir: PathBuf,
    /// Its environment, beside `PATH`, `HOME`, `LANG` and `TZ` of control's own.
    pub env: BTreeMap<String, String>,
    /// What it reads on its standard input; what it leaves unread is dropped.
    pub stdin: Vec<u8>,
    /// How long it may take before it is killed with everything in its group.
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

impl Ended {
    /// The last thing it said, which is most likely why it ended so: `: no such room`, or nothing.
    #[must_use]
    pub fn said(&self) -> String {
        let last = self.output.lines().map(str::trim).rfind(|line| !line.is_empty());
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = last.unwrap_or_default().chars().map(clean).take(LINE_MAX).collect();
        if line.is_empty() { line } else { format!(": {line}") }
    }
}

impl How {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signalled(signal.unwrap_or(0)),
        }
    }

    /// As the first line of a report has it.
    fn word(self) -> String {
        match self {
            Self::Exited(status) => format!("exited {status}"),
            Self::Signalled(signal) => format!("signalled {signal}"),
            Self::TookTooLong => "too long".to_owned(),
            Self::Unwanted => "unwanted".to_owned(),
        }
    }

    fn read(word: &str) -> Option<Self> {
        match word.split_once(' ') {
            Some(("exited", status)) => status.parse().ok().map(Self::Exited),
            Some(("signalled", signal)) => signal.parse().ok().map(Self::Signalled),
            Some(("too", "long")) => Some(Self::TookTooLong),
            None if word == "unwanted" => Some(Self::Unwanted),
            _ => None,
        }
    }
}

/// Runs a hook, held by the command `holder` ([`hold`]), and waits for its end as long as `wanted`
/// says so.
///
/// # Errors
/// When it could not be run: the folder or the program is not there, or may not be run.
pub fn run(holder: &[OsString], hook: &Hook, wanted: &dyn Fn() -> bool) -> io::Result<Ended> {
    let (program, first) = holder.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let given = GIVEN.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(first)
        .args([hook.stdin.len().to_string(), hook.timeout.as_millis().to_string()])
        .arg(&hook.dir)
        .args(&hook.run)
        .env_clear()
        .envs(given)
        .envs(&hook.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let until = Instant::now() + hook.timeout + GRACE;
    let report = listen(&mut child, &hook.stdin, until, wanted);
    if report.is_err() {
        // What it holds dies with it.
        child.kill().ok();
    }
    let status = child.wait()?;
    let report = report?;
    let report = String::from_utf8_lossy(&report);
    let (first, output) = report.split_once('\n').unwrap_or((&report, ""));
    if let Some(reason) = first.strip_prefix(NOT_RUN) {
        return Err(io::Error::other(reason.to_owned()));
    }
    let unread = || io::Error::other(format!("what holds it ended with {status}"));
    let how = How::read(first).ok_or_else(unread)?;
    Ok(Ended { how, output: output.to_owned() })
}

/// Feeds the holder and reads its report; lets the leash go once nobody wants the hook any more.
fn listen(
    child: &mut Child,
    feed: &[u8],
    until: Instant,
    wanted: &dyn Fn() -> bool,
) -> io::Result<Vec<u8>> {
    let mut leash: Option<ChildStdin> = child.stdin.take();
    let Some(stdout): Option<ChildStdout> = child.stdout.take() else { return Ok(Vec::new()) };
    // The holder reads all of it before it does anything else. One that has ended reports why.
    if let Some(leash) = &mut leash {
        leash.write_all(feed).ok();
    }
    let mut stdout = stdout.take(REPORT_MAX);
    let mut report = Vec::new();
    loop {
        if !wanted() {
            leash = None;
        }
        if Instant::now() >= until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "what holds it does not answer"));
        }
        let mut fds = [PollFd::new(stdout.get_ref(), PollFlags::IN)];
        let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&look)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut piece = [0; 4 << 10];
        match stdout.read(&mut piece)? {
            0 => {
                drop(leash);
                return Ok(report);
            }
            count => report.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// Holds a hook on its leash: the process that control starts for it. Takes the length of what it
/// feeds the hook, its time in milliseconds, the folder, the program and its arguments; says on
/// standard output how it ended.
pub fn hold(args: &[OsString]) -> ExitCode {
    let (word, output) = match held(args) {
        Ok((how, output)) => (how.word(), output),
        Err(error) => (format!("{NOT_RUN}{error}"), Vec::new()),
    };
    let mut report = format!("{}\n", word.replace('\n', " ")).into_bytes();
    report.extend_from_slice(&output);
    // Control may be gone.
    io::stdout().write_all(&report).ok();
    ExitCode::SUCCESS
}

fn held(args: &[OsString]) -> io::Result<(How, Vec<u8>)> {
    let number = |text: &OsString| text.to_str().and_then(|it| it.parse::<u64>().ok());
    let [length, timeout, dir, run @ ..] = args else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (Some(length), Some(timeout)) = (number(length), number(timeout)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // No terminal's keys reach it.
    rustix::process::setsid().ok();
    let stdin = io::stdin();
    let mut feed = Vec::new();
    stdin.lock().take(length).read_to_end(&mut feed)?;
    if feed.len() as u64 != length {
        // Control is gone, and half of what it had to say says nothing.
        return Ok((How::Unwanted, Vec::new()));
    }
    run_within(Duration::from_millis(timeout), run, Path::new(dir), &feed, stdin.as_fd())
}

fn run_within(
    most: Duration,
    run: &[OsString],
    dir: &Path,
    feed: &[u8],
    leash: BorrowedFd<'_>,
) -> io::Result<(How, Vec<u8>)> {
    let (program, arguments) = run.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (output, writer) = io::pipe()?;
    let mut command = Command::new(place(program, dir));
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    die_with_us(&mut command);
    let mut child = command.spawn()?;
    // Our ends of what it writes to are closed with this.
    drop(command);
    let mut heard = Heard::new(output)?;
    let stopped = Feed::new(child.stdin.take(), feed)
        .and_then(|feed| watch(&child, feed, &mut heard, leash, Instant::now() + most));
    // Whatever it has left in its group belongs to it. All of it may have ended by now.
    rustix::process::kill_process_group(pid(&child)?, Signal::KILL).ok();
    let status = child.wait()?;
    Ok((stopped?.unwrap_or_else(|| How::of(status)), heard.end))
}

/// Lets the command end with the thread that starts it, should that be killed.
fn die_with_us(command: &mut Command) {
    let holder = rustix::process::getpid();
    let in_child = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have gone before the line above.
        still_of(holder)
    };
    // SAFETY: the closure runs between fork and exec in a process with one thread. It makes only
    // direct system calls (prctl, getppid), all async-signal-safe; it takes no lock, and allocates
    // nothing: its errors are plain numbers.
    #[expect(unsafe_code, reason = "it must be set before the program runs")]
    unsafe {
        command.pre_exec(in_child);
    }
}

/// A program with a `/` in it is seen from its folder; any other is looked for.
fn place(program: &OsStr, dir: &Path) -> OsString {
    match program.as_encoded_bytes().contains(&b'/') {
        true => dir.join(program).into_os_string(),
        false => program.to_owned(),
    }
}

/// Feeds it and listens to it until it has ended (`None`), or must end.
fn watch(
    child: &Child,
    mut feed: Feed<'_>,
    heard: &mut Heard,
    leash: BorrowedFd<'_>,
    until: Instant,
) -> io::Result<Option<How>> {
    let process = rustix::process::pidfd_open(pid(child)?, PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some(How::TookTooLong));
        }
        let (ended, let_go) = wait(&process, leash, &feed, heard, left)?;
        feed.write();
        heard.read();
        match (let_go, ended) {
            (true, _) => return Ok(Some(How::Unwanted)),
            (false, true) => return Ok(None),
            (false, false) => {}
        }
    }
}

/// Waits until there is something to do. Returns whether the process has ended, and whether
/// nobody holds the leash any more.
fn wait(
    process: &OwnedFd,
    leash: BorrowedFd<'_>,
    feed: &Feed<'_>,
    heard: &Heard,
    most: Duration,
) -> io::Result<(bool, bool)> {
    let timeout = Timespec::try_from(most).map_err(io::Error::other)?;
    let mut fds =
        vec![PollFd::new(process, PollFlags::IN), PollFd::from_borrowed_fd(leash, PollFlags::IN)];
    fds.extend(feed.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    fds.extend(heard.pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {
            let is_set = |at: usize| fds.get(at).is_some_and(|it| !it.revents().is_empty());
            Ok((is_set(0), is_set(1)))
        }
        Err(rustix::io::Errno::INTR) => Ok((false, false)),
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
    pipe: Option<PipeReader>,
    end: Vec<u8>,
}

impl Heard {
    fn new(pipe: PipeReader) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(pipe.as_fd(), true)?;
        Ok(Self { pipe: Some(pipe), end: Vec::new() })
    }

    /// Reads what is there, as much as a pipe holds.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut piece = [0; 64 << 10];
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(count) => self.end.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        let excess = self.end.len().saturating_sub(OUTPUT_MAX);
        self.end.drain(..excess);
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_it_ended() {
        for how in [How::Exited(-3), How::Signalled(9), How::TookTooLong, How::Unwanted] {
            assert_eq!(How::read(&how.word()), Some(how));
        }
        assert_eq!(How::read("exited"), None);
        assert_eq!(How::read(""), None);
    }

    #[test]
    fn the_last_line_is_shown() {
        let said = |output: &str| Ended { how: How::Exited(1), output: output.to_owned() }.said();
        assert_eq!(said("no\n such\troom \n\n"), ": such room");
        assert_eq!(said(" \n"), "");
        assert_eq!(said(&"x".repeat(9_999)).len(), LINE_MAX + 2);
    }
}
