//! Keeper, control and edge.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use evenkeel_control::api::types::VersionView;
use evenkeel_edge::handover::{self, Errand};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::who::Who;
use super::{Context, Step};
use crate::role;

/// How long a keeper may take until it holds everything again: it adopts within a second.
const KEEPER_MAX: Duration = Duration::from_secs(10);
/// How long control may take until it answers: it reads and checks its whole journal.
const CONTROL_MAX: Duration = Duration::from_secs(30);
/// How long an edge may take until it has its predecessor's place: sockets and probes have ten
/// seconds and three, and one that knows nothing of successors has fifteen to end.
const EDGE_MAX: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// What all three need.
pub(super) struct Job<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) again: bool,
}

impl Job<'_> {
    fn who(&self, role: &str) -> Option<Who> {
        Who::has(self.context.home, role)
    }

    /// What is to be said where nothing is to be done.
    fn stays(&self, role: &'static str, before: Option<&Who>) -> Option<Step> {
        let who = before.filter(|it| it.is_ours() && !self.again)?.clone();
        let text = format!("process {} runs this program already", who.pid);
        Some(Step { role, instance: None, before: Some(who.clone()), after: Some(who), text })
    }

    /// Asks the keeper, which may be about to open its door.
    async fn send(&self, errand: &Errand) -> io::Result<Result<u32, String>> {
        let until = Instant::now() + KEEPER_MAX;
        loop {
            match handover::send(self.context.home, errand.clone()) {
                Err(error) if is_closed(&error) && Instant::now() < until => {
                    tokio::time::sleep(LOOK).await;
                }
                answer => return answer,
            }
        }
    }

    fn log(&self, role: &str) -> String {
        role::last_words(self.context.home, role)
    }

    /// The keeper becomes this program in the same process, so that whoever supervises it has
    /// nothing to do.
    pub(super) async fn keeper(&self) -> anyhow::Result<Step> {
        let before = self.who("keeper");
        if let Some(step) = self.stays("keeper", before.as_ref()) {
            return Ok(step);
        }
        let program = role::own_program()?;
        let asked = match &before {
            Some(_) => self.send(&Errand::Become { program }).await,
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match asked {
            Ok(Ok(_pid)) => {}
            Ok(Err(because)) => bail!("the keeper goes on as it is: {because}"),
            // It knows no errands, or there is none: another one takes its place, which holds the
            // sockets as soon as the edge has offered them.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                if let Some(who) = &before {
                    end(who.pid, Signal::KILL);
                }
                role::spawn_keeper(self.context.home)?;
            }
            Err(error) => return Err(error).context("could not ask the keeper"),
        }
        let found = within(KEEPER_MAX, || {
            let who = self.who("keeper").filter(Who::is_ours)?;
            // It has its place when it opens its door.
            let answers = handover::send(self.context.home, Errand::Answer);
            matches!(answers, Ok(Ok(_))).then_some(who)
        });
        let Some(after) = found.await else {
            bail!("the keeper did not become this program; {}", self.log("keeper"));
        };
        Ok(replaced("keeper", before, after, ""))
    }

    /// Control ends, and the keeper starts it from its own program.
    pub(super) async fn control(&self) -> anyhow::Result<Step> {
        let before = self.who("control");
        if let Some(step) = self.stays("control", before.as_ref()) {
            return Ok(step);
        }
        if let Some(who) = &before {
            end(who.pid, Signal::TERM);
        }
        let until = Instant::now() + CONTROL_MAX;
        while Instant::now() < until {
            let former = before.as_ref().map(|it| it.pid);
            if let Some(after) =
                self.who("control").filter(|it| it.is_ours() && Some(it.pid) != former)
                && let Ok(version) = self.context.client.get::<VersionView>("/v1/version").await
                && version.pid == after.pid
            {
                return Ok(replaced("control", before, after, ""));
            }
            tokio::time::sleep(LOOK).await;
        }
        let words = self.log("control");
        let back = self.keeper_goes_back(before.as_ref()).await;
        Err(anyhow!("control does not answer as this program; {back}; {words}"))
    }

    /// Makes the keeper the program that control was, so that control is that again.
    async fn keeper_goes_back(&self, before: Option<&Who>) -> String {
        let Some(program) = before.and_then(|it| it.program.clone()) else {
            return "the keeper goes on trying".to_owned();
        };
        let back = self.send(&Errand::Become { program: (&program).into() }).await;
        match back {
            Ok(Ok(_)) => {
                if let Some(who) = self.who("control") {
                    end(who.pid, Signal::TERM);
                }
                let answers = async {
                    let until = Instant::now() + CONTROL_MAX;
                    while Instant::now() < until {
                        if self.context.client.get::<VersionView>("/v1/version").await.is_ok() {
                            return true;
                        }
                        tokio::time::sleep(LOOK).await;
                    }
                    false
                };
                match answers.await {
                    true => format!("it runs from {program} again"),
                    false => format!("the keeper starts it from {program} again"),
                }
            }
            Ok(Err(because)) => format!("the keeper cannot go back: {because}"),
            Err(error) => format!("the keeper cannot be asked to go back: {error}"),
        }
    }

    /// An edge of this program takes the place of the one that runs.
    pub(super) async fn edge(&self) -> anyhow::Result<Step> {
        let before = self.who("edge");
        if let Some(step) = self.stays("edge", before.as_ref()) {
            return Ok(step);
        }
        if before.is_none() {
            // The keeper starts it, from this program.
            let after = within(EDGE_MAX, || self.who("edge").filter(Who::is_ours)).await;
            let after = after.with_context(|| format!("no edge runs; {}", self.log("edge")))?;
            return Ok(replaced("edge", before, after, ""));
        }
        let asked = self.send(&Errand::SucceedEdge).await;
        let pid = match asked.context("could not ask the keeper")? {
            Ok(pid) => pid,
            Err(because) => bail!("no successor was started, and the edge goes on: {because}"),
        };
        let handle = open(pid);
        let found = within(EDGE_MAX, || {
            let there = self.who("edge").filter(|it| it.pid == pid).map(Some);
            // It has ended, and is nobody's edge.
            there.or_else(|| (!lives(pid)).then_some(None))
        });
        match found.await {
            Some(Some(after)) => {
                let leaves = before.as_ref().is_some_and(|it| lives(it.pid));
                let more = if leaves { "; the former one ends what it holds" } else { "" };
                Ok(replaced("edge", before, after, more))
            }
            Some(None) => bail!(
                "the successor ended before it was ready, and the edge goes on; {}",
                self.log("edge")
            ),
            None => {
                if let Some(handle) = handle {
                    let _gone_already = pidfd_send_signal(handle, Signal::KILL);
                }
                bail!(
                    "the successor was not ready after {} s and was ended, and the edge goes on; {}",
                    EDGE_MAX.as_secs(),
                    self.log("edge")
                )
            }
        }
    }
}

fn replaced(role: &'static str, before: Option<Who>, after: Who, more: &str) -> Step {
    let text = match &before {
        None => format!("process {} {}, which was not there", after.pid, after.version()),
        Some(before) if before.pid == after.pid => {
            format!("process {} {} → {}", after.pid, before.version(), after.version())
        }
        Some(before) => format!(
            "process {} {} → process {} {}{more}",
            before.pid,
            before.version(),
            after.pid,
            after.version()
        ),
    };
    Step { role, instance: None, before, after: Some(after), text }
}

/// Looks until there is something.
pub(super) async fn within<T>(most: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + most;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > until {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

fn open(pid: u32) -> Option<rustix::fd::OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Whether a process runs; one that only waits to be asked how it ended does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// If it is gone already, that is what is wanted.
fn end(pid: u32, signal: Signal) {
    if let Some(handle) = open(pid) {
        let _gone_already = pidfd_send_signal(handle, signal);
    }
}
