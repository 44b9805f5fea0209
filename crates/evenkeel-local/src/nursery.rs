//! The nursery: one small process from which shims are forked.
//!
//! Starting a shim as a program of its own would load and link this whole binary each time, which
//! is more work than all that the shim does until its instance runs. The nursery has done it once.
//! It lives as long as the driver that started it; the shims outlive both.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use evenkeel_kernel::model::InstanceId;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;

use crate::cgroup;
use crate::fork::fork;
use crate::process::boot_id;
use crate::shim;

/// How long the driver waits for a fork before it starts the shim as a program of its own.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A pause in which no order comes: then shims that have ended are looked for; until then the
/// system remembers them.
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
    // What every shim would look for: found once, and inherited by all of them. One that finds
    // nothing here looks again, and says what is missing.
    let _warm = (boot_id(), cgroup::base());
    let mut stream = UnixStream::from(stdin);
    let mut orders = Orders::default();
    loop {
        let line = match orders.next(&mut stream) {
            Ok(Some(line)) => line,
            Ok(None) => return ExitCode::SUCCESS,
            Err(_broken) => return ExitCode::FAILURE,
        };
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

/// What was read of the stream and not yet handed out.
#[derive(Default)]
struct Orders {
    heard: Vec<u8>,
}

impl Orders {
    /// Waits for a line, and takes note of shims that have ended while nothing is to be done: each
    /// look costs as much as there are shims. `None`: there will be no more.
    fn next(&mut self, stream: &mut UnixStream) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()));
            }
            if self.heard.len() > ORDER_BYTES_MAX {
                return Err(io::Error::other("an order without end"));
            }
            let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&REAP_PAUSE)) {
                Ok(0) => while let Ok(Some(_ended)) = rustix::process::wait(WaitOptions::NOHANG) {},
                Ok(_) => {
                    let mut piece = [0; ORDER_BYTES_MAX];
                    let length = stream.read(&mut piece)?;
                    if length == 0 {
                        return Ok(None);
                    }
                    self.heard.extend(piece.iter().take(length));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
    if let Ok(silence) = File::open("/dev/null") {
        // The stream of orders is left behind.
        let _best_effort = rustix::stdio::dup2_stdin(silence);
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
