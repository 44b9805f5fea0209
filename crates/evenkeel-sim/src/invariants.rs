//! What must hold after every step, whatever has gone wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use evenkeel_kernel::model::{
    Digest, Discovery, InstanceId, PoolId, ReleaseId, ServiceName, Strategy, Weight, When,
};
use evenkeel_kernel::release::{Because, Decision, Outcome, Phase, Service, Stage, State};
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::InstancePhase;

use crate::bug::Bug;
use crate::edge::{Edge, serving};
use crate::jobs;
use crate::platform::{Platform, Proc};
use crate::scenario::{Behaviour, Roughness};

/// An instance that has only just started may be seen later than what is concluded.
pub(crate) const JUST_STARTED_MS: u64 = 6_000;

/// An order that was on its way when a fault struck arrives within this time.
const NOTICED_MS: u64 = 5_000;

/// Something that must never happen, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

pub(crate) type Checked = Result<(), Violation>;

/// Fails with `text` under the name of an invariant.
pub(crate) fn broken(invariant: &'static str, text: String) -> Checked {
    Err(Violation { invariant, text })
}

/// No traffic reaches a revision before the checks have passed that come before it.
fn checked_first(after: &State) -> Checked {
    let Some(release) = after.forward().filter(|release| !release.hurried) else { return Ok(()) };
    for (name, rollout) in &release.rollouts {
        if after.services.get(name).is_none_or(|it| it.weight(rollout.to) == Weight::NONE) {
            continue;
        }
        for (check, policy) in release.checks(name) {
            let first = policy.when == When::Before && release.decides(policy);
            let passed = rollout.checks.get(check).is_some_and(|it| it.passed.is_some());
            if first && !passed {
                let pool = PoolId::new(name, rollout.to);
                return broken(
                    "checked-before-traffic",
                    format!("{pool} has traffic, and check {check} has not passed"),
                );
            }
        }
    }
    Ok(())
}

/// What is remembered of a release to judge its outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    /// One of its revisions is not good.
    flawed: bool,
    /// One of them is bad in a way that must be found out.
    bad: bool,
    /// One of them is bad only once it has had traffic for a while.
    sick: bool,
    /// A person took a decision about it.
    touched: bool,
    /// It has passed the point of no return.
    passed: bool,
}

/// What is remembered to check what must hold over time.
#[derive(Debug)]
pub(crate) struct Checker {
    roughness: Roughness,
    bug: Option<Bug>,
    contents: BTreeMap<PoolId, Digest>,
    releases: BTreeMap<ReleaseId, Track>,
}

impl Checker {
    pub(crate) fn new(roughness: Roughness, bug: Option<Bug>) -> Self {
        Self { roughness, bug, contents: BTreeMap::new(), releases: BTreeMap::new() }
    }

    /// A person decided something about the release under way.
    pub(crate) fn touch(&mut self, release: ReleaseId) {
        self.releases.entry(release).or_default().touched = true;
    }

    /// A state became durable. `saw`: platform and edge were both seen when it was decided.
    pub(crate) fn committed(
        &mut self,
        before: &State,
        after: &State,
        saw: bool,
        (platform, edge): (&Platform, Option<&Edge>),
        now: u64,
    ) -> Checked {
        if let Some(edge) = edge {
            unrouted_first(before, after, edge, now)?;
        }
        if after.generation < before.generation {
            return broken(
                "state-goes-forward",
                format!("{} follows {}", after.generation, before.generation),
            );
        }
        self.names(before, after)?;
        unseen(before, after, saw)?;
        self.contracts(after)?;
        old_pools_whole(before, after)?;
        checked_first(after)?;
        jobs::committed(before, after, platform, now.saturating_sub(JUST_STARTED_MS))?;
        self.endings(before, after, platform, now)
    }

    /// Numbers, slots and ports are given once.
    fn names(&mut self, before: &State, after: &State) -> Checked {
        let mut ports = BTreeSet::new();
        for (name, service) in &after.services {
            if !ports.insert(service.port) {
                return broken("given-once", format!("port {} of {name}", service.port));
            }
            for (revision, kept) in &service.revisions {
                let pool = PoolId::new(name, *revision);
                let digest = &kept.revision.digest;
                let known = self.contents.entry(pool.clone()).or_insert_with(|| digest.clone());
                if known != digest {
                    return broken("given-once", format!("{pool} is another revision now"));
                }
                let earlier = before.services.get(name).and_then(|it| it.revisions.get(revision));
                for (number, slot) in &kept.slots {
                    if !ports.insert(slot.port) {
                        return broken("given-once", format!("port {} twice", slot.port));
                    }
                    let fresh = earlier.is_none_or(|it| !it.slots.contains_key(number));
                    let used = earlier.is_some_and(|it| *number < it.next_slot);
                    if fresh && used && self.bug != Some(Bug::SlotsReused) {
                        let id = pool.instance(*number);
                        return broken("given-once", format!("{id} is a name given before"));
                    }
                }
            }
        }
        Ok(())
    }

    /// After the point of no return there is no way back.
    fn contracts(&mut self, after: &State) -> Checked {
        let Some(release) = &after.release else { return Ok(()) };
        let mut flawed = false;
        let mut bad = false;
        let mut sick = false;
        for (name, rollout) in &release.rollouts {
            let kept = after.services.get(name).and_then(|it| it.revisions.get(&rollout.to));
            let Some(kept) = kept else { continue };
            // What replaces nothing has no bake, so only what never starts is found out.
            let watched = rollout.from.is_some();
            let behaviour = Behaviour::of(&kept.revision.workload);
            flawed |= behaviour != Behaviour::Good;
            match behaviour {
                Behaviour::Good => {}
                Behaviour::NeverHealthy => bad = true,
                Behaviour::TurnsSick => (bad, sick) = (bad || watched, sick || watched),
                Behaviour::CrashLoop | Behaviour::FailsRequests => bad |= watched,
            }
        }
        if jobs::has_bad(after, release) {
            (flawed, bad) = (true, true);
        }
        let track = self.releases.entry(release.id).or_default();
        track.flawed |= flawed;
        track.bad |= bad;
        track.sick |= sick;
        if release.phase == Phase::Contracting {
            track.passed = true;
        } else if track.passed {
            let phase = release.phase.name();
            return broken(
                "no-way-back-after-contract",
                format!("release {} is {phase} after its point of no return", release.id),
            );
        }
        Ok(())
    }

    /// What a release ended as is what happened.
    fn endings(&self, before: &State, after: &State, platform: &Platform, now: u64) -> Checked {
        let Some(release) = &before.release else { return Ok(()) };
        if after.release.as_ref().is_some_and(|it| it.id == release.id) {
            return Ok(());
        }
        let Some(past) = after.past.iter().rev().find(|past| past.id == release.id) else {
            return broken("every-release-ends", format!("release {} vanished", release.id));
        };
        let promoted = matches!(past.outcome, Outcome::Promoted | Outcome::FastPromoted);
        for (name, rollout) in &release.rollouts {
            let gone = if promoted { rollout.from } else { Some(rollout.to) };
            let Some(gone) = gone.filter(|gone| Some(*gone) != after.services[name].stable) else {
                continue;
            };
            let pool = PoolId::new(name, gone);
            let left = platform
                .procs
                .iter()
                .find(|(id, it)| id.pool == pool && !it.foreign && it.born + JUST_STARTED_MS < now);
            if let Some((id, _)) = left {
                return broken(
                    "ends-when-done",
                    format!("release {} ended {} while {id} is there", release.id, past.outcome),
                );
            }
        }
        let track = self.releases.get(&release.id).copied().unwrap_or_default();
        let certain = self.roughness < Roughness::Machine;
        if promoted && track.bad && !track.touched && (certain || !track.sick) {
            return broken("bad-is-not-promoted", format!("release {} is bad", release.id));
        }
        if past.outcome == Outcome::RolledBack && !track.flawed && certain {
            let because = past.because.clone().unwrap_or_default();
            return broken(
                "good-is-not-taken-back",
                format!("release {} was good: {because}", release.id),
            );
        }
        Ok(())
    }

    /// A table replaces another one at the edge, by our order.
    pub(crate) fn installs(
        &self,
        state: &State,
        before: &[&State],
        platform: &Platform,
        (old, new): (&RoutingTable, &RoutingTable),
        is_ill: impl Fn(&InstanceId) -> bool,
        now: u64,
    ) -> Checked {
        let certain = self.roughness < Roughness::Machine;
        for (name, service) in &new.services {
            let Some(required) = required(state, name) else { continue };
            let slept = |it: &State| it.services.get(name).is_some_and(Service::sleeps);
            if before.iter().any(|it| slept(it)) {
                // It was told to do without any instance until somebody asks for it.
                continue;
            }
            // A service that was scaled a moment ago cannot be as large yet.
            let smaller = before.iter().filter_map(|it| self::required(it, name));
            let required = smaller.filter(|it| *it > 0).fold(required, u32::min);
            let Some(earlier) = old.services.get(name) else { continue };
            let before: BTreeMap<_, _> = serving(name, earlier)
                .map(|(revision, weight, ids)| (revision, (weight, ids)))
                .collect();
            let mut kept = BTreeSet::new();
            let mut usable = 0;
            let mut thin = None;
            for (revision, weight, ids) in serving(name, service) {
                let can = ids.iter().filter(|id| is_usable(platform, id, now)).count();
                usable += can;
                let share = Weight(weight).floor(required) as usize;
                let rises = before.get(&revision).is_none_or(|(before, _)| *before < weight);
                if can < share && rises {
                    thin = Some(format!(
                        "{name} {revision} gets {} with {can} of {required}",
                        Weight(weight)
                    ));
                }
                kept.extend(ids);
            }
            let removed_well = before.values().flat_map(|(_, ids)| ids).any(|id| {
                // One that fails by itself is well now and then; that it goes is no loss.
                let lasts = |it: &&Proc| {
                    !matches!(it.behaviour, Behaviour::CrashLoop | Behaviour::TurnsSick)
                };
                let it = platform.procs.get(id).filter(|it| it.was_healthy).filter(lasts);
                // One that is back, which nobody can know yet, is no loss that anybody decided on.
                !kept.contains(id) && it.is_some_and(|it| it.condition(now).0) && !is_ill(id)
            });
            if removed_well && usable < required as usize {
                return broken("capacity", format!("{name} is left with {usable} of {required}"));
            }
            if let Some(thin) = thin.filter(|_| certain && usable >= required as usize) {
                return broken("capacity-per-pool", thin);
            }
        }
        Ok(())
    }
}

/// Nothing is taken away because of something nobody saw.
fn unseen(before: &State, after: &State, saw: bool) -> Checked {
    if saw {
        return Ok(());
    }
    for (name, service) in &before.services {
        for (revision, kept) in &service.revisions {
            let later = after.services.get(name).and_then(|it| it.revisions.get(revision));
            for (number, slot) in &kept.slots {
                let later = later.and_then(|it| it.slots.get(number));
                let stays = later.is_some_and(|later| later.stage == slot.stage);
                if !stays {
                    let id = PoolId::new(name, *revision).instance(*number);
                    return broken("nothing-unseen", format!("{id} goes while nobody looks"));
                }
            }
        }
    }
    Ok(())
}

/// Sizes follow the load within their bounds, never fall by what nobody saw, and never fall while
/// their service is released.
pub(crate) fn scaled(before: &State, decision: &Decision, saw: bool) -> Checked {
    if !decision.notes.iter().any(|note| note.kind == "scale.changed") {
        return Ok(());
    }
    let after = &decision.state;
    for (name, service) in &after.services {
        let Some(earlier) = before.services.get(name) else { continue };
        // What it was before this decision: by the point of no return the file's word counts.
        let ended = before.release.as_ref().map(|it| it.phase.name())
            != after.release.as_ref().map(|it| it.phase.name());
        let (was, is) = (earlier.replicas, service.replicas);
        if was == is || ended {
            continue;
        }
        let Some(scale) = before.stack.services.get(name).and_then(|it| it.scale.as_ref()) else {
            return broken("scales-as-it-may", format!("{name} scales from {was} to {is}"));
        };
        let moves = before.release.as_ref().is_some_and(|it| it.rollouts.contains_key(name));
        if is > scale.max.max(was) || is < scale.min.min(was) {
            return broken("scales-within-bounds", format!("{name} scales from {was} to {is}"));
        }
        if is < was && (moves || !saw) {
            return broken("shrinks-as-it-may", format!("{name} scales from {was} to {is}"));
        }
    }
    Ok(())
}

/// An instance loses its place only after the edge has stopped sending to it, and clients have had
/// their time who go to it by themselves.
fn unrouted_first(before: &State, after: &State, edge: &Edge, now: u64) -> Checked {
    let linger = Discovery::default().linger;
    for (name, service) in &before.services {
        for (revision, kept) in &service.revisions {
            let later = after.services.get(name).and_then(|it| it.revisions.get(revision));
            for number in kept.slots.keys() {
                let id = PoolId::new(name, *revision).instance(*number);
                let dropped = later.is_none_or(|later| !later.slots.contains_key(number));
                if dropped && edge.routes_to(&id) {
                    return broken("unrouted-first", format!("{id} is dropped while it is routed"));
                }
                let told = edge.told(&id).map(|told| Duration::from_millis(now - told));
                if dropped && Edge::is_read(name) && told.is_some_and(|told| told < linger) {
                    let said = format!("{id} is dropped {told:?} after clients were told");
                    return broken("clients-have-time", said);
                }
            }
        }
    }
    Ok(())
}

/// A strategy that keeps the old pool keeps it whole until the point of no return.
fn old_pools_whole(before: &State, after: &State) -> Checked {
    let Some(release) = after.forward() else { return Ok(()) };
    for (name, rollout) in &release.rollouts {
        let Some(from) = rollout.from else { continue };
        if matches!(rollout.strategy, Strategy::Rolling { .. }) {
            continue;
        }
        let Some(service) = after.services.get(name) else { continue };
        let active = service.revisions.get(&from).map_or(0, |kept| kept.active().count());
        let earlier = before.services.get(name).and_then(|it| it.revisions.get(&from));
        let shrinks = active < earlier.map_or(0, |kept| kept.active().count());
        if shrinks && active < service.replicas as usize {
            return broken(
                "contract-comes-last",
                format!(
                    "{name} {from} has {active} of {} while release {} is {}",
                    service.replicas,
                    release.id,
                    release.phase.name()
                ),
            );
        }
    }
    Ok(())
}

/// The platform is about to stop an instance by our order. `fenced`: the order was not refused.
pub(crate) fn stops(state: &State, id: &InstanceId, it: &Proc, routed: bool) -> Checked {
    if routed {
        return broken(
            "stops-nothing-routed",
            format!("{id} is stopped while the edge routes to it"),
        );
    }
    let kept = state.services.get(&id.pool.service);
    let kept = kept.and_then(|service| service.revisions.get(&id.pool.revision));
    let slot = kept.and_then(|kept| kept.slots.get(&id.slot));
    if slot.is_some_and(|slot| slot.stage == Stage::Active) && !it.foreign {
        return broken("stops-nothing-wanted", format!("{id} is stopped although it is wanted"));
    }
    Ok(())
}

/// The table that `state` wants is one that an edge can serve; `before` is the one wanted before.
pub(crate) fn table(state: &State, table: &RoutingTable, before: Option<&RoutingTable>) -> Checked {
    for (name, service) in &table.services {
        if service.split.is_empty() {
            continue;
        }
        let sum: u32 = service.split.values().map(|weight| u32::from(weight.0)).sum();
        if sum != u32::from(Weight::ALL.0) {
            return broken("table-is-sane", format!("the split of {name} sums up to {sum}"));
        }
        if may_be_empty(state, name) {
            continue;
        }
        // One that is scaled while it was told to do without is not filled in the same moment.
        let before = before.and_then(|before| before.services.get(name));
        let was_empty = |revision| {
            let mut pools = before.into_iter().flat_map(|before| serving(name, before));
            pools.any(|(it, _, ids)| it == revision && ids.is_empty())
        };
        for (revision, weight, ids) in serving(name, service) {
            if ids.is_empty() && !was_empty(revision) {
                return broken(
                    "table-is-sane",
                    format!("{name} {revision} gets {} and has no instance", Weight(weight)),
                );
            }
        }
    }
    Ok(())
}

/// Whether the service was told to do without any instance for a while.
fn may_be_empty(state: &State, name: &ServiceName) -> bool {
    let rollout = state.release.as_ref().and_then(|release| release.rollouts.get(name));
    let strategy = rollout.map(|rollout| &rollout.strategy);
    let deployed = state.services.get(name).map_or(1, |service| service.replicas.max(1));
    let replicas = rollout.map_or(1, |rollout| rollout.replicas.min(deployed));
    strategy.is_some_and(|strategy| unavailable(strategy, replicas) >= replicas)
}

/// How many instances may be missing by the strategy.
fn unavailable(strategy: &Strategy, replicas: u32) -> u32 {
    match strategy {
        Strategy::Rolling { max_surge, max_unavailable } => {
            let missing = max_unavailable.floor(replicas).min(replicas);
            if max_surge.ceil(replicas) == 0 { missing.max(1) } else { missing }
        }
        Strategy::BlueGreen { .. } | Strategy::Canary { .. } => 0,
    }
}

/// How many usable instances no act of ours may go below. `None`: nothing is promised.
fn required(state: &State, name: &ServiceName) -> Option<u32> {
    let service = state.services.get(name)?;
    let stable = service.revisions.get(&service.stable?)?;
    if Behaviour::of(&stable.revision.workload) != Behaviour::Good {
        return None;
    }
    let rollout = match &state.release {
        // Getting off a revision that failed counts more than capacity.
        Some(release) if matches!(release.phase, Phase::TurningBack(Because::Failed(_))) => {
            return None;
        }
        Some(release) => release.rollouts.get(name),
        None => None,
    };
    let Some(rollout) = rollout else { return Some(service.replicas) };
    let replicas = service.replicas.min(rollout.replicas);
    Some(replicas.saturating_sub(unavailable(&rollout.strategy, replicas)))
}

/// Whether an instance serves, or would but for a fault.
fn is_usable(platform: &Platform, id: &InstanceId, now: u64) -> bool {
    let it = platform.procs.get(id);
    let ghost = platform.ghosts.get(id).is_some_and(|gone| now < gone + NOTICED_MS);
    ghost || it.is_some_and(|it| it.was_healthy && it.phase != InstancePhase::Stopping)
}
