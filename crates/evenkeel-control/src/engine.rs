//! The loop: observe, decide, commit, decide again, and only then act.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_journal::{
    BACKUPS, BODY_BYTES_MAX, Journal, Row, Seq, Store as _, StoreError, Version, kept_bytes,
};
use evenkeel_kernel::layout;
use evenkeel_kernel::model::{Epoch, InstanceId, PoolId, Stack};
use evenkeel_kernel::release::{Action, Decision, Note, Refusal, State};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want::{self, Want};
use evenkeel_kernel::world::{Observed, World};
use evenkeel_local::{Local, artifact, secret};

use crate::calendar;
use crate::clock::{Clock, wall_ms};
use crate::events::{self, Events};
use crate::hands::Hands;
use crate::notify;
use crate::orders::{Acted, Inbox, Order};
use crate::saved;
use crate::snapshot::{Latest, Snapshot};
use crate::startable;

/// Time between two looks while a release is under way: bakes and minimum ready times pass
/// without any event.
const LOOK_RELEASING: Duration = Duration::from_millis(100);
/// Time between two looks otherwise. Edge and shims tell of changes; this is for what they miss.
const LOOK_IDLE: Duration = Duration::from_secs(2);
/// The shortest pause between two looks, so that a thousand events cost one look.
const LOOK_MIN: Duration = Duration::from_millis(10);
/// The pause is at least so many times as long as the look was: a fleet that is large leaves the
/// processor to what it runs.
const PAUSE_PER_LOOK: u32 = 1;
/// And never longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A longer time between two looks was not watched: this process was stopped, or the machine slept.
/// What follows is as after a start.
const UNWATCHED: Duration = Duration::from_secs(5);
/// Decisions before which the journal is backed up: the start of a release and its point of no
/// return.
const BACKED_UP: [&str; 2] = ["release.started", "release.point-of-no-return"];
/// Copies of programs that are younger than this may belong to a change that is on its way here.
const ARTIFACT_AGE: Duration = Duration::from_secs(600);
/// Time between two checks of the journal's whole chain.
const VERIFY: Duration = Duration::from_secs(3600);
/// How the engine signs what it decides itself.
const ENGINE: &str = "evenkeel";
/// How long control stays quiet after it has stopped everything.
const STOPPED_MAX: Duration = Duration::from_secs(60);
/// How long stopping everything may take beyond the longest drain and grace.
const STOP_ALL_SPARE: Duration = Duration::from_secs(10);

/// The engine, with everything it owns.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) home: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) version: Version,
    pub(crate) head: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Clock,
    /// When the journal's chain was last walked.
    pub(crate) verified: Timestamp,
    pub(crate) state: State,
    pub(crate) hands: Hands,
    pub(crate) local: Arc<Local>,
    pub(crate) inbox: Inbox,
    pub(crate) latest: Latest,
    pub(crate) events: Events,
}

impl Engine {
    /// Runs until something fails that only a new process can mend.
    ///
    /// A failed commit has an unknown result: the process ends, and its successor re-reads.
    pub(crate) fn run(mut self) -> Result<(), StoreError> {
        let mut began = Instant::now();
        let mut looked = self.clock.now();
        loop {
            let now = self.clock.now();
            if now.since(looked) >= UNWATCHED {
                self.state = self.state.resumed(now);
            }
            looked = now;
            let world = self.hands.observe(self.state.zones(), now);
            if let Some(decision) = self.state.decide(&world, now) {
                self.commit(decision, ENGINE)?;
                continue;
            }
            self.publish(&world, now);
            for want in self.state.wants(self.epoch) {
                self.hands.make_true(want, now);
            }
            if self.wait(&world, began.elapsed())? {
                return Ok(());
            }
            began = Instant::now();
            if now.since(self.verified) >= VERIFY {
                self.journal.verify()?;
                self.verified = now;
            }
        }
    }

    /// Waits for news or an order, after a look that took so long. Returns whether everything has
    /// been stopped.
    ///
    /// News comes in crowds, so what follows the first is waited for a moment; what a person has
    /// ordered follows at once.
    fn wait(&mut self, world: &World, took: Duration) -> Result<bool, StoreError> {
        let look = if self.state.release.is_some() { LOOK_RELEASING } else { LOOK_IDLE };
        let pause = (took * PAUSE_PER_LOOK).clamp(LOOK_MIN, PAUSE_MAX);
        let mut until = Instant::now() + look;
        while let Some(order) = self.inbox.next(until.saturating_duration_since(Instant::now())) {
            match order {
                Order::Changed => until = until.min(Instant::now() + pause),
                Order::Act { action, by, reply } => {
                    let answer = self.act(*action, &by, world)?;
                    // Who asked may be gone; what was decided stands.
                    drop(reply.send(answer));
                    return Ok(false);
                }
                Order::Tail { after, limit, reply } => {
                    let entries = self.journal.tail(Seq(after), limit)?;
                    let events =
                        entries.iter().map(|entry| events::event(entry.seq, &entry.row)).collect();
                    drop(reply.send(events));
                }
                Order::StopAll { by, reply } => {
                    let stopped = self.stop_all(&by);
                    let all = stopped.is_ok();
                    drop(reply.send(stopped));
                    if all {
                        // The roles are ended next. Should nobody do it, life goes on.
                        std::thread::sleep(STOPPED_MAX);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn act(&mut self, action: Action, by: &str, world: &World) -> Result<Acted, StoreError> {
        let before = self.head;
        let forced = matches!(action, Action::Rollback { force: true, .. });
        let is_change = matches!(action, Action::Change(_));
        let now = self.clock.now();
        // The world was looked at without knowing which clocks a change asks for.
        let seen = if let Action::Change(change) = &action {
            Cow::Owned(with_clocks(&self.state, world, &change.wanted, now))
        } else {
            Cow::Borrowed(world)
        };
        let accepted = match self.state.act(action, by, &seen, now) {
            Ok(accepted) => accepted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let decided = accepted.decision.as_ref().filter(|_| !forced);
        if let Some(refusal) =
            decided.and_then(|it| startable::refused(&self.home, &self.state, it))
        {
            return Ok(Err(refusal));
        }
        // Whoever goes back is not refused for that.
        let grows = accepted.decision.as_ref().filter(|_| is_change);
        if let Some(refusal) = grows.and_then(|it| too_large(&it.state)) {
            return Ok(Err(refusal));
        }
        if let Some(decision) = accepted.decision.clone() {
            self.commit(decision, by)?;
            let now = self.clock.now();
            self.publish(&seen, now);
        }
        Ok(Ok((accepted, before)))
    }

    fn commit(&mut self, decision: Decision, by: &str) -> Result<(), StoreError> {
        let Decision { state, notes } = decision;
        if self.head > Seq(0) && notes.iter().any(|note| BACKED_UP.contains(&note.kind)) {
            self.journal.backup(&self.home.join(layout::STATE).join(BACKUPS))?;
        }
        let ended = self.state.release.is_some() && state.release.is_none();
        let at = wall_ms();
        let rows: Vec<Row> = notes.iter().map(|note| row(note, by, at)).collect();
        let body = saved::encode(&state);
        self.version =
            self.journal.commit(self.version, self.epoch, &rows, saved::FORMAT, &body)?;
        self.head = Seq(self.head.0 + rows.len() as u64);
        self.state = state;
        for note in &notes {
            crate::log::line(&note.text);
        }
        if !rows.is_empty() {
            self.events.committed(&rows, self.head);
        }
        if ended {
            self.sweep();
        }
        Ok(())
    }

    /// Deletes what no kept revision needs any more.
    fn sweep(&self) {
        let services = &self.state.services;
        let forgotten = self.local.forget(|id: &InstanceId| {
            let service = services.get(&id.pool.service);
            let kept = service.and_then(|service| service.revisions.get(&id.pool.revision));
            kept.is_some_and(|kept| kept.remembers(id.slot))
        });
        if let Err(error) = forgotten {
            crate::log::line(&format!("could not delete old instances: {error}"));
        }
        let kept = services.values().flat_map(|service| service.revisions.values());
        let kept = kept.map(|kept| &*kept.revision.workload);
        let queued = self.state.queued.iter().flat_map(|queued| queued.wanted.workloads());
        let (mut files, mut secrets) = (BTreeSet::new(), BTreeSet::new());
        for workload in kept.chain(queued.map(|(_, workload)| workload)) {
            files.extend(workload.files.values().cloned());
            secrets.extend(workload.secrets.values().filter_map(|secret| secret.digest.clone()));
        }
        secrets.extend(notify::secrets(&self.state));
        if let Err(error) = artifact::sweep(&self.home, &files, ARTIFACT_AGE) {
            crate::log::line(&format!("could not delete old artifacts: {error}"));
        }
        if let Err(error) = secret::sweep(&self.home, &secrets, ARTIFACT_AGE) {
            crate::log::line(&format!("could not delete old secrets: {error}"));
        }
    }

    fn publish(&self, world: &World, now: Timestamp) {
        self.latest.publish(Snapshot {
            state: Arc::new(self.state.clone()),
            world: Arc::new(world.clone()),
            epoch: self.epoch,
            now,
            wall_ms: wall_ms(),
        });
    }

    /// Stops every instance and waits until none is left. The state stays as it is, so the next
    /// start brings everything back.
    fn stop_all(&mut self, by: &str) -> Result<(), String> {
        crate::log::line(&format!("{by} stops everything"));
        let mut longest = Duration::ZERO;
        for want in self.state.wants(self.epoch) {
            if let Want::Pool(pool) = want {
                longest = longest.max(pool.workload.stop.grace);
                self.hands.empty(*pool);
            }
        }
        longest = longest.max(self.empty_leftovers());
        let deadline = self.clock.now().after(longest + STOP_ALL_SPARE);
        loop {
            let now = self.clock.now();
            let platform = self.local.observe(now);
            let left: Vec<String> = match platform.known() {
                Some(platform) => platform.instances.keys().map(ToString::to_string).collect(),
                None => vec!["instances that cannot be observed".to_owned()],
            };
            if left.is_empty() {
                return Ok(());
            }
            if now >= deadline {
                return Err(format!("still there: {}", left.join(", ")));
            }
            drop(self.inbox.next(LOOK_RELEASING));
        }
    }

    /// Empties the pools that the state knows nothing of, such as those of a release that was lost
    /// with it. Returns the longest grace of their services.
    fn empty_leftovers(&self) -> Duration {
        let observed = self.local.observe(self.clock.now());
        let running = observed.known().into_iter().flat_map(|it| it.instances.keys());
        let pools: BTreeSet<&PoolId> =
            running.map(|id| &id.pool).filter(|pool| !self.state.knows(pool)).collect();
        let mut longest = Duration::ZERO;
        // How an instance is stopped is in its own folder; any workload of its service will do.
        let known = self.state.wants(self.epoch);
        for pool in pools {
            let mut pattern = known.iter().filter_map(|want| {
                let Want::Pool(known) = want else { return None };
                (known.id.service == pool.service).then_some(known)
            });
            if let Some(known) = pattern.next() {
                longest = longest.max(known.workload.stop.grace);
                let leftover = want::Pool { id: pool.clone(), ..(**known).clone() };
                self.hands.empty(leftover);
            }
        }
        longest
    }
}

/// The world, with the clocks of a stack that is asked for.
pub(crate) fn with_clocks(state: &State, world: &World, wanted: &Stack, now: Timestamp) -> World {
    let calendar = calendar::now(state.zones().into_iter().chain(wanted.zones()));
    World { calendar: Observed::Known(calendar, now), ..world.clone() }
}

/// Why a state is not even begun with, if the journal might not keep what becomes of it.
fn too_large(state: &State) -> Option<Refusal> {
    let (is, may) = (kept_bytes(&saved::encode(state)).ok()?, BODY_BYTES_MAX / 2);
    (is > may).then(|| Refusal {
        reason: format!(
            "this stack takes {} KiB where it is kept, more than the {} KiB that leave room for a \
             release",
            is >> 10,
            may >> 10
        ),
        hint: Some(
            "describe it by several files, each with an $EVENKEEL_HOME of its own".to_owned(),
        ),
    })
}

fn row(note: &Note, by: &str, at: u64) -> Row {
    let body = serde_json::json!({ "text": note.text }).to_string();
    Row { release: note.release, at, actor: by.to_owned(), kind: note.kind.to_owned(), body }
}
