//! What must survive a crash: the stack, its pools and splits, and the release under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::affinity::Door;
use super::analyse::{Judged, Watched};
use super::checks::Checking;
use super::expiry::Worry;
use super::hold::Held;
use super::job::Run;
use super::ledger::Ledger;
use super::schema::Migration;
use crate::layout;
use crate::model::{
    self, CertificateName, CheckName, DatabaseName, Digest, Discovery, FreezeName, Generation,
    PoolId, ReleaseId, Revision, RevisionNumber, Route, RouteName, ServiceName, Stack, Strategy,
    Weight,
};
use crate::plan::{Deployed, Now, Plan};
use crate::rollout;
use crate::routing::Slow;
use crate::scaling::Watch;
use crate::time::Timestamp;

/// Everything the control plane has decided.
///
/// A clone is cheap, because every look at the world decides on one: what never changes is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What was released last: the stack as of the last contract.
    pub stack: Arc<Stack>,
    /// Rises whenever something else is wanted than before.
    pub generation: Generation,
    /// The release that was numbered last.
    pub last_release: ReleaseId,
    /// Every service there is or has been. An entry outlives its service, because its revision
    /// numbers and slots must never be used again. Jobs are kept here too, by names of their own.
    pub services: BTreeMap<ServiceName, Service>,
    /// Where ports come from.
    pub ports: Ports,
    /// The release under way.
    pub release: Option<Arc<Release>>,
    /// The change that follows it.
    pub queued: Option<Queued>,
    /// Nothing new is to be released, but for hotfixes.
    #[serde(default)]
    pub lock: Option<Lock>,
    /// For how long more instances have been needed, or fewer enough, of each pool that scales.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaling: BTreeMap<ServiceName, BTreeMap<RevisionNumber, Watch>>,
    /// The services whose requests wait.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<ServiceName, Held>,
    /// What is wrong with certificates, and since when: told already.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub worries: BTreeMap<CertificateName, BTreeMap<Worry, Timestamp>>,
    /// How the last releases ended, oldest first, at most [`State::PAST_MAX`].
    pub past: Vec<Arc<Past>>,
}

/// The ports instances listen on: a range, used round and round, so that a port is not given
/// again soon and a stale connection never meets another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range.
    pub last: u16,
    /// Where the search for a free one goes on.
    pub next: u16,
}

/// Somebody wants nothing new to be released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing new is released: locked by {}, {}", self.by, self.reason)
    }
}

/// A step that has shown what it had to and waits for somebody's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Since when.
    pub since: Timestamp,
    /// Who gave it.
    pub approved_by: Option<String>,
    /// How its webhook stands, if it has one and it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Checking>,
}

/// Somebody's word that a step may be left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The service that moved.
    pub service: ServiceName,
    /// Its step, from 0.
    pub step: usize,
    /// Who gave it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why they did although they may not.
    pub forced: Option<String>,
}

/// One service as it is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The revision that serves when no release says otherwise; `None` before the first release
    /// and after removal.
    pub stable: Option<RevisionNumber>,
    /// How many instances the stable revision is to have.
    pub replicas: u32,
    /// The revisions that are kept. One that is left here without slots is wanted empty, so that
    /// an instance that starts late is stopped again.
    pub revisions: BTreeMap<RevisionNumber, Kept>,
    /// The number given last.
    pub last_revision: RevisionNumber,
    /// Who gets the traffic. Empty while nothing has ever been ready; else sums up to everything.
    pub split: BTreeMap<RevisionNumber, Weight>,
    /// The loopback port at which the edge takes requests of other services for it.
    pub port: u16,
    /// When that port was chosen.
    pub port_since: Timestamp,
    /// Revisions that were taken back because they were bad, and why.
    pub held_back: BTreeMap<Digest, String>,
    /// From when on an answer is slow, by the revision that was stable when the last release
    /// started.
    #[serde(default)]
    pub slow: Option<Slow>,
    /// When its last release was started that was neither a hotfix nor a way back.
    #[serde(default)]
    pub released: Option<Timestamp>,
}

/// A revision and its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it is.
    pub revision: Revision,
    /// The number its next instance gets; never used twice.
    pub next_slot: u32,
    /// Its instances.
    pub slots: BTreeMap<u32, Slot>,
    /// Where it reaches those services that ask for affinity.
    #[serde(default)]
    pub doors: BTreeMap<ServiceName, Door>,
}

/// One instance that is meant to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its port.
    pub port: u16,
    /// When it was decided.
    pub since: Timestamp,
    /// Whether it is meant to serve.
    pub stage: Stage,
}

/// Whether an instance is meant to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It is.
    Active,
    /// It gets nothing new and ends what it has; then its slot is dropped and it is stopped.
    Retiring {
        /// Since when.
        since: Timestamp,
        /// The decision that unrouted it: nothing is concluded from an edge that serves an older
        /// one.
        generation: Generation,
    },
}

/// One change of the stack, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub id: ReleaseId,
    /// What asked for it.
    pub kind: Kind,
    /// Who asked for it.
    pub by: String,
    /// When it was started.
    pub started: Timestamp,
    /// The stack it leads to.
    pub wanted: Arc<Stack>,
    /// What it changes.
    pub plan: Arc<Plan>,
    /// The services that get another revision.
    pub rollouts: BTreeMap<ServiceName, Rollout>,
    /// Their order: what is used before what uses it.
    pub order: Vec<ServiceName>,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// When it last got further.
    pub progress: Timestamp,
    /// How long the present step has been watched.
    pub bake: Bake,
    /// What its canary had been asked when the present step began.
    #[serde(default)]
    pub asked_before: u64,
    /// A person, or Evenkeel itself, holds it here.
    pub paused: Option<Paused>,
    /// Since when something that it depends on cannot be seen.
    pub blind: Option<Timestamp>,
    /// A person left out steps, or a part of the bake.
    pub hurried: bool,
    /// The present step waits at its gate, or has passed it.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// The approvals it was given, in order; at most one for each of its steps.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Why it is a hotfix, if it is one: it takes one short step and needs no requests.
    #[serde(default)]
    pub hotfix: Option<String>,
    /// What its requests came to.
    pub ledger: Ledger,
    /// The jobs that it runs.
    #[serde(default)]
    pub jobs: BTreeMap<ServiceName, Run>,
    /// Their order.
    #[serde(default)]
    pub job_order: Vec<ServiceName>,
    /// The databases whose schema it changes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<DatabaseName, Migration>,
}

/// What asked for a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A stack file.
    Apply,
    /// A restart of services.
    Restart,
    /// A return to an earlier revision; takes no steps.
    Rollback,
}

/// One service on its way from one revision to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision that is left; `None` for a service that is new.
    pub from: Option<RevisionNumber>,
    /// The revision that takes over.
    pub to: RevisionNumber,
    /// How.
    pub strategy: Strategy,
    /// How many instances the new revision is to have in the end.
    pub replicas: u32,
    /// Since when too few of its instances are well.
    pub unwell: Option<Timestamp>,
    /// On the way back: all traffic goes to the old revision at once, because it is whole or
    /// because the new one is bad.
    pub flip: bool,
    /// What its requests have told so far.
    #[serde(default)]
    pub watched: Watched,
    /// How its checks stand, as far as any was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckName, Checking>,
    /// How its requests compared at the last batch before all traffic had moved.
    #[serde(default)]
    pub judged: Vec<Judged>,
    /// Its new revision starts whole, and gets what the new revisions of its callers send.
    #[serde(default)]
    pub follows: bool,
}

/// How far a release is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The new is started beside the old.
    Expanding,
    /// Traffic moves.
    Shifting {
        /// Which of the release's services, by its place in the order.
        service: usize,
        /// Which step of its strategy.
        step: usize,
    },
    /// All traffic has moved; the old is kept serving-ready.
    Baking,
    /// The old goes. There is no way back from here but a new release.
    Contracting,
    /// Everything goes back to what it was.
    TurningBack(Because),
}

/// Why a release turned back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// It failed by itself.
    Failed(String),
    /// A person stopped it.
    Aborted(String),
    /// A person went back after all traffic had moved.
    RolledBack(String),
    /// A newer change came.
    Superseded(ReleaseId),
}

impl Rollout {
    /// How many instances of the new revision start before any traffic moves.
    pub(super) fn first_size(&self) -> u32 {
        match self.follows {
            true => self.replicas,
            false => rollout::first_size(&self.strategy, self.replicas, self.from),
        }
    }
}

impl Because {
    /// Whether the new revision is known to be bad, so that getting off it counts more than
    /// anything.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::Aborted(by) => write!(f, "aborted by {by}"),
            Self::RolledBack(by) => write!(f, "rolled back by {by}"),
            Self::Superseded(by) => write!(f, "superseded by release {by}"),
        }
    }
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All traffic is on the new revisions.
    Promoted,
    /// The same, with steps left out by a person.
    FastPromoted,
    /// Taken back before all traffic had moved, by a person.
    Aborted,
    /// Taken back because a newer change came.
    Superseded,
    /// Taken back because it failed.
    RolledBack,
    /// Taken back by a person after all traffic had moved.
    FastRolledBack,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promoted => "promoted",
            Self::FastPromoted => "fast_promoted",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::RolledBack => "rolled_back",
            Self::FastRolledBack => "fast_rolled_back",
        })
    }
}

/// Healthy time, accumulated. Time that nobody watched does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bake {
    /// So much has been seen.
    pub healthy: Duration,
    /// When it was last added to; `None` while things are not healthy.
    pub seen: Option<Timestamp>,
    /// A person said that it is enough.
    pub waived: bool,
}

/// A release held where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// By whom.
    pub by: String,
    /// Why, if it was Evenkeel itself.
    #[serde(default)]
    pub because: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// The freeze at whose end it goes on by itself.
    #[serde(default)]
    pub freeze: Option<FreezeName>,
}

/// A change that waits for the release under way to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The number it will have.
    pub id: ReleaseId,
    /// What asked for it.
    pub kind: Kind,
    /// Who asked for it.
    pub by: String,
    /// The stack it leads to.
    pub wanted: Arc<Stack>,
    /// Why it is a hotfix, if it is one.
    #[serde(default)]
    pub hotfix: Option<String>,
    /// It goes ahead although one of its revisions was taken back before.
    #[serde(default)]
    pub force: bool,
}

/// A release that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Its number.
    pub id: ReleaseId,
    /// What asked for it.
    pub kind: Kind,
    /// Who asked for it.
    pub by: String,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Why it was taken back.
    pub because: Option<String>,
    /// The services that got another revision: from, to.
    pub moved: BTreeMap<ServiceName, (Option<RevisionNumber>, RevisionNumber)>,
    /// What its requests came to.
    pub ledger: Ledger,
    /// The approvals it was given, in order.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// How the requests of its services compared when they were last judged.
    #[serde(default)]
    pub judged: BTreeMap<ServiceName, Vec<Judged>>,
}

/// One line for the journal: a decision, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The release it belongs to.
    pub release: Option<ReleaseId>,
    /// A stable name: `release.started`, `step.reached`.
    pub kind: &'static str,
    /// One sentence for people.
    pub text: String,
}

impl State {
    /// Releases that are remembered in the state; the journal remembers all.
    pub const PAST_MAX: usize = 20;
    /// Revisions of a service that are kept without being used.
    pub const REVISIONS_MAX: usize = 10;
    /// Revisions of a service that are remembered as bad.
    pub const HELD_BACK_MAX: usize = 20;

    /// How long `release` still keeps what it has replaced, once all traffic has moved: the longest
    /// that one of its services asks for. Who waits for it to end does not wait for a way back that
    /// nobody has taken.
    #[must_use]
    pub fn bake(&self, release: &Release) -> Duration {
        if self.queued.is_some() {
            return Duration::ZERO;
        }
        let moved = release.rollouts.iter().filter(|(_, rollout)| rollout.from.is_some());
        let moved = moved.filter_map(|(name, _)| release.wanted.services.get(name));
        let removed = self.stack.services.iter();
        let removed = removed.filter(|(name, _)| !release.wanted.services.contains_key(*name));
        let services = moved.chain(removed.map(|(_, service)| service));
        services.map(|service| service.rollout.bake).max().unwrap_or_default()
    }

    /// A machine on which nothing is released yet.
    #[must_use]
    pub fn new(stack: Stack, ports: Ports) -> Self {
        Self {
            stack: Arc::new(stack),
            generation: Generation(1),
            last_release: ReleaseId(0),
            services: BTreeMap::new(),
            ports,
            release: None,
            queued: None,
            lock: None,
            scaling: BTreeMap::new(),
            holds: BTreeMap::new(),
            worries: BTreeMap::new(),
            past: Vec::new(),
        }
    }

    /// The stack that is in force for what a release has not reached yet, or has left already.
    #[must_use]
    pub fn routes(&self) -> &BTreeMap<RouteName, Route> {
        match &self.release {
            Some(release) if matches!(release.phase, Phase::Baking) => &release.wanted.routes,
            Some(_) | None => &self.stack.routes,
        }
    }

    /// Every listening socket that is wanted, by name.
    #[must_use]
    pub fn listeners(&self) -> BTreeMap<String, SocketAddr> {
        let outside = self.outside().into_iter();
        let mut listeners: BTreeMap<_, _> = outside.map(|(addr, name)| (name, addr)).collect();
        for (name, service) in self.services.iter().filter(|(_, service)| service.is_there()) {
            listeners.insert(service_listener(name), ([127, 0, 0, 1], service.port).into());
        }
        listeners.extend(self.doors());
        listeners.extend(
            self.discovered()
                .into_iter()
                .map(|(what, addr)| (layout::discovery_listener(what, &addr), addr)),
        );
        listeners
    }

    /// Where discovery is wanted, with what is spoken there: by the released stack, and by the one
    /// on its way.
    fn discovered(&self) -> BTreeSet<(&'static str, SocketAddr)> {
        let wanted = self.forward().map(|release| &release.wanted.discovery);
        let all = std::iter::once(&self.stack.discovery).chain(wanted);
        all.flat_map(Discovery::addresses).collect()
    }

    /// The doors to the outside that are wanted: by the released stack, and by the one on its way.
    /// Where both have one it stays as it is until the release has ended.
    #[must_use]
    pub(super) fn outside(&self) -> BTreeMap<SocketAddr, String> {
        let wanted = self.forward().into_iter().flat_map(|release| release.wanted.doors());
        wanted.chain(self.stack.doors()).collect()
    }

    /// The stack by which requests are treated: the one on its way, until it goes back.
    #[must_use]
    pub(super) fn settings(&self) -> &Stack {
        self.forward().map_or(&*self.stack, |release| &release.wanted)
    }

    /// The release, unless it is on its way back or past the point of no return.
    #[must_use]
    pub fn forward(&self) -> Option<&Release> {
        self.release.as_deref().filter(|release| release.phase.is_forward())
    }

    /// How the service is described: by the release under way, else by the released stack.
    #[must_use]
    pub fn described(&self, name: &ServiceName) -> Option<&model::Service> {
        let wanted = self.release.as_ref().and_then(|release| release.wanted.services.get(name));
        wanted.or_else(|| self.stack.services.get(name))
    }

    /// What is there now, for a plan towards `wanted`.
    #[must_use]
    pub fn now<'a>(&'a self, wanted: &'a Stack) -> Now<'a> {
        let deployed = self.services.iter().filter_map(|(name, service)| {
            let revision = service.stable?;
            Some((name, Deployed { revision, replicas: service.replicas }))
        });
        let next = wanted.services.iter().map(|(name, service)| {
            let number = self.services.get(name).map_or(RevisionNumber(1), |it| {
                let digest = service.workload.digest();
                it.find(&digest).unwrap_or(it.last_revision.next())
            });
            (name, number)
        });
        let services = deployed.collect();
        Now { stack: &self.stack, services, next: next.collect(), leads_back: false }
    }

    /// Every port that is given away.
    #[must_use]
    pub(super) fn ports_used(&self) -> BTreeSet<u16> {
        let kept = || self.services.values().flat_map(|service| service.revisions.values());
        let instances = kept().flat_map(|kept| kept.slots.values().map(|slot| slot.port));
        let doors = kept().flat_map(|kept| kept.doors.values().map(|door| door.port));
        instances.chain(doors).chain(self.services.values().map(|service| service.port)).collect()
    }
}

impl Service {
    /// Whether it is deployed, or on its way in or out. A job is not.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.stable.is_some() || self.serving().any(|(_, kept)| !kept.slots.is_empty())
    }

    /// Whether it has no instance until somebody asks for it.
    #[must_use]
    pub fn sleeps(&self) -> bool {
        self.stable.is_some() && self.replicas == 0
    }

    /// The kept revision with this content.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<RevisionNumber> {
        let same = |(_, kept): &(&RevisionNumber, &Kept)| kept.revision.digest == *digest;
        self.revisions.iter().rev().find(same).map(|(number, _)| *number)
    }

    /// The part of the traffic that `revision` gets.
    #[must_use]
    pub fn weight(&self, revision: RevisionNumber) -> Weight {
        self.split.get(&revision).copied().unwrap_or(Weight::NONE)
    }
}

impl Kept {
    /// Instances that are meant to serve.
    pub fn active(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let active = self.slots.iter().filter(|(_, slot)| slot.stage == Stage::Active);
        active.map(|(number, slot)| (*number, slot))
    }
}

impl Phase {
    /// Whether the release still leads to what it wants and can be taken back.
    #[must_use]
    pub fn is_forward(&self) -> bool {
        match self {
            Self::Expanding | Self::Shifting { .. } | Self::Baking => true,
            Self::Contracting | Self::TurningBack(_) => false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expanding => "expanding",
            Self::Shifting { .. } => "shifting",
            Self::Baking => "baking",
            Self::Contracting => "contracting",
            Self::TurningBack(_) => "turning back",
        }
    }
}

impl Release {
    /// Evenkeel itself holds it where it is.
    pub(super) fn hold(&mut self, reason: String, now: Timestamp) {
        let (by, because) = ("evenkeel".to_owned(), Some(reason));
        self.paused = Some(Paused { by, because, since: now, freeze: None });
        self.bake.seen = None;
    }

    /// Whether it has passed its point of no return.
    pub(super) fn has_contracted(&self) -> bool {
        self.phase == Phase::Contracting
    }

    /// Whether the present step waits for somebody's approval.
    #[must_use]
    pub fn waits_at_gate(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.approved_by.is_none())
    }

    /// The service that moves now, its rollout and the step, while traffic moves.
    #[must_use]
    pub fn moving(&self) -> Option<(&ServiceName, &Rollout, usize)> {
        let Phase::Shifting { service, step } = &self.phase else { return None };
        let name = self.order.get(*service)?;
        Some((name, self.rollouts.get(name)?, *step))
    }

    /// How long the release may go without progress: the longest that one of its services allows.
    #[must_use]
    pub fn progress_deadline(&self) -> Duration {
        let moved = self.rollouts.keys().filter_map(|name| self.wanted.services.get(name));
        let longest = moved.map(|service| service.rollout.progress_deadline).max();
        longest.unwrap_or(model::Rollout::default().progress_deadline)
    }

    /// The pools that are left and the pools that take over.
    pub fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.rollouts.iter().flat_map(|(name, rollout)| {
            let revisions = rollout.from.into_iter().chain([rollout.to]);
            revisions.map(|revision| PoolId::new(name, revision))
        })
    }
}

/// The name of the listener for requests of other services to `name`.
#[must_use]
pub(super) fn service_listener(name: &ServiceName) -> String {
    format!("svc-{name}")
}
