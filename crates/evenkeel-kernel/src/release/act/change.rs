//! A change of the stack: what it would come to, and its start.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Accepted, Change, Refusal};
use crate::model::{ReleaseId, Service, ServiceName, Stack};
use crate::plan::{Plan, Removal, Takes, removal};
use crate::release::closed::Closed;
use crate::release::decide::finished;
use crate::release::hotfix;
use crate::release::ledger::Ledger;
use crate::release::state::{
    self, Because, Kind, Note, Outcome, Past, Phase, Queued, Release, State,
};
use crate::time::Timestamp;
use crate::world::World;

/// What asking for a stack would come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Prospect {
    /// Nothing: all is so already.
    Nothing,
    /// Nothing new: this release leads there.
    OnItsWay(ReleaseId),
    /// A release.
    Release {
        /// What it changes, seen from where the release under way will have ended.
        plan: Box<Plan>,
        /// How long it takes at least.
        takes: Takes,
        /// What comes before it, in one sentence.
        before: Option<String>,
        /// Why it is refused, unless it is forced.
        held_back: Option<String>,
        /// Why it is refused, unless it is a hotfix.
        locked: Option<Closed>,
        /// What it takes away for good, which may have to be named.
        removal: Removal,
    },
}

impl State {
    /// What asking for `wanted` would come to now.
    #[must_use]
    pub fn prospect(
        &self,
        wanted: &Stack,
        is_hotfix: bool,
        world: &World,
        now: Timestamp,
    ) -> Prospect {
        let wanted = self.carry_over(wanted.clone());
        self.prospect_of(&wanted, is_hotfix, world, now)
    }

    fn prospect_of(
        &self,
        wanted: &Stack,
        is_hotfix: bool,
        world: &World,
        now: Timestamp,
    ) -> Prospect {
        if let Some(queued) = self.queued.as_ref().filter(|it| leads_to(&it.wanted, wanted)) {
            return Prospect::OnItsWay(queued.id);
        }
        let turns = |release: &Release| matches!(release.phase, Phase::TurningBack(_));
        let under_way = self.release.as_ref().filter(|it| self.queued.is_none() && !turns(it));
        if let Some(release) = under_way.filter(|release| leads_to(&release.wanted, wanted)) {
            return Prospect::OnItsWay(release.id);
        }
        let settled = self.settled_before(wanted, is_hotfix);
        let there = settled.now(wanted);
        let (plan, takes) = hotfix::planned(&there, wanted, is_hotfix);
        if plan.is_empty() && self.release.is_none() {
            return Prospect::Nothing;
        }
        Prospect::Release {
            plan: Box::new(plan),
            takes,
            before: self.comes_before(wanted, is_hotfix),
            held_back: self.held_back(wanted).or_else(|| settled.reads_what_goes(wanted)),
            locked: match is_hotfix {
                true => None,
                false => self.closed_for(wanted, &there, world, now),
            },
            removal: removal(&there, wanted),
        }
    }

    /// One sentence on what comes before a new change, if a release is under way.
    fn comes_before(&self, wanted: &Stack, is_hotfix: bool) -> Option<String> {
        let release = self.release.as_ref()?;
        let id = release.id;
        let first = match release.phase {
            Phase::Expanding | Phase::Shifting { .. } => {
                match self.spared(release, wanted, is_hotfix) {
                    true => {
                        format!("release {id} is under way with other services; it is waited for")
                    }
                    false => {
                        format!("release {id} is under way; it is taken back first (superseded)")
                    }
                }
            }
            Phase::Baking => format!("release {id} is promoted; it is contracted first"),
            Phase::Contracting => format!("release {id} is contracting; it is waited for"),
            Phase::TurningBack(_) => format!("release {id} is turning back; it is waited for"),
        };
        Some(match &self.queued {
            Some(queued) => {
                format!("{first}; release {}, which waits for it, is dropped", queued.id)
            }
            None => first,
        })
    }

    pub(super) fn change(
        &self,
        change: Change,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let Change { wanted, kind, force, hotfix, expect_destroy } = change;
        let deployed = self.services.values().any(state::Service::is_there);
        if wanted.name != self.stack.name && (deployed || self.release.is_some()) {
            return Err(Refusal::new(
                format!("this is stack {}, not {}", self.stack.name, wanted.name),
                "give each stack an $EVENKEEL_HOME of its own, or name the stack as before",
            ));
        }
        let wanted = self.carry_over(wanted);
        let before = match self.prospect_of(&wanted, hotfix.is_some(), world, now) {
            Prospect::Nothing => {
                let text = "nothing changes".to_owned();
                return Ok(Accepted { decision: None, release: None, text });
            }
            Prospect::OnItsWay(id) => {
                let text = format!("nothing changes: release {id} is on its way to this already");
                return Ok(Accepted { decision: None, release: Some(id), text });
            }
            Prospect::Release { held_back: Some(reason), .. } if !force => {
                let hint = "change it, or try it once more as it is with --force";
                return Err(Refusal::new(reason, hint));
            }
            // The way back is never locked.
            Prospect::Release { locked: Some(closed), .. } if kind != Kind::Rollback => {
                return Err(Refusal::new(closed.reason, closed.hint));
            }
            Prospect::Release { before, removal, .. } => {
                // Only an edited file can be a slip of the pen.
                let refused = removal.refuses(expect_destroy).filter(|_| kind == Kind::Apply);
                if let Some(reason) = refused {
                    let gone = removal.gone;
                    let hint = format!("`--expect-destroy {gone}` says that this is meant");
                    return Err(Refusal::new(reason, hint));
                }
                before
            }
        };
        let mut next = self.clone();
        let id = self.last_release.next();
        next.last_release = id;
        if wanted.name != self.stack.name {
            next.stack = Arc::new(Stack::empty(wanted.name.clone()));
        }
        let wanted = Arc::new(wanted);
        let queued = Queued { id, kind, by: by.to_owned(), wanted, hotfix, force };
        let notes = next.admit(queued, by, world, now);
        let text = match before {
            Some(before) => format!("release {id} is accepted: {before}"),
            None => format!("release {id} is started"),
        };
        Ok(self.accept(next, notes, Some(id), text, world, now))
    }

    /// Starts the change, or lines it up behind what is under way.
    fn admit(&mut self, queued: Queued, by: &str, world: &World, now: Timestamp) -> Vec<Note> {
        let id = queued.id;
        let Some(release) = &self.release else {
            // What has waited may be about to start; this is newer.
            let dropped = self.drop_queued(&Because::Superseded(id), now);
            return dropped.into_iter().chain(self.start(queued, world, now)).collect();
        };
        let spared = self.spared(release, &queued.wanted, queued.hotfix.is_some());
        let mut notes = vec![Note {
            release: Some(id),
            kind: "release.queued",
            text: format!("release {id} by {by} waits for release {}", release.id),
        }];
        match release.phase {
            Phase::Expanding | Phase::Shifting { .. } if !spared => {
                notes.extend(self.turn_back(Because::Superseded(id), now));
            }
            Phase::Baking => {
                if let Some(release) = self.release_mut() {
                    release.paused = None;
                    release.progress = now;
                }
            }
            Phase::Expanding
            | Phase::Shifting { .. }
            | Phase::Contracting
            | Phase::TurningBack(_) => {}
        }
        notes.extend(self.drop_queued(&Because::Superseded(id), now));
        self.queued = Some(queued);
        notes
    }

    /// Drops the change that waits, which then has ended before it started.
    pub(in crate::release) fn drop_queued(
        &mut self,
        because: &Because,
        now: Timestamp,
    ) -> Option<Note> {
        let Queued { id, kind, by, .. } = self.queued.take()?;
        let outcome = match because {
            Because::Superseded(_) => Outcome::Superseded,
            Because::Failed(_) | Because::Aborted(_) | Because::RolledBack(_) => Outcome::Aborted,
        };
        self.remember(Past {
            id,
            kind,
            by,
            started: now,
            ended: now,
            outcome,
            because: Some(because.to_string()),
            moved: BTreeMap::new(),
            ledger: Ledger::default(),
            approvals: Vec::new(),
            judged: BTreeMap::new(),
        });
        let text = format!("release {id} ended before it started: {outcome}, {because}");
        Some(Note { release: Some(id), kind: "release.ended", text })
    }

    /// Why a revision of `wanted` should not be tried again, if one was taken back before.
    pub(in crate::release) fn held_back(&self, wanted: &Stack) -> Option<String> {
        wanted.services.iter().find_map(|(name, described)| {
            let service = self.services.get(name)?;
            let digest = described.workload.digest();
            let serves = service.stable.is_some() && service.find(&digest) == service.stable;
            let reason = service.held_back.get(&digest).filter(|_| !serves)?;
            Some(format!("this revision of {name} was taken back before: {reason}"))
        })
    }

    /// The wanted stack with what only the running system knows: how often a person asked for a
    /// restart, and how large a service is that scales.
    fn carry_over(&self, mut wanted: Stack) -> Stack {
        let settled = self.settled();
        for (name, service) in &mut wanted.services {
            let Some(live) = settled.services.get(name) else { continue };
            let kept = live.stable.and_then(|stable| live.revisions.get(&stable));
            let restarts = kept.map_or(0, |kept| kept.revision.workload.restarts);
            // Of a restart that is under way too.
            let coming = self.forward().and_then(|release| release.wanted.services.get(name));
            let coming = coming.map_or(0, |described| described.workload.restarts);
            let restarts = restarts.max(coming);
            service.workload.restarts = service.workload.restarts.max(restarts);
        }
        settled.keep_sizes(&mut wanted);
        settled.attach_databases(&mut wanted);
        wanted
    }

    /// Services that scale stay as large as they are, within their bounds: what the file says of
    /// `replicas` is only where they began.
    pub(in crate::release) fn keep_sizes(&self, wanted: &mut Stack) {
        for (name, service) in &mut wanted.services {
            let live = self.services.get(name).filter(|live| live.stable.is_some());
            if let (Some(live), Some(scale)) = (live, &service.scale) {
                service.replicas = scale.within(live.replicas);
                let kept = live.stable.and_then(|stable| live.revisions.get(&stable));
                let moves =
                    kept.is_none_or(|kept| kept.revision.digest != service.workload.digest());
                // What sleeps cannot be judged: a release wakes it.
                if moves {
                    service.replicas = service.replicas.max(1);
                }
            }
        }
    }

    /// The state as it will be once the release under way has ended by itself: a promoted one by
    /// contract, any other by going back.
    pub(super) fn settled(&self) -> Cow<'_, Self> {
        match self.release.as_ref().filter(|it| it.phase == Phase::Baking) {
            Some(release) => Cow::Owned(self.with_promoted(release)),
            None => Cow::Borrowed(self),
        }
    }

    /// The state as it will be when a change to `wanted` is started.
    fn settled_before(&self, wanted: &Stack, is_hotfix: bool) -> Cow<'_, Self> {
        let spared = |release: &&Arc<Release>| self.spared(release, wanted, is_hotfix);
        match self.release.as_ref().filter(|it| it.phase.is_forward()).filter(spared) {
            Some(release) => Cow::Owned(self.with_promoted(release)),
            None => self.settled(),
        }
    }

    /// Whether a change to `wanted` leaves everything as it is that `release` changes. It then waits
    /// for the release and does not take its place, unless it cannot wait.
    fn spared(&self, release: &Release, wanted: &Stack, is_hotfix: bool) -> bool {
        let (before, after) = (&self.stack.services, &release.wanted.services);
        let names = before.keys().chain(after.keys());
        let changed = |name: &&ServiceName| before.get(*name) != after.get(*name);
        let mut changes = names.filter(changed);
        !is_hotfix && changes.all(|name| same(after.get(name), wanted.services.get(name)))
    }

    fn with_promoted(&self, release: &Release) -> Self {
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
        settled.stack = finished(&release.wanted);
        settled
    }
}

/// Whether a service is described alike, but for a size that has followed its load.
fn same(there: Option<&Service>, wanted: Option<&Service>) -> bool {
    match (there, wanted) {
        (Some(there), Some(wanted)) if wanted.scale.is_some() => {
            *there == Service { replicas: there.replicas, ..wanted.clone() }
        }
        (there, wanted) => there == wanted,
    }
}

/// Whether what a release wants is `wanted`. It may have scaled since it was started.
fn leads_to(there: &Stack, wanted: &Stack) -> bool {
    let mut wanted = wanted.clone();
    for (name, service) in &mut wanted.services {
        let there = there.services.get(name).filter(|_| service.scale.is_some());
        service.replicas = there.map_or(service.replicas, |there| there.replicas);
    }
    *there == wanted
}
