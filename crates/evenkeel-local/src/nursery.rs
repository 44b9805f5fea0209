//! The nursery: one small process from which shims are forked.
//!
//! Starting a shim as a program of its own would load and link this whole binary each time, which
//! is more work than all that the shim does until its instance runs. The nursery has done it once.
//! It lives as long as the driver that started it; the shims outlive both.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use evenkeel_kernel::model::InstanceId;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;

use crate::folder::Folder;
use crate::shim;

/// How long the driver waits for a fork before it starts the shim as a program of its own.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Time between two looks for shims that have ended; until then the system remembers them.
const REAP_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// A longer order is none: the longest name of an instance has 85 bytes.
const ORDER_BYTES_MAX: usize = 256;

/// The driver's side: a connection to a nursery that it has started.
#[derive(Debug)]
pub(crate) struct Nursery {
    stream: BufReader<UnixStream>,
    process: Child,
}

impl Nursery {
    /// Starts one with the command that starts a shim.
    pub(crate) fn start(shim: &[OsString], home: &Path) -> io::Result<Self> {
        let (program, first) =
            shim.split_first().ok_or_else(|| io::Error::other("no command starts a shim"))?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_MAX))?;
        ours.set_write_timeout(Some(ANSWER_MAX))?;
        let process = Command::new(program)
            .args(first)
            .args([OsStr::new("--home"), home.as_os_str()])
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is in our environment would be taken for the shims' own.
            .env_clear()
            .current_dir("/")
            .spawn()?;
        Ok(Self { stream: BufReader::new(ours), process })
    }

    /// Has a shim forked for `instance` and gives its process number. After an error the nursery
    /// is of no more use.
    pub(crate) fn bear(&mut self, instance: &InstanceId, end: bool) -> io::Result<u32> {
        let order = if end { format!("{instance} --end\n") } else { format!("{instance}\n") };
        self.stream.get_mut().write_all(order.as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        answer.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // It ends when its stream does; should it hang, it is ended, and its shims are not.
        let _best_effort = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
        let _best_effort = self.process.kill();
        let _best_effort = self.process.wait();
    }
}

/// The nursery's own life: reads orders from standard input until it is closed.
pub(crate) fn keep(home: &Path) -> ExitCode {
    name_process("ek-nursery");
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut stream = UnixStream::from(stdin);
    let mut order = Vec::with_capacity(ORDER_BYTES_MAX);
    loop {
        match next_order(&mut stream, &mut order) {
            Ok(true) => {}
            Ok(false) => return ExitCode::SUCCESS,
            Err(_broken) => return ExitCode::FAILURE,
        }
        let line = String::from_utf8_lossy(&order).into_owned();
        match fork() {
            Ok(Some(child)) => {
                if stream.write_all(format!("{child}\n").as_bytes()).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Ok(None) => return shim_of(&line, home.to_owned()),
            Err(error) => {
                if stream.write_all(format!("{error}\n").as_bytes()).is_err() {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
}

/// Waits for a line, and takes note of shims that have ended meanwhile. `false`: there will be no
/// more.
fn next_order(stream: &mut UnixStream, order: &mut Vec<u8>) -> io::Result<bool> {
    use std::io::Read as _;
    order.clear();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
        let ready = match rustix::event::poll(&mut fds, Some(&REAP_PAUSE)) {
            Ok(count) => count > 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => return Err(error.into()),
        };
        while let Ok(Some(_ended)) = rustix::process::wait(WaitOptions::NOHANG) {}
        if !ready {
            continue;
        }
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(false);
        }
        if byte == *b"\n" {
            return Ok(true);
        }
        order.extend(byte);
        if order.len() > ORDER_BYTES_MAX {
            return Err(io::Error::other("an order without end"));
        }
    }
}

/// Forks. Gives the child's number to the parent, and nothing to the child.
fn fork() -> io::Result<Option<i32>> {
    // SAFETY: this process has only one thread, so the child's copy of every lock and of the
    // allocator is in a sound state and it may go on as any process.
    #[expect(unsafe_code, reason = "there is no safe way to fork")]
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Becomes the shim of an order, in the child.
fn shim_of(order: &str, home: PathBuf) -> ExitCode {
    let (name, end) = match order.strip_suffix(" --end") {
        Some(name) => (name, true),
        None => (order, false),
    };
    let Ok(instance) = name.parse::<InstanceId>() else { return ExitCode::FAILURE };
    name_process(&format!("ek-{instance}"));
    let words = File::create(Folder::new(&home, &instance).shim_log());
    let silence = File::open("/dev/null");
    if let (Ok(words), Ok(silence)) = (words, silence) {
        // The order's stream is left behind; what the shim has to say goes where it can be found.
        let _best_effort = rustix::stdio::dup2_stdin(silence);
        let _best_effort = rustix::stdio::dup2_stderr(words);
    }
    shim::be(home, &instance, end)
}

/// Names this process for `ps -o comm`: all of them share one command line. The kernel keeps 15
/// bytes.
fn name_process(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _best_effort = rustix::thread::set_name(&name);
    }
}
