//! How an instance comes up: taken over from a former shim, or started; and how it goes down on
//! its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use evenkeel_kernel::model::{Probe, address};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::WaitStatus;

use super::{Instance, Leader, MEMORY_LOOK_MS, Starting, State, Then};
use crate::artifact;
use crate::backoff::Backoff;
use crate::cgroup::Leaf;
use crate::child::{self, Program};
use crate::folder::{Folder, private_dir};
use crate::log::{self, Log};
use crate::process::{self, Ident, boot_id, now_ms};
use crate::secret;
use crate::shim::how;
use crate::shim::notify::Notify;
use crate::shim::probe::Exec;
use crate::spec::{self, Spec};
use crate::status::{Phase, Slate, Status};

/// How often a port that a stranger has is tried again.
const PORT_RETRY_MS: u64 = 1_000;
/// A process that uses its watchdog may miss it this many times in a row.
const WATCHDOG_MISSES: u64 = 3;
/// Why nobody can say how a process ended.
pub(super) const ENDED_UNSEEN: &str = "ended while its shim was away";

/// Why a process did not start.
enum Obstacle {
    /// A stranger has its port.
    Port,
    /// It cannot start as it is described.
    Description(String),
    /// Something else, likely to pass.
    Passing(String),
}

impl Instance {
    /// Takes an instance in hand: what already runs is taken over, else a start is due.
    pub(in crate::shim) fn take(home: PathBuf, folder: Folder, spec: Spec) -> io::Result<Self> {
        let now_ms = now_ms();
        let boot_id = boot_id()?;
        let earlier = folder.status().ok();
        let begun = earlier.clone().filter(|status| spec.once && status.begun);
        let before = earlier.filter(|status| status.boot_id == boot_id);
        let goes_on = before.as_ref().is_some_and(|status| status.phase != Phase::Stopped);
        let mut status = before.unwrap_or_else(|| first_status(&spec, boot_id, now_ms));
        if goes_on && status.incarnation != spec.incarnation {
            return Err(io::Error::other("an earlier life of this instance has not been ended"));
        }
        status.incarnation.clone_from(&spec.incarnation);
        status.shim = Ident::own()?;
        let leaf = Leaf::create(&home, &spec.instance, &spec.limits);
        let mut it = Self {
            log: Log::new(folder.log(), log::SIZE_MAX),
            marker: goes_on.then(|| spec.marker()),
            memory_kills: leaf.as_ref().map_or(0, Leaf::memory_kills),
            memory_at_ms: now_ms + MEMORY_LOOK_MS,
            slate: Slate::open(&folder.status_path())?,
            home,
            folder,
            spec,
            status,
            written: None,
            state: State::Waiting { until_ms: now_ms },
            leader: None,
            session: None,
            known: BTreeSet::new(),
            leaf,
            notify: None,
            exec: Exec::new(),
            backoff: Backoff::of_starts(),
            starting: Starting::default(),
            next: None,
        };
        it.adjust();
        if goes_on {
            it.take_over(now_ms);
        } else if let Some(begun) = begun {
            it.was_begun(&begun, now_ms);
        } else {
            it.status.phase = Phase::Backoff;
            it.status.since_ms = now_ms;
        }
        Ok(it)
    }

    /// Goes on where the former shim left off.
    fn take_over(&mut self, now_ms: u64) {
        let child = |ident: Ident| {
            let stat = process::stat(ident.pid).filter(|stat| stat.ident == ident);
            stat.is_some_and(|stat| stat.parent == self.status.shim.pid)
        };
        // Our own child, from when this process was another program: how it ended, if it has, is
        // told to us alone.
        let child = self.status.process.filter(|ident| child(*ident));
        if let Some(ident) = child.filter(|_| self.status.phase == Phase::Running) {
            self.leader = Some(Leader { ident, since_ms: self.status.since_ms, handle: None });
            self.session = Some(ident);
            self.state = State::Running;
            self.enter(Phase::Running, now_ms);
            return;
        }
        let named = self.status.process.filter(|ident| ident.lives());
        let found = match self.status.starting {
            true => named.or_else(|| self.tree().unreported_leader()),
            false => named,
        };
        let asked = self.status.phase == Phase::Stopping;
        self.status.starting = false;
        if let Some((ident, handle)) = found.and_then(|ident| Some((ident, ident.open()?))) {
            let since_ms = self.status.since_ms;
            self.leader = Some(Leader { ident, since_ms, handle: Some(handle) });
            self.session = Some(ident);
            self.state = State::Running;
            self.enter(Phase::Running, now_ms);
            if asked {
                self.stop(now_ms);
            }
            return;
        }
        if self.spec.once && self.status.begun && !asked {
            return self.ended_unseen(now_ms);
        }
        if self.status.process.take().is_some() && !asked {
            let ran_ms = now_ms.saturating_sub(self.status.since_ms);
            self.status.ended_by_itself(ENDED_UNSEEN.to_owned(), ran_ms);
        }
        let (then, phase) = match asked {
            true => (Then::End, Phase::Stopping),
            false => (Then::StartAt { ms: now_ms }, Phase::Backoff),
        };
        self.state = State::clearing(then, now_ms);
        self.enter(phase, now_ms);
    }

    /// Makes everything beside the process fit the spec.
    pub(super) fn adjust(&mut self) {
        if let Some(leaf) = &mut self.leaf {
            leaf.limit(&self.spec.limits);
        }
        let cpu_kept = self.leaf.as_ref().is_some_and(|leaf| leaf.limits_cpu);
        let cpu = self.spec.limits.cpu_milli.filter(|_| !cpu_kept);
        self.status.not_enforced = cpu.map(|_| "cpu".to_owned()).into_iter().collect();
        if self.spec.probe != Probe::Notify {
            self.notify = None;
        } else if self.notify.is_none() {
            let ready = self.status.notified;
            // Without it the instance is simply never ready, and says why when asked.
            self.notify = Notify::open(&self.folder.notify, self.watchdog_ms(), ready).ok();
        }
    }

    fn watchdog_ms(&self) -> u64 {
        let interval = u64::try_from(self.spec.probe_interval.as_millis()).unwrap_or(u64::MAX);
        interval.saturating_mul(WATCHDOG_MISSES).max(1)
    }

    /// Starts the process, or says why not.
    pub(super) fn start(&mut self, now_ms: u64) {
        if self.spec.once && self.status.begun {
            return self.ended_unseen(now_ms);
        }
        if self.status.port != self.spec.port {
            // What is said of the port before does not hold for this one.
            self.status.port = self.spec.port;
            self.status.phase = Phase::Backoff;
        }
        if let Some(pause_ms) = self.starting.wait_ms(&self.home, now_ms) {
            self.state = State::Waiting { until_ms: now_ms + pause_ms };
            return;
        }
        let started = self.try_start();
        self.status.starting = false;
        let (phase, reason, wait_ms) = match started {
            Ok(ident) => {
                self.leader = Some(Leader { ident, since_ms: now_ms, handle: None });
                self.session = Some(ident);
                self.state = State::Running;
                self.starting.began(now_ms);
                self.enter(Phase::Running, now_ms);
                return;
            }
            Err(Obstacle::Port) => {
                let reason = format!("port {} is taken by another program", self.spec.port);
                (Phase::PortTaken, reason, PORT_RETRY_MS)
            }
            Err(Obstacle::Description(reason)) => {
                (Phase::Unstartable, format!("cannot start: {reason}"), self.backoff.failed())
            }
            Err(Obstacle::Passing(reason)) => {
                (Phase::Backoff, format!("could not start: {reason}"), self.backoff.failed())
            }
        };
        self.starting = Starting::default();
        self.status.last_exit = Some(reason);
        self.state = State::Waiting { until_ms: now_ms + wait_ms };
        self.enter(phase, now_ms);
    }

    fn try_start(&mut self) -> Result<Ident, Obstacle> {
        if !is_free(self.spec.port) {
            return Err(Obstacle::Port);
        }
        let program = Program::find(self.spec.place(&self.home), &self.spec.run)
            .map_err(|obstacle| Obstacle::Description(obstacle.to_string()))?;
        let secrets = self.furnish().map_err(Obstacle::Passing)?;
        let mut command = program.command(&self.spec);
        command.envs(secrets);
        let log = self.log.open().and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|error| Obstacle::Passing(format!("its log: {error}")))?;
        command.stdout(out).stderr(err);
        if let Some(notify) = &mut self.notify {
            notify.reset();
            command.env("NOTIFY_SOCKET", &self.folder.notify);
            command.env("WATCHDOG_USEC", self.watchdog_ms().saturating_mul(1000).to_string());
        }
        self.exec = Exec::new();
        // Should we be killed before we can name the process, the next shim knows to look for it.
        (self.status.starting, self.status.notified) = (true, false);
        self.status.begun = self.spec.once;
        let written = self.write(false);
        if self.spec.once {
            // What is not known to have begun would begin again after a loss of power.
            self.settle(written).map_err(Obstacle::Passing)?;
        }
        let files_max = self.spec.limits.files;
        let spawned = child::spawn(command, self.leaf.as_ref(), files_max);
        self.status.begun &= spawned.is_ok();
        let pid = spawned.map_err(|error| obstacle(&error))?;
        // It is our child and not reaped yet, so it is there even if it has ended already.
        Ident::of(pid).ok_or_else(|| Obstacle::Passing("it cannot be seen in /proc".to_owned()))
    }

    /// Gives the instance its configuration files and its secrets. Returns those that are also in
    /// its environment.
    fn furnish(&self) -> Result<Vec<(String, OsString)>, String> {
        let told = |error: io::Error| format!("its configuration: {error}");
        if !self.spec.config.is_empty() {
            private_dir(&self.folder.config()).map_err(told)?;
        }
        for file in &self.spec.config {
            let path = Path::new(file);
            let Some((digest, name)) = self.spec.files.get(file).zip(path.file_name()) else {
                continue;
            };
            let kept = artifact::locate(&self.home, path, digest)?;
            // Copied beside and moved there: who reads it meanwhile reads a whole one.
            let (to, part) = (self.folder.config().join(name), self.folder.path().join("part"));
            std::fs::copy(kept, &part).and_then(|_| std::fs::rename(&part, to)).map_err(told)?;
        }
        let mut in_env = Vec::new();
        if !self.spec.secrets.is_empty() {
            private_dir(&self.folder.secrets()).map_err(told)?;
        }
        for (name, (digest, also_in_env)) in &self.spec.secrets {
            let mut content = secret::content(&self.home, name, digest)?;
            if let Some((path, application)) = self.spec.databases.get(name) {
                let base = String::from_utf8(content).map_err(|_private| {
                    format!("{name} is not an address: it is not UTF-8 text")
                })?;
                content = address(&base, path, application).into_bytes();
            }
            secret::deliver(&self.folder.secrets(), name, &content).map_err(told)?;
            if *also_in_env {
                // The end of the line in a file is not part of what it says.
                if content.last() == Some(&b'\n') {
                    content.pop();
                }
                in_env.push((name.clone(), OsString::from_vec(content)));
            }
        }
        Ok(in_env)
    }

    /// The leader has ended, asked or not. How is known of our own children only.
    pub(super) fn leader_ended(&mut self, status: Option<WaitStatus>, now_ms: u64) {
        let Some(leader) = self.leader.take() else { return };
        self.starting = Starting::default();
        let how = status.map_or_else(|| ENDED_UNSEEN.to_owned(), how);
        match self.state {
            State::Running => {
                let verdict = self.memory_verdict();
                let well = verdict.is_none() && status.and_then(|it| it.exit_status()) == Some(0);
                let how = verdict.unwrap_or(how);
                if self.spec.once && well {
                    return self.finish(how, true, now_ms);
                }
                self.failed(how, now_ms.saturating_sub(leader.since_ms), now_ms);
            }
            State::Asked { kill_at_ms, .. } => {
                self.status.last_exit = Some(how);
                self.state = State::Asked { kill_at_ms, look_at_ms: now_ms, pause_ms: 1 };
            }
            // Killed by us, and why is written already.
            State::Waiting { .. } | State::Clearing { .. } | State::Over | State::Ended => {}
        }
    }

    /// The process has failed: what is left of it is cleared away, then it starts again.
    fn failed(&mut self, how: String, ran_ms: u64, now_ms: u64) {
        if self.spec.once {
            return self.finish(how, false, now_ms);
        }
        self.status.ended_by_itself(how, ran_ms);
        let ms = now_ms + self.backoff.ended(ran_ms);
        self.state = State::clearing(Then::StartAt { ms }, now_ms);
        self.enter(Phase::Backoff, now_ms);
    }

    /// Whether the kernel has just killed in the instance because of its memory.
    fn memory_verdict(&mut self) -> Option<String> {
        let kills = self.leaf.as_ref().map_or(0, Leaf::memory_kills);
        let more = kills > self.memory_kills;
        self.memory_kills = kills;
        self.spec.limits.memory.filter(|_| more).map(over_memory)
    }

    /// Whether the memory limit is ours to keep.
    pub(super) fn watches_memory(&self) -> bool {
        self.spec.limits.memory.is_some() && !self.leaf.as_ref().is_some_and(|l| l.limits_memory)
    }

    /// Ends the process when it uses more memory than it may and nobody else watches.
    pub(super) fn watch_memory(&mut self, now_ms: u64) {
        let Some(limit) = self.spec.limits.memory else { return };
        if !self.watches_memory() || now_ms < self.memory_at_ms {
            return;
        }
        self.memory_at_ms = now_ms + MEMORY_LOOK_MS;
        if self.tree().resident() > limit {
            let since_ms = self.leader.as_ref().map_or(now_ms, |leader| leader.since_ms);
            self.failed(over_memory(limit), now_ms.saturating_sub(since_ms), now_ms);
        }
    }
}

fn over_memory(limit: u64) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    match limit.is_multiple_of(MEBIBYTE) {
        true => format!("over its memory limit of {}MiB", limit / MEBIBYTE),
        false => format!("over its memory limit of {limit} bytes"),
    }
}

fn first_status(spec: &Spec, boot_id: String, now_ms: u64) -> Status {
    Status {
        version: spec::VERSION,
        instance: spec.instance.clone(),
        incarnation: spec.incarnation.clone(),
        boot_id,
        phase: Phase::Backoff,
        since_ms: now_ms,
        port: spec.port,
        exits: 0,
        streak: 0,
        last_exit: None,
        process: None,
        starting: false,
        begun: false,
        well: None,
        notified: false,
        shim: Ident { pid: 0, start: 0 },
        fence: spec.fence,
        not_enforced: Vec::new(),
    }
}

/// Whether nobody listens on `port`. It is bound for a moment and never listened on, so no client
/// can be turned away by the question.
fn is_free(port: u16) -> bool {
    let bind = || -> rustix::io::Result<()> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
    };
    // Another error says nothing about the port, and the process may well fare better.
    bind() != Err(rustix::io::Errno::ADDRINUSE)
}

/// Tells errors that somebody has to mend from those that pass by themselves.
fn obstacle(error: &io::Error) -> Obstacle {
    let description = matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::ArgumentListTooLong
            | ErrorKind::InvalidInput
            | ErrorKind::ExecutableFileBusy
    ) || error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error());
    match description {
        true => Obstacle::Description(format!("its program: {error}")),
        false => Obstacle::Passing(error.to_string()),
    }
}
