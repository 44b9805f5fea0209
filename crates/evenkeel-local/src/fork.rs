//! Forking: the one place where this room splits its process in two.
//!
//! The standard library cannot fork without running a program, nor start a process inside a
//! cgroup. Moving one into it afterwards makes the kernel wait until every processor has taken
//! note, some ten milliseconds each time and one at a time; to be born there costs nothing.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, WaitOptions};

/// The child is to begin in the cgroup whose folder is handed over (Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What a child says first.
const ALIVE: &[u8] = b"+";
/// What a child ends with that could not become its program; nobody sees it.
const FAILED: i32 = 127;

/// Forks. Gives the child's number to the parent, and nothing to the child.
///
/// Only for a process with one thread: its child may then go on as any process.
pub(crate) fn fork() -> io::Result<Option<u32>> {
    // SAFETY: this process has only one thread, so the child's copy of every lock and of the
    // allocator is in a sound state and it may go on as any process.
    #[expect(unsafe_code, reason = "there is no safe way to fork")]
    let child = unsafe { libc::fork() };
    which(child.into())
}

/// Forks into a cgroup, whose folder is handed over.
fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::try_from(libc::SIGCHLD).map_err(wrong)?,
        cgroup: u64::try_from(cgroup.as_raw_fd()).map_err(wrong)?,
        ..CloneArgs::default()
    };
    // SAFETY: as for `fork`: no stack and no memory flags are given, so the child gets a copy of
    // everything. The arguments are a live struct of the length that is said.
    #[expect(unsafe_code, reason = "the C library does not offer this call")]
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    which(child)
}

fn which(child: i64) -> io::Result<Option<u32>> {
    match u32::try_from(child) {
        Ok(0) => Ok(None),
        Ok(child) => Ok(Some(child)),
        Err(_negative) => Err(io::Error::last_os_error()),
    }
}

/// `struct clone_args` of the kernel, as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts `command` inside the cgroup whose folder is handed over. Returns its pid, or why its
/// program did not start; a failed child is reaped. `None` where the kernel does not do it.
///
/// Only for a process with one thread.
pub(crate) fn spawn_into(cgroup: BorrowedFd<'_>, command: &mut Command) -> io::Result<Option<u32>> {
    // Closed by the program's start; until then the child can say that it lives, and what went
    // wrong.
    let (mut reads, mut writes) = io::pipe()?;
    let Ok(child) = fork_into(cgroup) else { return Ok(None) };
    let Some(child) = child else {
        // A parent that is gone needs no answer.
        let _best_effort = writes.write_all(ALIVE);
        let error = command.exec();
        let number = error.raw_os_error().unwrap_or(libc::EINVAL);
        let _best_effort = writes.write_all(&number.to_ne_bytes());
        // SAFETY: ends this process without running what its parent has registered to run at its
        // own end.
        #[expect(unsafe_code, reason = "a forked child must not unwind into its parent's code")]
        unsafe {
            libc::_exit(FAILED)
        }
    };
    drop(writes);
    let mut said = Vec::with_capacity(ALIVE.len() + size_of::<i32>());
    reads.read_to_end(&mut said)?;
    let Some(said) = said.strip_prefix(ALIVE) else {
        // Seen on Linux 6.18: what is born into a cgroup that was killed as a whole before is
        // killed too, unless that was done as often to its parent's.
        reap(child);
        return Ok(None);
    };
    match said.try_into() {
        Ok(number) => {
            reap(child);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
        }
        // Nothing more was said: the program runs.
        Err(_end) => Ok(Some(child)),
    }
}

/// Takes note of the end of a child that is on its last instruction.
fn reap(child: u32) {
    let pid = child.try_into().ok().and_then(Pid::from_raw);
    let _reaped = rustix::process::waitpid(pid, WaitOptions::empty());
}
