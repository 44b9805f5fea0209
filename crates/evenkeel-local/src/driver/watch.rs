//! The thread that notices when a shim ends, without ever asking.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use evenkeel_kernel::model::InstanceId;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, WaitOptions};

use super::Shared;

/// Events taken at a time.
const EVENTS_MAX: usize = 64;
/// Marks the event that only wakes the thread up.
const WAKE: u64 = 0;

/// All handles on shims.
pub(super) struct Watch {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// Whose shim a number in the poll set stands for.
    names: Mutex<(u64, BTreeMap<u64, (InstanceId, u32)>)>,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake, names: Mutex::new((WAKE, BTreeMap::new())) })
    }

    /// Watches the shim `pid` of an instance; each is reported once, when it ends. Closing the
    /// handle ends the watch.
    pub(super) fn add(&self, handle: impl AsFd, id: &InstanceId, pid: u32) -> io::Result<()> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.0 += 1;
        let number = names.0;
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::add(&self.epoll, handle, EventData::new_u64(number), flags)?;
        names.1.insert(number, (id.clone(), pid));
        Ok(())
    }

    /// Makes [`Self::wait`] return.
    pub(super) fn wake(&self) {
        // It fails only when it has been woken 2^64 times already.
        let _best_effort = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Waits for shims to end.
    fn wait(&self) -> io::Result<Vec<(InstanceId, u32)>> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(events.iter().filter_map(|event| names.1.remove(&event.data.u64())).collect())
    }
}

impl Shared {
    /// The thread's whole life.
    pub(super) fn watch(&self) {
        while !self.is_closing() {
            // An error here is our own mistake (a bad descriptor); the resync still works.
            let Ok(ended) = self.watch.wait() else { return };
            let mut state = self.lock();
            for (id, pid) in ended {
                reap(pid);
                self.read(&mut state, &id);
                if state.book.shim_ended(&id, pid) && state.wants.contains_key(&id.pool) {
                    state.due.set(id, Instant::now());
                }
            }
            self.due.notify_all();
        }
    }
}

/// Takes note of a shim's end towards the system, in case it is our own child.
pub(super) fn reap(pid: u32) {
    let pid = pid.try_into().ok().and_then(Pid::from_raw);
    // Not our child: then init does it.
    let _best_effort = rustix::process::waitpid(pid, WaitOptions::NOHANG);
}
