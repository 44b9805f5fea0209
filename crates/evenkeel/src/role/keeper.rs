//! The keeper: holds the listening sockets, starts control and edge, and restarts what dies.
//!
//! It is small and synchronous on purpose. It knows neither releases nor requests.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evenkeel_edge::handover::{Errand, Holder};
use rustix::fs::Access;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::claim;
use super::start::spawn;

/// The first pause before a role is started again; it doubles with every quick death.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause. Who waits in the sockets' queues waits for it, and a start a second costs
/// next to nothing.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A role that has lived this long did not die quickly.
const STEADY: Duration = Duration::from_secs(30);
/// How long the holder may wait for messages before the roles are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long nobody may have a role while one process takes another's place.
const SUCCESSION: Duration = Duration::from_millis(30);
/// How long a role may take to end when it is told to; the edge drains meanwhile.
const END_MAX: Duration = Duration::from_secs(15);

/// Keeps control and edge alive until it is told to end. `children` are processes that it started
/// when it was another program.
pub(super) fn run(home: &Path, children: &[u32]) -> anyhow::Result<()> {
    let claim = claim::take(home, "keeper")?;
    let ending = Arc::new(AtomicBool::new(false));
    // A child's death interrupts the holder's wait, so it is seen at once.
    let child_died = Arc::new(AtomicBool::new(false));
    for (signal, flag) in [(SIGTERM, &ending), (SIGINT, &ending), (SIGCHLD, &child_died)] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .context("could not listen for signals")?;
    }
    let mut holder = Holder::bind(home).context("could not open the keeper's socket")?;
    let mut roles = [Kept::new(home, "edge"), Kept::new(home, "control")];
    let mut strays: Vec<Pid> = children.iter().copied().filter_map(pid).collect();
    let mut next = None;
    while !ending.load(Ordering::Acquire) {
        strays.retain(|it| matches!(waitpid(Some(*it), WaitOptions::NOHANG), Ok(None)));
        for role in &mut roles {
            role.look();
        }
        let [edge, _] = &mut roles;
        let mut errand = |errand: &Errand| match errand {
            Errand::Answer => Ok(std::process::id()),
            Errand::SucceedEdge => edge.succeed(),
            Errand::Become { program } => {
                can_be_run(program)?;
                next = Some(program.clone());
                Ok(std::process::id())
            }
        };
        holder.serve(LOOK, &mut errand).context("could not serve the listening sockets")?;
        if let Some(program) = next.take() {
            let children = roles.iter().flat_map(Kept::children);
            let children = children.chain(strays.iter().map(|it| it.as_raw_nonzero().get()));
            let error = become_program(&program, home, children);
            say(&format!("could not become {}: {error}", program.display()));
        }
    }
    // Control first: it would see the edge go and wonder.
    for role in roles.iter_mut().rev() {
        role.end();
    }
    drop(claim);
    Ok(())
}

fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

fn can_be_run(program: &Path) -> Result<(), String> {
    let may = rustix::fs::access(program, Access::EXEC_OK | Access::READ_OK);
    match may {
        Ok(()) if program.is_absolute() && program.is_file() => Ok(()),
        Ok(()) => Err(format!("{} is no program with a whole path", program.display())),
        Err(error) => Err(format!("{} cannot be run: {error}", program.display())),
    }
}

/// Is `program` from now on, in the same process: whoever supervises the keeper notices nothing.
/// The listening sockets are adopted from the edge, as by any new keeper. Returns only what was
/// wrong.
fn become_program(
    program: &Path,
    home: &Path,
    children: impl Iterator<Item = i32>,
) -> std::io::Error {
    let children: Vec<String> = children.map(|it| it.to_string()).collect();
    say(&format!("goes on as {}", program.display()));
    let mut command = Command::new(program);
    command.args(["role", "keeper", "--home"]).arg(home);
    if !children.is_empty() {
        command.args(["--children", &children.join(",")]);
    }
    command.exec()
}

/// A role that is kept running.
#[derive(Debug)]
struct Kept {
    home: PathBuf,
    name: &'static str,
    /// The process, if this keeper started it. Another keeper's child is known by its lock only.
    child: Option<Child>,
    /// Processes that are not the role any more, or not yet.
    others: Vec<Child>,
    started: Instant,
    quick_deaths: u32,
    /// When it may be started next.
    not_before: Instant,
    seen_alive: bool,
}

impl Kept {
    fn new(home: &Path, name: &'static str) -> Self {
        let now = Instant::now();
        let seen_alive = claim::is_running(home, name);
        Self {
            home: home.to_owned(),
            name,
            child: None,
            others: Vec::new(),
            started: now,
            quick_deaths: 0,
            not_before: now,
            seen_alive,
        }
    }

    /// Starts a process that takes the place of the one that lives. Until it has, and when it does
    /// not, the other goes on; the lock says which it is.
    fn succeed(&mut self) -> Result<u32, String> {
        if !claim::is_running(&self.home, self.name) {
            return Err(format!("no {} runs", self.name));
        }
        let child = spawn(&self.home, self.name, &["--succeed"]);
        let child = child.map_err(|error| format!("{error:#}"))?;
        let pid = child.id();
        self.others.extend(self.child.take());
        self.others.push(child);
        self.seen_alive = true;
        Ok(pid)
    }

    /// All processes that it has started and not seen end.
    fn children(&self) -> impl Iterator<Item = i32> {
        let all = self.child.iter().chain(&self.others);
        all.filter_map(|child| i32::try_from(child.id()).ok())
    }

    /// Whether it lives. One that leaves its place and one that takes it need a moment for that.
    fn is_running(&self) -> bool {
        claim::is_running(&self.home, self.name) || {
            std::thread::sleep(SUCCESSION);
            claim::is_running(&self.home, self.name)
        }
    }

    /// Starts it, if it does not live and its pause is over.
    fn look(&mut self) {
        self.others.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => {
                    say(&format!("{} ended with {status}", self.name));
                    self.child = None;
                    self.died();
                }
                Err(error) => {
                    say(&format!("could not look after {}: {error}", self.name));
                    return;
                }
            }
        } else if self.seen_alive {
            if self.is_running() {
                return;
            }
            say(&format!("{} is gone", self.name));
            self.seen_alive = false;
            self.died();
        }
        if Instant::now() < self.not_before {
            return;
        }
        if claim::is_running(&self.home, self.name) {
            // Somebody else has started it.
            self.seen_alive = true;
            return;
        }
        match spawn(&self.home, self.name, &[]) {
            Ok(child) => {
                self.child = Some(child);
                self.started = Instant::now();
            }
            Err(error) => {
                say(&format!("{error:#}"));
                self.died();
            }
        }
    }

    /// Decides when it may be started again: at once after a steady life, else ever later.
    fn died(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.started) >= STEADY {
            self.quick_deaths = 0;
        }
        // The first death in a row costs no pause: the sockets' queues are waiting.
        let pause = match self.quick_deaths {
            0 => Duration::ZERO,
            deaths => PAUSE_FIRST.saturating_mul(1 << (deaths - 1).min(16)).min(PAUSE_MAX),
        };
        self.quick_deaths = self.quick_deaths.saturating_add(1);
        self.not_before = now + pause;
    }

    /// Tells it to end and waits until it has.
    fn end(&mut self) {
        let pid = claim::pid_of(&self.home, self.name).and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + END_MAX;
        while claim::is_running(&self.home, self.name) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(child) = &mut self.child {
            if claim::is_running(&self.home, self.name) {
                say(&format!("{} does not end and is killed", self.name));
                drop(child.kill());
            }
            drop(child.wait());
        }
    }
}

/// Writes one line into the keeper's log.
fn say(text: &str) {
    crate::term::note(&format!("keeper: {text}"));
}
