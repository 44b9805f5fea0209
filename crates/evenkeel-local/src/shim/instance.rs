//! One instance as its shim sees it: which state it is in, and what comes next.

mod once;
mod start;
mod starting;
mod stop;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::Probe;
use rustix::fs::Access;
use rustix::process::WaitStatus;

use super::notify::Notify;
use super::probe::Exec;
use crate::backoff::Backoff;
use crate::cgroup::Leaf;
use crate::folder::Folder;
use crate::log::Log;
use crate::process::Ident;
use crate::protocol::{self, Mandate, Order, Reply};
use crate::spec::Spec;
use crate::status::{Phase, Slate, Status};
use crate::tree::Tree;
use starting::Starting;

/// How often the memory of an instance with a limit is summed up, where the kernel does not.
const MEMORY_LOOK_MS: u64 = 1_000;

/// The instance.
#[derive(Debug)]
pub(super) struct Instance {
    home: PathBuf,
    folder: Folder,
    spec: Spec,
    status: Status,
    slate: Slate,
    /// The status as it is on the disk, once we have written it.
    written: Option<Status>,
    state: State,
    leader: Option<Leader>,
    /// The leader's identity, until the next start: it still names the session of its children.
    session: Option<Ident>,
    /// Processes of the instance that nothing else may be able to recognise later.
    known: BTreeSet<Ident>,
    leaf: Option<Leaf>,
    memory_kills: u64,
    memory_at_ms: u64,
    /// The line in the environment of every process of this incarnation, if there has been
    /// another shim before us: its processes may be nobody's descendants.
    marker: Option<String>,
    log: Log,
    notify: Option<Notify>,
    exec: Exec,
    backoff: Backoff,
    starting: Starting,
    /// The program that it is to be.
    next: Option<Vec<String>>,
}

/// The process that was started or taken over.
#[derive(Debug)]
struct Leader {
    ident: Ident,
    since_ms: u64,
    /// A process that a former shim started is not our child: its end is seen here only.
    handle: Option<OwnedFd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next start.
    Waiting { until_ms: u64 },
    /// The leader lives.
    Running,
    /// It was asked to end.
    Asked { kill_at_ms: u64, look_at_ms: u64, pause_ms: u64 },
    /// What is left of it is being killed.
    Clearing { then: Then, look_at_ms: u64, pause_ms: u64 },
    /// It ran once; the shim stays to say how it ended, until it is told to go.
    Over,
    /// Nothing is left, and nothing comes next.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    StartAt {
        ms: u64,
    },
    /// Stay, as what was to run once is over.
    Stay,
    End,
}

impl State {
    fn clearing(then: Then, now_ms: u64) -> Self {
        Self::Clearing { then, look_at_ms: now_ms, pause_ms: 1 }
    }
}

impl Instance {
    /// Does what is due.
    pub(super) fn advance(&mut self, now_ms: u64) {
        // A full disk must not end the supervision; the next look tries again.
        let _best_effort = self.log.check(now_ms);
        match self.state {
            State::Waiting { until_ms } if now_ms >= until_ms => self.start(now_ms),
            State::Running => {
                self.exec.advance(&self.home, &self.spec, now_ms);
                self.see_whether_it_is_up(now_ms);
                self.watch_memory(now_ms);
            }
            State::Asked { kill_at_ms, look_at_ms, pause_ms } if now_ms >= look_at_ms => {
                self.look_for_end(kill_at_ms, pause_ms, now_ms);
            }
            State::Clearing { then, look_at_ms, pause_ms } if now_ms >= look_at_ms => {
                self.clear(then, pause_ms, now_ms);
            }
            State::Waiting { .. }
            | State::Asked { .. }
            | State::Clearing { .. }
            | State::Over
            | State::Ended => {}
        }
        self.write(true);
    }

    /// When something is due next.
    pub(super) fn next_ms(&self) -> u64 {
        let next = match self.state {
            State::Waiting { until_ms } => until_ms,
            State::Running => self.next_look_ms(),
            State::Asked { look_at_ms, .. } | State::Clearing { look_at_ms, .. } => look_at_ms,
            State::Over => u64::MAX,
            State::Ended => 0,
        };
        next.min(self.log.check_at_ms())
    }

    fn next_look_ms(&self) -> u64 {
        let memory = if self.watches_memory() { self.memory_at_ms } else { u64::MAX };
        let memory = memory.min(self.starting.look_at_ms());
        match self.spec.probe {
            Probe::Exec { .. } => memory.min(self.exec.next_ms()),
            Probe::Http { .. }
            | Probe::Grpc { .. }
            | Probe::Tcp
            | Probe::Notify
            | Probe::Process => memory,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Descriptors that become readable when there is something to [`Self::listen`] to.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let leader = self.leader.as_ref().and_then(|leader| leader.handle.as_ref());
        leader.map(|fd| fd.as_fd()).into_iter().chain(self.notify.as_ref().map(Notify::handle))
    }

    /// Takes in what arrived on the handles.
    pub(super) fn listen(&mut self, now_ms: u64) {
        if let Some(notify) = &mut self.notify
            && notify.listen(now_ms)
        {
            self.status.notified = notify.ready;
            self.write(true);
        }
        let adopted = self.leader.as_ref().filter(|leader| leader.handle.is_some());
        if adopted.is_some_and(|leader| !leader.ident.lives()) {
            self.leader_ended(None, now_ms);
        }
    }

    /// Takes note of the end of a child, whichever it was.
    pub(super) fn reaped(&mut self, pid: u32, status: WaitStatus, now_ms: u64) {
        if self.exec.reaped(pid, status) {
            return;
        }
        if self.leader.as_ref().is_some_and(|leader| leader.ident.pid == pid) {
            self.leader_ended(Some(status), now_ms);
        }
    }

    /// Answers one line from the door.
    pub(super) fn answer(&mut self, line: &[u8], now_ms: u64) -> Vec<u8> {
        if line == protocol::READY {
            return match self.is_ready(now_ms) {
                Ok(()) => b"yes".to_vec(),
                Err(reason) => format!("no {}", reason.replace('\n', " ")).into_bytes(),
            };
        }
        let reply = match protocol::parse(line).and_then(|order| self.obey(order, now_ms)) {
            Ok(()) => Reply::Ok(Box::new(self.status.clone())),
            Err(reason) => Reply::Refused(reason),
        };
        serde_json::to_vec(&reply).unwrap_or_default()
    }

    /// Whether the instance is well, as far as it is ours to say.
    fn is_ready(&self, now_ms: u64) -> Result<(), String> {
        if self.status.phase != Phase::Running {
            let reason = self.status.last_exit.as_deref().unwrap_or("it does not run");
            return Err(reason.to_owned());
        }
        match (&self.spec.probe, &self.notify) {
            (Probe::Exec { .. }, _) => self.exec.latest(),
            (Probe::Notify, Some(notify)) => notify.is_ready(now_ms),
            (Probe::Notify, None) => Err("its notify socket could not be opened".to_owned()),
            (Probe::Http { .. } | Probe::Grpc { .. } | Probe::Tcp | Probe::Process, _) => Ok(()),
        }
    }

    fn obey(&mut self, order: Order, now_ms: u64) -> Result<(), String> {
        match order {
            Order::Status => Ok(()),
            Order::Keep(mandate) => self.accept(&mandate),
            Order::Reload(mandate) => {
                self.accept(&mandate)?;
                self.reload(now_ms)
            }
            Order::Become { mandate, command } => {
                self.check(&mandate)?;
                if !matches!(self.state, State::Running | State::Waiting { .. }) {
                    return Err("the instance is about to end".to_owned());
                }
                let program = command.first().ok_or("no program is named")?;
                let may = rustix::fs::access(program.as_str(), Access::READ_OK | Access::EXEC_OK);
                may.map_err(|error| format!("{program} cannot be run: {error}"))?;
                self.next = Some(command);
                Ok(())
            }
            Order::Stop(mandate) => {
                // A fence that cannot be written holds as long as this shim, and the instance
                // ends with it.
                self.check(&mandate)?;
                self.status.fence = mandate.fence;
                self.stop(now_ms);
                Ok(())
            }
        }
    }

    /// Checks on whose behalf an order comes, and writes it down before it is obeyed.
    fn accept(&mut self, mandate: &Mandate) -> Result<(), String> {
        self.check(mandate)?;
        let before = std::mem::replace(&mut self.status.fence, mandate.fence);
        if self.write(true) {
            return Ok(());
        }
        self.status.fence = before;
        Err("the order could not be written down; is the disk full?".to_owned())
    }

    fn check(&self, mandate: &Mandate) -> Result<(), String> {
        let (order, obeyed) = (mandate.fence, self.status.fence);
        if mandate.incarnation != self.status.incarnation {
            return Err("the order is for another life of this instance".to_owned());
        }
        if order < obeyed {
            return Err(format!(
                "the order ({}, {}) is older than one already obeyed ({}, {})",
                order.epoch, order.generation, obeyed.epoch, obeyed.generation
            ));
        }
        Ok(())
    }

    /// Becomes the program that it was told to be, if it was. What runs goes on as the child of this
    /// same process. Returns only where that cannot be done.
    pub(super) fn become_other(&mut self) {
        let Some(command) = self.next.take() else { return };
        let Some((program, first)) = command.split_first() else { return };
        let mut command = Command::new(program);
        command.args(first).arg("--home").arg(&self.home);
        command.arg("--instance").arg(self.spec.instance.to_string());
        let error = command.exec();
        super::say(&self.folder.shim_log(), &format!("could not become {program}: {error}"));
    }

    /// Reads the spec again.
    fn reload(&mut self, now_ms: u64) -> Result<(), String> {
        let spec = self.folder.spec().map_err(|error| format!("the spec: {error}"))?;
        if spec.incarnation != self.status.incarnation {
            return Err("the spec is of another life of this instance".to_owned());
        }
        if spec.port != self.spec.port && self.status.phase == Phase::Running {
            return Err("the port of a running process cannot change".to_owned());
        }
        self.spec = spec;
        self.adjust();
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::Waiting { until_ms: now_ms };
        }
        Ok(())
    }

    fn tree(&self) -> Tree<'_> {
        Tree {
            shim: self.status.shim.pid,
            leader: self.session,
            marker: self.marker.as_deref(),
            leaf: self.leaf.as_ref(),
            known: &self.known,
        }
    }

    /// Enters a phase, and tells the disk and control when that is news.
    fn enter(&mut self, phase: Phase, now_ms: u64) {
        if self.status.phase != phase {
            self.status.since_ms = now_ms;
        }
        self.status.phase = phase;
        self.status.process = self.leader.as_ref().map(|leader| leader.ident);
        self.write(true);
    }

    /// Writes the status if it is not on the disk yet. Returns whether it is there now.
    fn write(&mut self, news: bool) -> bool {
        if self.written.as_ref() == Some(&self.status) {
            return true;
        }
        if self.slate.write(&self.status).is_err() {
            return false;
        }
        self.written = Some(self.status.clone());
        if news {
            // A hint: control looks on its own every few seconds.
            let _best_effort = self.wake_control();
        }
        true
    }

    fn wake_control(&self) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let news = format!("shim {}\n", self.spec.instance);
        socket.send_to(news.as_bytes(), self.home.join(layout::WAKE_SOCKET)).map(drop)
    }
}
