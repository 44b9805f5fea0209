//! What people ask for: a change, a pause, a promotion, a way back. Each is a function from a
//! state to another state, or to the reason why not.

use std::fmt;
use std::sync::Arc;

use super::decide::Decision;
use super::state::{Because, Kind, Note, Outcome, Past, Paused, Phase, Queued, State};
use crate::model::{ReleaseId, RevisionNumber, ServiceName, Stack};
use crate::plan::{Plan, plan};
use crate::time::Timestamp;
use crate::world::World;

/// A stack to lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What is wanted.
    pub wanted: Stack,
    /// What asks for it.
    pub kind: Kind,
    /// Go ahead although the same revision was taken back before.
    pub force: bool,
}

/// What a person can ask of the release under way, or of a service.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Lead to another stack.
    Change(Box<Change>),
    /// Stay at the present step.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Take the next step now; with `full`, all of them. After promotion: contract now.
    Promote {
        /// To all traffic.
        full: bool,
    },
    /// Stop and go back, before all traffic has moved.
    Abort,
    /// Go back, whatever the release has reached; after it ended, by a new release.
    Rollback {
        /// One service and the revision it goes back to; else everything the last release moved.
        to: Option<(ServiceName, RevisionNumber)>,
        /// Go ahead although that revision was taken back before.
        force: bool,
    },
    /// Have so many instances of a service.
    Scale {
        /// Which service.
        service: ServiceName,
        /// How many.
        replicas: u32,
    },
    /// Replace all instances of these services by fresh ones of the same content.
    Restart {
        /// Which services; none is all.
        services: Vec<ServiceName>,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The state to commit, and the journal's notes. `None` when all is as asked for already.
    pub decision: Option<Decision>,
    /// The release that does it, if one does.
    pub release: Option<ReleaseId>,
    /// One sentence for the person who asked.
    pub text: String,
}

/// Why a request is refused, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What speaks against it: a lower-case fragment.
    pub reason: String,
    /// What to do instead.
    pub hint: Option<String>,
}

impl Refusal {
    fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Refusal {}

impl State {
    /// Does what `by` asks for.
    ///
    /// # Errors
    ///
    /// When it cannot be done now; nothing has changed then.
    pub fn act(
        &self,
        action: Action,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        match action {
            Action::Change(change) => self.change(*change, by, world, now),
            Action::Pause => self.pause(by, world, now),
            Action::Resume => self.resume(by, world, now),
            Action::Promote { full } => self.promote(full, by, world, now),
            Action::Abort => self.abort(by, world, now),
            Action::Rollback { to, force } => self.roll_back(to, force, by, world, now),
            Action::Scale { service, replicas } => self.scale(&service, replicas, by, world, now),
            Action::Restart { services } => self.restart(&services, by, world, now),
        }
    }

    /// What `wanted` would change, seen from where the release under way will have ended.
    #[must_use]
    pub fn preview(&self, wanted: &Stack) -> Plan {
        let wanted = self.carry_over(wanted.clone());
        let settled = self.settled();
        plan(&settled.now(&wanted), &wanted)
    }

    /// One sentence on what comes before a new change, if a release is under way.
    #[must_use]
    pub fn comes_before(&self) -> Option<String> {
        let release = self.release.as_ref()?;
        let id = release.id;
        Some(match release.phase {
            Phase::Expanding | Phase::Shifting { .. } => {
                format!("release {id} is under way; it is taken back first (superseded)")
            }
            Phase::Baking => format!("release {id} is promoted; it is contracted first"),
            Phase::Contracting => format!("release {id} is contracting; it is waited for"),
            Phase::TurningBack(_) => format!("release {id} is turning back; it is waited for"),
        })
    }

    fn change(
        &self,
        change: Change,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let Change { wanted, kind, force } = change;
        let deployed = self.services.values().any(super::state::Service::is_there);
        if wanted.name != self.stack.name && (deployed || self.release.is_some()) {
            return Err(Refusal::new(
                format!("this is stack {}, not {}", self.stack.name, wanted.name),
                "give each stack an $EVENKEEL_HOME of its own, or name the stack as before",
            ));
        }
        let wanted = self.carry_over(wanted);
        if let Some(release) = self.forward().filter(|release| *release.wanted == wanted) {
            let text = format!("release {} is on its way to this already", release.id);
            let release = Some(release.id);
            return Ok(Accepted { decision: None, release, text });
        }
        let superseding = self.release.is_some();
        if !superseding && self.preview(&wanted).is_empty() {
            let text = "nothing changes".to_owned();
            return Ok(Accepted { decision: None, release: None, text });
        }
        if !force {
            self.refuse_held_back(&wanted)?;
        }
        let mut next = self.clone();
        let id = self.last_release.next();
        next.last_release = id;
        if !deployed && !superseding {
            next.stack = Arc::new(Stack::empty(wanted.name.clone()));
        }
        let queued = Queued { id, kind, by: by.to_owned(), wanted: Arc::new(wanted) };
        let notes = next.admit(queued, by, world, now);
        let text = match self.comes_before() {
            Some(before) => format!("release {id} is accepted: {before}"),
            None => format!("release {id} is started"),
        };
        Ok(self.accept(next, notes, Some(id), text, world, now))
    }

    /// Starts the change, or lines it up behind what is under way.
    fn admit(&mut self, queued: Queued, by: &str, world: &World, now: Timestamp) -> Vec<Note> {
        let Some(release) = &mut self.release else { return self.start(queued, world, now) };
        let id = queued.id;
        let mut notes = vec![Note {
            release: Some(id),
            kind: "release.queued",
            text: format!("release {id} by {by} waits for release {}", release.id),
        }];
        match release.phase {
            Phase::Expanding | Phase::Shifting { .. } => {
                notes.extend(self.turn_back(Because::Superseded(id), now));
            }
            Phase::Baking => {
                let release = Arc::make_mut(release);
                release.bake.waived = true;
                release.paused = None;
                release.progress = now;
            }
            Phase::Contracting | Phase::TurningBack(_) => {}
        }
        if let Some(replaced) = self.queued.replace(queued) {
            notes.push(Note {
                release: Some(replaced.id),
                kind: "release.ended",
                text: format!("release {} ended: superseded before it started", replaced.id),
            });
            self.remember(unstarted(replaced, id, now));
        }
        notes
    }

    fn refuse_held_back(&self, wanted: &Stack) -> Result<(), Refusal> {
        for (name, described) in &wanted.services {
            let Some(service) = self.services.get(name) else { continue };
            let digest = described.workload.digest();
            let serves = service.stable.is_some() && service.find(&digest) == service.stable;
            let Some(reason) = service.held_back.get(&digest).filter(|_| !serves) else { continue };
            return Err(Refusal::new(
                format!("this revision of {name} was taken back before: {reason}"),
                "change it, or try it once more as it is with --force",
            ));
        }
        Ok(())
    }

    /// The wanted stack with what only the running system knows: how often a person asked for a
    /// restart.
    fn carry_over(&self, mut wanted: Stack) -> Stack {
        let settled = self.settled();
        for (name, service) in &mut wanted.services {
            let Some(live) = settled.services.get(name) else { continue };
            let kept = live.stable.and_then(|stable| live.revisions.get(&stable));
            let restarts = kept.map_or(0, |kept| kept.revision.workload.restarts);
            service.workload.restarts = service.workload.restarts.max(restarts);
        }
        wanted
    }

    /// The state as it will be once the release under way has ended by itself: a promoted one by
    /// contract, any other by going back.
    fn settled(&self) -> std::borrow::Cow<'_, Self> {
        let Some(release) = self.release.as_ref().filter(|it| it.phase == Phase::Baking) else {
            return std::borrow::Cow::Borrowed(self);
        };
        let mut settled = self.clone();
        for (name, rollout) in &release.rollouts {
            if let Some(service) = settled.services.get_mut(name) {
                service.stable = Some(rollout.to);
            }
        }
        for (name, service) in &mut settled.services {
            match release.wanted.services.get(name) {
                Some(described) => service.replicas = described.replicas,
                None => service.stable = None,
            }
        }
        settled.stack = release.wanted.clone();
        std::borrow::Cow::Owned(settled)
    }

    fn pause(&self, by: &str, world: &World, now: Timestamp) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("pause")?;
        if !release.phase.is_forward() {
            let text = format!("release {} is {}", release.id, release.phase.name());
            return Err(Refusal::new(text, "it ends by itself; there is nothing to pause"));
        }
        let id = release.id;
        if release.paused.is_some() {
            let text = format!("release {id} is paused already");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.paused = Some(Paused { by: by.to_owned(), since: now });
        release.bake.seen = None;
        let text = format!("release {id} paused by {by}");
        Ok(self.accept_note(next, id, "release.paused", text, world, now))
    }

    fn resume(&self, by: &str, world: &World, now: Timestamp) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("resume")?;
        let id = release.id;
        if release.paused.take().is_none() {
            let text = format!("release {id} is not paused");
            return Ok(Accepted { decision: None, release: Some(id), text });
        }
        release.progress = now;
        let text = format!("release {id} resumed by {by}");
        Ok(self.accept_note(next, id, "release.resumed", text, world, now))
    }

    fn promote(
        &self,
        full: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("promote")?;
        let id = release.id;
        if !release.phase.is_forward() {
            let text = format!("release {id} is {}", release.phase.name());
            return Err(Refusal::new(text, "it ends by itself; there is nothing to promote"));
        }
        if release.phase == Phase::Expanding && !full {
            return Err(Refusal::new(
                format!("release {id} is still starting the new instances"),
                "wait for its first step, or use --full to skip all of them",
            ));
        }
        release.paused = None;
        release.hurried = true;
        release.progress = now;
        if full && release.phase != Phase::Baking {
            for rollout in release.rollouts.values_mut() {
                // One step remains: everything.
                if matches!(rollout.strategy, crate::model::Strategy::Canary { .. }) {
                    rollout.strategy = crate::model::Strategy::Canary { steps: Vec::new() };
                }
            }
            if let Phase::Shifting { step, .. } = &mut release.phase {
                *step = 0;
            }
        } else {
            release.bake.waived = true;
        }
        let text = if release.phase == Phase::Baking {
            format!("release {id} is contracted now, by {by}")
        } else if full {
            format!("release {id} is promoted to all traffic by {by}")
        } else {
            format!("release {id} is promoted to its next step by {by}")
        };
        Ok(self.accept_note(next, id, "release.promoted-by-hand", text, world, now))
    }

    fn abort(&self, by: &str, world: &World, now: Timestamp) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let release = next.release_under_way("abort")?;
        let id = release.id;
        match release.phase {
            Phase::Expanding | Phase::Shifting { .. } | Phase::TurningBack(_) => {}
            Phase::Baking => {
                return Err(Refusal::new(
                    format!("release {id} is promoted already"),
                    "use `evenkeel rollback`; it is instant while the old revision is warm",
                ));
            }
            Phase::Contracting => {
                return Err(Refusal::new(
                    format!("release {id} has passed its point of no return"),
                    "use `evenkeel rollback`; it starts a new release back",
                ));
            }
        }
        Ok(self.take_back(id, Because::Aborted(by.to_owned()), world, now))
    }

    /// Turns the release under way back, unless it is turning back already.
    fn take_back(
        &self,
        id: ReleaseId,
        because: Because,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        let turning = |phase: &Phase| matches!(phase, Phase::TurningBack(_));
        if self.release.as_ref().is_some_and(|release| turning(&release.phase)) {
            let text = format!("release {id} is turning back already");
            return Accepted { decision: None, release: Some(id), text };
        }
        let mut next = self.clone();
        let notes = next.turn_back(because, now);
        let text = format!("release {id} is taken back");
        self.accept(next, notes, Some(id), text, world, now)
    }

    fn roll_back(
        &self,
        to: Option<(ServiceName, RevisionNumber)>,
        force: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        if let (Some(release), None) = (&self.release, &to) {
            let id = release.id;
            let because = match release.phase {
                Phase::Expanding | Phase::Shifting { .. } | Phase::TurningBack(_) => {
                    Because::Aborted(by.to_owned())
                }
                Phase::Baking => Because::RolledBack(by.to_owned()),
                Phase::Contracting => return self.release_back(None, force, by, world, now),
            };
            return Ok(self.take_back(id, because, world, now));
        }
        self.release_back(to, force, by, world, now)
    }

    /// A new release that leads back to kept revisions.
    fn release_back(
        &self,
        to: Option<(ServiceName, RevisionNumber)>,
        force: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let goals: Vec<(ServiceName, RevisionNumber)> = match to {
            Some(goal) => vec![goal],
            None => self.before_last_release()?,
        };
        let mut wanted = (*self.settled().stack).clone();
        for (name, number) in goals {
            let Some(service) = self.services.get(&name) else {
                return Err(Refusal::new(
                    format!("there is no service {name}"),
                    "`evenkeel status` lists the services",
                ));
            };
            let Some(kept) = service.revisions.get(&number) else {
                let kept: Vec<_> = service.revisions.keys().map(ToString::to_string).collect();
                return Err(Refusal::new(
                    format!("{name} {number} is not kept any more"),
                    format!("kept are {}", kept.join(", ")),
                ));
            };
            let Some(described) = wanted.services.get_mut(&name) else {
                return Err(Refusal::new(
                    format!("{name} is not part of the stack any more"),
                    "apply the stack file that has it",
                ));
            };
            described.workload = (*kept.revision.workload).clone();
            described.replicas = service.replicas.max(1);
        }
        self.change(Change { wanted, kind: Kind::Rollback, force }, by, world, now)
    }

    /// The revisions that the last promoted release left.
    fn before_last_release(&self) -> Result<Vec<(ServiceName, RevisionNumber)>, Refusal> {
        let contracting = self.release.as_ref().map(|release| {
            let moved = release.rollouts.iter();
            moved.map(|(name, it)| (name.clone(), (it.from, it.to))).collect()
        });
        let moved = contracting.or_else(|| {
            let promoted = |past: &&Arc<Past>| {
                matches!(past.outcome, Outcome::Promoted | Outcome::FastPromoted)
            };
            self.past.iter().rev().find(promoted).map(|past| past.moved.clone())
        });
        let goals: Vec<_> = moved
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, (from, _))| Some((name, from?)))
            .collect();
        if goals.is_empty() {
            return Err(Refusal::new(
                "there is nothing to go back to: no release has replaced a revision",
                "name one: `evenkeel rollback web r3`; `evenkeel history` lists them",
            ));
        }
        Ok(goals)
    }

    fn scale(
        &self,
        name: &ServiceName,
        replicas: u32,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        let found = next.services.get_mut(name).filter(|service| service.stable.is_some());
        let Some(service) = found else {
            return Err(Refusal::new(
                format!("there is no service {name}"),
                "`evenkeel status` lists the services",
            ));
        };
        if replicas == 0 {
            return Err(Refusal::new(
                format!("{name} would have no instance"),
                "remove it from the stack file to take it away",
            ));
        }
        let described = self.described(name);
        if replicas > 1 && described.is_some_and(|service| service.workload.exclusive) {
            return Err(Refusal::new(
                format!("{name} is exclusive: only one instance may run"),
                "take `exclusive` out of the stack file first",
            ));
        }
        let before = service.replicas;
        service.replicas = replicas;
        if let Some(release) = next.release_mut() {
            if let Some(rollout) = release.rollouts.get_mut(name) {
                rollout.replicas = replicas;
            }
            if let Some(wanted) = Arc::make_mut(&mut release.wanted).services.get_mut(name) {
                wanted.replicas = replicas;
            }
        }
        let text = format!("{name} scales from {before} to {replicas} instances, by {by}");
        if next == *self {
            let text = format!("{name} has {replicas} instances already");
            return Ok(Accepted { decision: None, release: None, text });
        }
        let notes = vec![Note { release: None, kind: "service.scaled", text: text.clone() }];
        Ok(self.accept(next, notes, None, text, world, now))
    }

    fn restart(
        &self,
        names: &[ServiceName],
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut wanted = (*self.settled().stack).clone();
        if let Some(unknown) = names.iter().find(|name| !wanted.services.contains_key(*name)) {
            return Err(Refusal::new(
                format!("there is no service {unknown}"),
                "`evenkeel status` lists the services",
            ));
        }
        for (name, service) in &mut wanted.services {
            if let Some(live) = self.services.get(name) {
                service.replicas = live.replicas.max(1);
            }
            if names.is_empty() || names.contains(name) {
                service.workload.restarts += 1;
            }
        }
        self.change(Change { wanted, kind: Kind::Restart, force: true }, by, world, now)
    }

    fn release_under_way(&mut self, what: &str) -> Result<&mut super::state::Release, Refusal> {
        self.release_mut().ok_or_else(|| {
            Refusal::new(
                format!("there is no release under way to {what}"),
                "`evenkeel history` lists the releases",
            )
        })
    }

    fn accept_note(
        &self,
        next: Self,
        id: ReleaseId,
        kind: &'static str,
        text: String,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        let notes = vec![Note { release: Some(id), kind, text: text.clone() }];
        self.accept(next, notes, Some(id), text, world, now)
    }

    fn accept(
        &self,
        mut next: Self,
        notes: Vec<Note>,
        release: Option<ReleaseId>,
        text: String,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        // What follows from it at once is part of the same commit: an abort moves the traffic
        // with the very next table.
        let mut notes = notes;
        if let Some(more) = next.decide(world, now) {
            next = more.state;
            notes.extend(more.notes);
        }
        next.generation = self.generation;
        next.finish_decision(self, world, now);
        Accepted { decision: Some(Decision { state: next, notes }), release, text }
    }
}

/// A change that was replaced by a newer one before it could start.
fn unstarted(queued: Queued, by: ReleaseId, now: Timestamp) -> Past {
    Past {
        id: queued.id,
        kind: queued.kind,
        by: queued.by,
        started: now,
        ended: now,
        outcome: Outcome::Superseded,
        because: Some(Because::Superseded(by).to_string()),
        moved: std::collections::BTreeMap::new(),
        ledger: super::ledger::Ledger::default(),
    }
}
