//! The command that says whether the instance is well, run now and then.

use std::path::Path;
use std::process::Stdio;

use evenkeel_kernel::model::Probe;
use rustix::process::{Signal, WaitStatus};

use crate::child::{self, Program};
use crate::process::Ident;
use crate::spec::Spec;

/// Before the first success it is asked at least this often, so that a start is noticed soon.
const INTERVAL_FIRST_MS: u64 = 1_000;
/// And never more often than this, whatever the spec says: each answer costs a process.
const INTERVAL_MIN_MS: u64 = 100;

/// The command's latest answer, and the next time it is asked.
#[derive(Debug)]
pub(super) struct Exec {
    latest: Result<(), String>,
    /// It succeeded once since the process started.
    succeeded: bool,
    at_ms: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    ident: Ident,
    until_ms: u64,
}

impl Exec {
    pub(super) fn new() -> Self {
        let latest = Err("its probe has not answered yet".to_owned());
        Self { latest, succeeded: false, at_ms: 0, running: None }
    }

    pub(super) fn latest(&self) -> Result<(), String> {
        self.latest.clone()
    }

    /// When there is something to do next.
    pub(super) fn next_ms(&self) -> u64 {
        self.running.as_ref().map_or(self.at_ms, |running| running.until_ms)
    }

    /// Asks when it is time, and gives up on what takes too long.
    pub(super) fn advance(&mut self, home: &Path, spec: &Spec, now_ms: u64) {
        let Probe::Exec { command } = &spec.probe else { return };
        if now_ms < self.next_ms() {
            return;
        }
        if let Some(running) = self.running.take() {
            kill_group(running.ident);
            let timeout = evenkeel_kernel::time::human(spec.probe_timeout);
            self.latest = Err(format!("its probe took longer than {timeout}"));
            self.at_ms = now_ms + self.interval_ms(spec);
            return;
        }
        self.at_ms = now_ms + self.interval_ms(spec);
        match start(home, spec, command) {
            Ok(ident) => {
                let timeout = u64::try_from(spec.probe_timeout.as_millis()).unwrap_or(u64::MAX);
                self.running = Some(Running { ident, until_ms: now_ms.saturating_add(timeout) });
            }
            Err(reason) => self.latest = Err(format!("its probe cannot run: {reason}")),
        }
    }

    fn interval_ms(&self, spec: &Spec) -> u64 {
        let asked = u64::try_from(spec.probe_interval.as_millis()).unwrap_or(u64::MAX);
        let cap = if self.succeeded { u64::MAX } else { INTERVAL_FIRST_MS };
        asked.min(cap).max(INTERVAL_MIN_MS)
    }

    /// Takes note of a child's end. Returns whether it was the probe.
    pub(super) fn reaped(&mut self, pid: u32, status: WaitStatus) -> bool {
        if self.running.take_if(|running| running.ident.pid == pid).is_none() {
            return false;
        }
        self.latest = match status.exit_status() {
            Some(0) => Ok(()),
            Some(_) | None => Err(format!("its probe ended with {}", super::how(status))),
        };
        self.succeeded |= self.latest.is_ok();
        true
    }
}

fn start(home: &Path, spec: &Spec, run: &[String]) -> Result<Ident, String> {
    let program = Program::find(spec.place(home), run).map_err(|obstacle| obstacle.to_string())?;
    let mut command = program.command(spec);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let pid = child::spawn(command, None, spec.limits.files).map_err(|error| error.to_string())?;
    Ident::of(pid).ok_or_else(|| "it cannot be seen in /proc".to_owned())
}

/// Kills a probe that has not been reaped yet, so that its number still means it, and its group.
/// What else it started is swept with the instance.
fn kill_group(ident: Ident) {
    if let Some(pid) = i32::try_from(ident.pid).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended just now.
        let _best_effort = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}
