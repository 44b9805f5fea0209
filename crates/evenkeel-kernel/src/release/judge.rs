//! Whether a release goes well: counts of a rollout, and the reasons to take it back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::state::{Release, Rollout, Stage, State};
use crate::analysis::Verdict;
use crate::layout::discovery_listener;
use crate::model::{PoolId, ServiceName};
use crate::rollout::{Side, Situation};
use crate::time::{Timestamp, human};
use crate::world::{Edge, Health, InstancePhase, Platform, World};

/// How long too few well instances are borne before the release is taken back: longer than one
/// restart of an instance takes, so that a single death does not end a good release.
const UNWELL_MAX: Duration = Duration::from_secs(10);
/// How long a socket that cannot be opened is borne: the port may be free again in a moment.
const LISTENER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Failed starts that are always tolerated.
const FAILED_STARTS_MIN: u32 = 3;

/// Why a release must be taken back.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// A fragment for people.
    pub(super) reason: String,
    /// The services whose new revision is to blame.
    pub(super) culprits: Vec<ServiceName>,
}

/// What both observers said, at the same time. Without both of them nothing is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) platform: &'a Platform,
    pub(super) edge: &'a Edge,
}

impl<'a> Seen<'a> {
    pub(super) fn of(world: &'a World) -> Option<Self> {
        Some(Self { platform: world.platform.known()?, edge: world.edge.known()? })
    }
}

impl State {
    /// The rollout in numbers.
    pub(super) fn situation(
        &self,
        name: &ServiceName,
        rollout: &Rollout,
        seen: Seen<'_>,
        now: Timestamp,
    ) -> Situation {
        let min_ready =
            self.described(name).map(|service| service.rollout.min_ready).unwrap_or_default();
        let old =
            rollout.from.map(|from| self.side(&PoolId::new(name, from), Duration::ZERO, seen, now));
        Situation {
            replicas: rollout.replicas,
            old: old.unwrap_or_default(),
            new: self.side(&PoolId::new(name, rollout.to), min_ready, seen, now),
            weight: self.services.get(name).map(|it| it.weight(rollout.to)).unwrap_or_default(),
        }
    }

    /// A pool in numbers. An instance is ready when the edge has found it healthy for `min_ready`.
    pub(super) fn side(
        &self,
        pool: &PoolId,
        min_ready: Duration,
        seen: Seen<'_>,
        now: Timestamp,
    ) -> Side {
        let Some(kept) = self.kept(&pool.service, pool.revision) else { return Side::default() };
        let mut side = Side::default();
        for (number, slot) in &kept.slots {
            side.occupied += 1;
            if slot.stage != Stage::Active {
                continue;
            }
            side.size += 1;
            let Some(backend) = seen.edge.instances.get(&pool.instance(*number)) else { continue };
            let so_far = now.since(backend.since);
            match backend.health {
                Health::Healthy => side.ready += u32::from(so_far >= min_ready),
                Health::Unhealthy | Health::Unknown => {
                    side.broken += u32::from(so_far >= UNWELL_MAX);
                }
            }
        }
        let there = seen.platform.of_pool(pool);
        let lingering = there.filter(|(id, _)| !kept.slots.contains_key(&id.slot));
        side.occupied += u32::try_from(lingering.count()).unwrap_or(u32::MAX);
        side
    }

    /// Why the release must be taken back, if it must. What cannot be seen is not judged.
    pub(super) fn failure(
        &self,
        release: &Release,
        world: &World,
        now: Timestamp,
    ) -> Option<Failure> {
        if let Some(reason) = listener_failure(self, release, world, now) {
            return Some(Failure { reason, culprits: Vec::new() });
        }
        if let Some(reason) = release.gate_refusal() {
            // That says nothing about the revision: the next try is asked again.
            return Some(Failure { reason, culprits: Vec::new() });
        }
        if let Some(reason) = release.job_failure() {
            return Some(Failure { reason, culprits: Vec::new() });
        }
        if let Some(reason) = release.schema_failure(world) {
            return Some(Failure { reason, culprits: Vec::new() });
        }
        let seen = Seen::of(world)?;
        let mut failures = release.rollouts.iter().filter_map(|(name, rollout)| {
            let reason = self.rollout_failure(release, name, rollout, seen, now)?;
            Some(Failure { reason, culprits: vec![name.clone()] })
        });
        failures.next().or_else(|| {
            let reason = stalled(release, now)?;
            let culprits = match release.moving() {
                Some((name, ..)) => vec![name.clone()],
                None => release.rollouts.keys().cloned().collect(),
            };
            Some(Failure { reason, culprits })
        })
    }

    fn rollout_failure(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        seen: Seen<'_>,
        now: Timestamp,
    ) -> Option<String> {
        let pool = PoolId::new(name, rollout.to);
        let policy = &release.wanted.services.get(name)?.rollout;
        let kept = self.kept(name, rollout.to)?;

        let mut failed_starts = 0;
        let mut last_exit = None;
        for (number, slot) in kept.active() {
            let id = pool.instance(number);
            let instance = seen.platform.instances.get(&id);
            if let Some(instance) = instance {
                let failures = instance.failures(now);
                failed_starts += failures;
                last_exit = instance.last_exit.clone().filter(|_| failures > 0).or(last_exit);
            }
            // An edge that has just started knows nothing of anyone; only what it has not found
            // healthy for so long itself is late.
            let late = |since: Timestamp| now.since(since) >= policy.start_deadline;
            let never_healthy =
                seen.edge.instances.get(&id).is_some_and(|backend| {
                    backend.health == Health::Unknown && late(backend.since)
                });
            if never_healthy && late(slot.since) {
                let deadline = human(policy.start_deadline);
                let state = instance.map_or("it is not there", |it| phase_text(it.phase));
                return Some(format!("{id} was not healthy within {deadline}: {state}"));
            }
        }
        let budget = policy
            .failure_budget
            .unwrap_or_else(|| FAILED_STARTS_MIN.max(rollout.replicas.div_ceil(2)));
        if failed_starts > 0 && failed_starts >= budget.max(1) {
            let last = last_exit.map(|exit| format!(", last with {exit}")).unwrap_or_default();
            return Some(format!("{pool} ended {failed_starts} times in a row by itself{last}"));
        }

        if release.ledger.failed_streaks(&pool, seen.edge) > 0 {
            return Some(format!("ten requests in a row failed on {pool}"));
        }

        if let Some(finding) = self.finding(release, name, rollout, seen.edge) {
            return Some(format!("{pool}: {finding}"));
        }

        if let Some(reason) = self.failed_check(release, name, rollout) {
            return Some(reason);
        }

        let unwell = rollout.unwell.filter(|since| now.since(*since) >= UNWELL_MAX)?;
        let side = self.side(&pool, Duration::ZERO, seen, now);
        Some(format!(
            "only {} of {} instances of {pool} have been healthy for {}",
            side.ready,
            side.size,
            human(now.since(unwell))
        ))
    }

    /// What one look at a rollout comes to now.
    #[must_use]
    pub fn verdict(&self, release: &Release, name: &ServiceName, world: &World) -> Verdict {
        let Some(rollout) = release.rollouts.get(name) else { return Verdict::Inconclusive };
        let Some(seen) = Seen::of(world) else { return Verdict::Error };
        let fails = self.finding(release, name, rollout, seen.edge).is_some()
            || self.failed_check(release, name, rollout).is_some()
            || release.ledger.failed_streaks(&PoolId::new(name, rollout.to), seen.edge) > 0
            || rollout.unwell.is_some();
        if fails {
            return Verdict::Fail;
        }
        if release.cannot_measure(name, rollout) {
            return Verdict::Error;
        }
        let moves = release.moving().is_some_and(|(moving, ..)| moving == name);
        let requests = release.step_requests(Some(seen.edge)).filter(|_| moves);
        let silent = requests.is_some_and(|(asked, needed)| asked < needed);
        match silent || release.awaited_check(name, rollout).is_some() {
            true => Verdict::Inconclusive,
            false => Verdict::Pass,
        }
    }

    /// Whether fewer than half of the new instances are well although traffic has reached them.
    pub(super) fn is_unwell(&self, name: &ServiceName, rollout: &Rollout, seen: Seen<'_>) -> bool {
        let pool = PoolId::new(name, rollout.to);
        let exposed =
            self.services.get(name).is_some_and(|service| service.weight(rollout.to).0 > 0);
        let called = || self.release.as_ref().is_some_and(|it| it.is_called(self, name));
        let exposed = exposed || called();
        let Some(kept) = self.kept(name, rollout.to).filter(|_| exposed) else { return false };
        let (mut well, mut size) = (0_u32, 0_u32);
        for (number, _) in kept.active() {
            let id = pool.instance(number);
            let health = seen.edge.instances.get(&id).map(|it| it.health).unwrap_or_default();
            let runs = seen
                .platform
                .instances
                .get(&id)
                .is_some_and(|instance| instance.phase == InstancePhase::Running);
            size += 1;
            // An edge that has just started knows nothing yet; that is no illness.
            well += u32::from(runs && health != Health::Unhealthy);
        }
        size > 0 && well * 2 < size
    }
}

/// Whether the release has not got further for too long.
fn stalled(release: &Release, now: Timestamp) -> Option<String> {
    let waited = now.since(release.progress);
    // Whoever is waited for may take their time.
    let waits_for_a_person = release.paused.is_some() || release.waits_at_gate();
    (!waits_for_a_person && !release.runs_a_job() && waited >= release.progress_deadline())
        .then(|| format!("no progress for {}", human(waited)))
}

fn listener_failure(
    state: &State,
    release: &Release,
    world: &World,
    now: Timestamp,
) -> Option<String> {
    let keeper = world.keeper.known()?;
    if now.since(release.started) < LISTENER_WAIT_MAX {
        return None;
    }
    let before: BTreeSet<_> = state.stack.doors().map(|(addr, _)| addr).collect();
    let added = release.wanted.doors().filter(|(addr, _)| !before.contains(addr));
    let added = added.map(|(addr, name)| (name, addr));
    let there: BTreeSet<_> = state.stack.discovery.addresses().collect();
    let discovery = release.wanted.discovery.addresses().filter(|it| !there.contains(it));
    let discovery = discovery.map(|(what, addr)| (discovery_listener(what, &addr), addr));
    added.chain(discovery).find_map(|(name, addr)| {
        let error = keeper.listeners.get(&name)?.as_ref()?;
        Some(format!("could not listen on {addr}: {error}"))
    })
}

/// A phase in words.
pub(super) fn phase_text(phase: InstancePhase) -> &'static str {
    match phase {
        InstancePhase::Running => "it runs, but its health check does not pass",
        InstancePhase::Backoff => "its process keeps ending",
        InstancePhase::PortTaken => "its port is taken by another program",
        InstancePhase::Unstartable => "its program cannot be started",
        InstancePhase::Stopping => "it is stopping",
        InstancePhase::Lost => "its shim is gone",
        InstancePhase::Ended { well: true } => "it is done",
        InstancePhase::Ended { well: false } => "it failed",
    }
}
