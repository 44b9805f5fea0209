//! The shim: keeps one process running, whoever else is alive.
//!
//! One thread and one loop. It knows its instance's folder, its process and nothing else: not why
//! it runs, nor whether anybody sends it requests. It may be killed at any moment; the process
//! goes on, and the next shim takes it over.

mod door;
mod instance;
mod notify;
mod probe;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use evenkeel_kernel::model::InstanceId;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::folder::Folder;
use crate::nursery;
use crate::process::now_ms;
use door::Door;
use instance::Instance;

/// How often the lock is tried: a shim that was killed a moment ago still holds it until the
/// system has taken it apart.
const LOCK_TRIES_MAX: u32 = 40;
/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(25);
/// The loop looks around at least this often, for deadlines that a bug might have lost.
const SLEEP_MAX_MS: u64 = 60_000;

/// What a shim is started with.
enum Arguments {
    Shim {
        home: PathBuf,
        instance: InstanceId,
        /// Take over what runs, and end it.
        end: bool,
    },
    /// Fork shims as they are ordered.
    Nursery { home: PathBuf },
}

/// The shim role: `--home <dir> --instance <id> [--end]`, which returns when the instance has
/// ended because it was asked to; or only `--home <dir>`, which forks such shims as
/// they are ordered on standard input.
///
/// To be called first thing in a process that has only one thread.
pub fn shim(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Arguments::parse(arguments) {
        Ok(Arguments::Nursery { home }) => nursery::keep(&home),
        Ok(Arguments::Shim { home, instance, end }) => be(home, &instance, end),
        Err(error) => fail(&error),
    }
}

/// Is the shim of an instance, until that has ended.
pub(crate) fn be(home: PathBuf, instance: &InstanceId, end: bool) -> ExitCode {
    let words = Folder::new(&home, instance).shim_log();
    let last = words.clone();
    std::panic::set_hook(Box::new(move |panic| say(&last, &panic.to_string())));
    match run(home, instance, end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&words, &format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a shim's last words down where a person can find them.
fn say(log: &Path, words: &str) {
    // There is nobody to tell that it cannot be told.
    let _best_effort = std::fs::write(log, format!("{words}\n"));
}

fn fail(error: &io::Error) -> ExitCode {
    // Nobody may be listening; there is nothing else to tell it to.
    let _best_effort = writeln!(io::stderr(), "error: {error}");
    ExitCode::FAILURE
}

impl Arguments {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let usage = || io::Error::other("usage: shim --home <dir> [--instance <id> [--end]]");
        let (mut home, mut instance, mut end) = (None, None, false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--home") => home = arguments.next().map(PathBuf::from),
                Some("--instance") => {
                    let id = arguments.next().and_then(|id| id.to_str()?.parse().ok());
                    instance = Some(id.ok_or_else(usage)?);
                }
                Some("--end") => end = true,
                Some(_) | None => return Err(usage()),
            }
        }
        let home = home.ok_or_else(usage)?;
        match instance {
            Some(instance) => Ok(Self::Shim { home, instance, end }),
            None => Ok(Self::Nursery { home }),
        }
    }
}

fn run(home: PathBuf, instance: &InstanceId, end: bool) -> io::Result<()> {
    close_inherited()?;
    // Away from the terminal and the process group of whoever started us. It fails when we lead
    // a group, that is, when somebody has done so already.
    let _leads_already = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let folder = Folder::new(&home, instance);
    let Some(lock) = lock(&folder)? else {
        return Err(io::Error::other("another shim has this instance"));
    };
    let spec = folder.spec()?;
    if spec.instance != *instance {
        return Err(io::Error::other("the spec in this folder is of another instance"));
    }
    let children = signals(&[SIGCHLD])?;
    let asked = signals(&[SIGTERM, SIGINT])?;
    let mut door = Door::open(&folder)?;
    let mut instance = Instance::take(home, folder, spec)?;
    if end {
        instance.stop(now_ms());
    }
    serve(&mut instance, &mut door, &children, &asked)?;
    door.close();
    drop(lock);
    Ok(())
}

/// Closes everything that was inherited beyond the standard streams.
fn close_inherited() -> io::Result<()> {
    // SAFETY: the process has one thread and has opened nothing yet, so what is open was inherited
    // and nobody else here owns it.
    #[expect(unsafe_code, reason = "inherited descriptors have only numbers")]
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn lock(folder: &Folder) -> io::Result<Option<std::fs::File>> {
    for _ in 0..LOCK_TRIES_MAX {
        if let Some(lock) = folder.lock()? {
            return Ok(Some(lock));
        }
        thread::sleep(LOCK_PAUSE);
    }
    Ok(None)
}

/// A stream that becomes readable when one of `signals` arrives.
fn signals(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// The loop, until the instance has ended.
fn serve(
    instance: &mut Instance,
    door: &mut Door,
    children: &UnixStream,
    asked: &UnixStream,
) -> io::Result<()> {
    // Children of an earlier program of this process may have ended while nobody listened.
    reap(instance, now_ms());
    loop {
        instance.advance(now_ms());
        if instance.has_ended() {
            return Ok(());
        }
        let pause_ms = instance.next_ms().saturating_sub(now_ms()).min(SLEEP_MAX_MS);
        let ready = wait(instance, door, [children, asked], pause_ms)?;
        let now_ms = now_ms();
        if drained(children) {
            reap(instance, now_ms);
        }
        if drained(asked) {
            instance.stop(now_ms);
        }
        instance.listen(now_ms);
        door.serve(ready, |line| instance.answer(line, now_ms));
        instance.become_other();
    }
}

/// Sleeps until something happens, at most `pause_ms`. Says whether the door has to be served.
fn wait(
    instance: &Instance,
    door: &Door,
    signals: [&UnixStream; 2],
    pause_ms: u64,
) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(8);
    door.poll(&mut fds);
    let doors = fds.len();
    let others = signals.map(|stream| stream.as_fd()).into_iter().chain(instance.handles());
    fds.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let timeout = Timespec {
        tv_sec: (pause_ms / 1000).try_into().unwrap_or(i64::MAX),
        tv_nsec: (pause_ms % 1000 * 1_000_000).try_into().unwrap_or(0),
    };
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fds.iter().take(doors).any(|fd| !fd.revents().is_empty()))
}

/// Empties the stream of a signal. Returns whether there was one.
fn drained(mut stream: &UnixStream) -> bool {
    let mut buffer = [0; 64];
    let mut any = false;
    while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {
        any = true;
    }
    any
}

/// Takes note of every child that has ended, our own and those left to us.
fn reap(instance: &mut Instance, now_ms: u64) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if let Ok(pid) = u32::try_from(pid.as_raw_nonzero().get()) {
            instance.reaped(pid, status, now_ms);
        }
    }
}

/// How a process ended, for people.
fn how(status: WaitStatus) -> String {
    let names = [
        (1, "HUP"),
        (2, "INT"),
        (3, "QUIT"),
        (4, "ILL"),
        (6, "ABRT"),
        (7, "BUS"),
        (8, "FPE"),
        (9, "KILL"),
        (11, "SEGV"),
        (13, "PIPE"),
        (15, "TERM"),
    ];
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match names.iter().find(|(number, _)| *number == signal) {
            Some((number, name)) => format!("signal {number} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
