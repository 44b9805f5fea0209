//! How an instance ends because it was asked to: a signal, a grace, and then nobody is left.

use evenkeel_kernel::model;
use rustix::process::{Pid, Signal};

use super::{Instance, State, Then};
use crate::cgroup::Leaf;
use crate::folder::remove_file;
use crate::process::{self, Ident};
use crate::status::Phase;

/// The longest pause between two looks for what is left.
const LOOK_PAUSE_MAX_MS: u64 = 250;

impl Instance {
    /// Ends the instance. Asking again changes nothing.
    pub(in crate::shim) fn stop(&mut self, now_ms: u64) {
        match self.state {
            State::Running => self.ask(now_ms),
            State::Waiting { .. }
            | State::Over
            | State::Clearing { then: Then::StartAt { .. } | Then::Stay, .. } => {
                self.state = State::clearing(Then::End, now_ms);
            }
            State::Asked { .. } | State::Clearing { then: Then::End, .. } | State::Ended => return,
        }
        self.enter(Phase::Stopping, now_ms);
    }

    /// Asks the leader, and everybody in its process group, to end.
    fn ask(&mut self, now_ms: u64) {
        let Some(leader) = &self.leader else { return };
        let (ident, adopted) = (leader.ident, leader.handle.is_some());
        if adopted {
            // What descends from it falls into nobody's hands when it ends.
            self.known = self.tree().members();
        }
        // Of our own children the number holds until we reap them.
        if !adopted || ident.lives() {
            signal_group(ident, signal(self.spec.stop.signal));
            // One that was paused could not hear it.
            signal_group(ident, Signal::CONT);
        }
        let grace = u64::try_from(self.spec.stop.grace.as_millis()).unwrap_or(u64::MAX);
        let kill_at_ms = now_ms.saturating_add(grace);
        self.state = State::Asked { kill_at_ms, look_at_ms: kill_at_ms, pause_ms: 1 };
    }

    /// Looks whether everybody who was asked has ended, or the grace is over.
    pub(super) fn look_for_end(&mut self, kill_at_ms: u64, pause_ms: u64, now_ms: u64) {
        // Those in the leader's group got the signal too and may use the whole grace, even when
        // the leader, say a shell around the server, was quicker.
        let some_left = self.leader.is_some() || self.session.is_some_and(group_lives);
        self.state = match some_left && now_ms < kill_at_ms {
            false => State::clearing(Then::End, now_ms),
            true => State::Asked {
                kill_at_ms,
                look_at_ms: kill_at_ms.min(now_ms + pause_ms),
                pause_ms: (pause_ms * 2).min(LOOK_PAUSE_MAX_MS),
            },
        };
    }

    /// Kills what is left, until a look finds nothing.
    pub(super) fn clear(&mut self, then: Then, pause_ms: u64, now_ms: u64) {
        let found = self.tree().kill();
        if !found.is_empty() || self.leader.is_some() {
            self.known.extend(found);
            self.state = State::Clearing {
                then,
                look_at_ms: now_ms + pause_ms,
                pause_ms: (pause_ms * 2).min(LOOK_PAUSE_MAX_MS),
            };
            return;
        }
        self.known.clear();
        self.session = None;
        match then {
            Then::StartAt { ms } => self.state = State::Waiting { until_ms: ms },
            Then::Stay => self.over(now_ms),
            Then::End => {
                // A secret lies nowhere longer than it is needed.
                let _best_effort = std::fs::remove_dir_all(self.folder.secrets());
                self.state = State::Ended;
                self.enter(Phase::Stopped, now_ms);
                // Should they stay, they are empty and harmless.
                let _removed = remove_file(&self.folder.notify);
                let _removed = self.leaf.take().as_ref().map(Leaf::remove);
            }
        }
    }
}

/// Sends `signal` to the process group that `leader` leads. The leader must live, or be a child
/// that was not reaped: then its number means it.
fn signal_group(leader: Ident, signal: Signal) {
    if let Some(pid) = pid(leader) {
        // It may have ended just now.
        let _best_effort = rustix::process::kill_process_group(pid, signal);
    }
}

/// Whether anybody lives in the process group that `leader` led.
fn group_lives(leader: Ident) -> bool {
    // The quick question also counts those that ended and were not reaped by their parents yet.
    pid(leader).is_some_and(|pid| rustix::process::test_kill_process_group(pid).is_ok())
        && process::all().iter().any(|stat| stat.group == leader.pid && !stat.ended)
}

fn pid(ident: Ident) -> Option<Pid> {
    Pid::from_raw(ident.pid.try_into().ok()?)
}

fn signal(signal: model::Signal) -> Signal {
    match signal {
        model::Signal::Term => Signal::TERM,
        model::Signal::Int => Signal::INT,
        model::Signal::Quit => Signal::QUIT,
        model::Signal::Hup => Signal::HUP,
        model::Signal::Usr1 => Signal::USR1,
        model::Signal::Usr2 => Signal::USR2,
    }
}
