//! Pools by slots: growing, retiring, dropping, and the ports they listen on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::affinity::Door;
use super::judge::Seen;
use super::state::{Kept, Ports, Service, Slot, Stage, State};
use crate::model::{Generation, InstanceId, PoolId, RevisionNumber, ServiceName};
use crate::time::Timestamp;
use crate::world::{Health, InstancePhase, World};

/// How long a service's listener may fail before another port is taken.
const LISTENER_RETRY: Duration = Duration::from_secs(3);

/// When and by which decision something changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) generation: Generation,
}

/// A port that is not what it should be.
#[derive(Clone, Debug)]
enum Amiss {
    /// The listener of a service could not be opened.
    Listener(ServiceName),
    /// A door could not be opened.
    Door(ServiceName, RevisionNumber, ServiceName),
    /// A stranger holds the port of an instance.
    Taken(InstanceId),
    /// An instance got its former port after all, before it heard of the other: a running process
    /// does not move, so we do.
    Stayed(InstanceId, u16),
}

impl Ports {
    /// The next port that is not in `used`; it is in `used` afterwards. `None` when the range is
    /// exhausted.
    pub(super) fn take(&mut self, used: &mut BTreeSet<u16>) -> Option<u16> {
        let range = u32::from(self.last.saturating_sub(self.first)) + 1;
        for _ in 0..range {
            let port = self.next.clamp(self.first, self.last);
            self.next = if port >= self.last { self.first } else { port + 1 };
            if used.insert(port) {
                return Some(port);
            }
        }
        None
    }
}

impl State {
    /// Makes the pool have `size` instances that are meant to serve: adds slots with fresh
    /// numbers and ports, or lets the least useful ones retire.
    pub(super) fn resize(
        &mut self,
        name: &ServiceName,
        revision: RevisionNumber,
        size: u32,
        world: &World,
        moment: Moment,
    ) {
        let Some(active) = self.kept(name, revision).map(|kept| kept.active().count()) else {
            return;
        };
        let active = u32::try_from(active).unwrap_or(u32::MAX);
        if size > active {
            self.grow(name, revision, size - active, moment.now);
        } else if size < active {
            self.shrink(name, revision, active - size, world, moment);
        }
    }

    fn grow(&mut self, name: &ServiceName, revision: RevisionNumber, by: u32, now: Timestamp) {
        let mut used = self.ports_used();
        let fresh: Vec<u16> = (0..by).map_while(|_| self.ports.take(&mut used)).collect();
        let Some(kept) = self.kept_mut(name, revision) else { return };
        for port in fresh {
            let slot = Slot { port, since: now, stage: Stage::Active };
            kept.slots.insert(kept.next_slot, slot);
            kept.next_slot += 1;
        }
    }

    fn shrink(
        &mut self,
        name: &ServiceName,
        revision: RevisionNumber,
        by: u32,
        world: &World,
        moment: Moment,
    ) {
        // Which ones can be spared is to be seen, not guessed.
        if Seen::of(world).is_none() {
            return;
        }
        let pool = PoolId::new(name, revision);
        let Some(kept) = self.kept_mut(name, revision) else { return };
        let mut slots: Vec<u32> = kept.active().map(|(number, _)| number).collect();
        // Those that cannot serve go first, then the youngest.
        slots.sort_by_key(|number| (is_healthy(world, &pool, *number), u32::MAX - number));
        for number in slots.into_iter().take(by as usize) {
            if let Some(slot) = kept.slots.get_mut(&number) {
                slot.stage = Stage::Retiring { since: moment.now, generation: moment.generation };
            }
        }
    }

    /// How many instances of the pool have lost their shim and still hold their place. They go on
    /// serving until others of the pool can take over; then they retire.
    pub(super) fn succeed_lost(
        &mut self,
        name: &ServiceName,
        revision: RevisionNumber,
        world: &World,
        moment: Moment,
    ) -> u32 {
        let Some(seen) = Seen::of(world) else { return 0 };
        let pool = PoolId::new(name, revision);
        let replicas = self.services.get(name).map_or(0, |service| service.replicas);
        let Some(kept) = self.kept_mut(name, revision) else { return 0 };
        let is_lost = |number: u32| {
            let instance = seen.platform.instances.get(&pool.instance(number));
            instance.is_some_and(|instance| instance.phase == InstancePhase::Lost)
        };
        let (lost, sound): (Vec<u32>, Vec<u32>) =
            kept.active().map(|(number, _)| number).partition(|number| is_lost(*number));
        if lost.is_empty() {
            return 0;
        }
        let well = sound.iter().filter(|number| is_healthy(world, &pool, **number)).count();
        if well < replicas as usize {
            return u32::try_from(lost.len()).unwrap_or(u32::MAX);
        }
        for number in lost {
            if let Some(slot) = kept.slots.get_mut(&number) {
                slot.stage = Stage::Retiring { since: moment.now, generation: moment.generation };
            }
        }
        0
    }

    /// Drops the slots of instances that have finished. Their instances are stopped then.
    ///
    /// An instance has finished when an edge that serves the decision to unroute it holds no
    /// request on it, or when its time to drain is over; and when those clients have moved on who
    /// went to it by themselves.
    pub(super) fn drop_drained(&mut self, world: &World, now: Timestamp) -> Vec<PoolId> {
        let Some(Seen { edge, .. }) = Seen::of(world) else { return Vec::new() };
        let linger = self.settings().discovery.linger;
        let mut dropped = Vec::new();
        for (name, service) in &mut self.services {
            let readers = edge.readers.get(name);
            for (revision, kept) in &mut service.revisions {
                let pool = PoolId::new(name, *revision);
                let stop = &kept.revision.workload.stop;
                let before = kept.slots.len();
                kept.slots.retain(|number, slot| {
                    let Stage::Retiring { since, generation } = slot.stage else { return true };
                    if edge.serving.generation < generation {
                        return true;
                    }
                    let backend =
                        edge.instances.get(&pool.instance(*number)).copied().unwrap_or_default();
                    let waited = now.since(since);
                    let requests = backend.in_flight > 0 && waited < stop.drain;
                    let long = backend.long_lived > 0 && waited < stop.drain_long_lived;
                    // What was decided may have reached the edge later, and clients with it.
                    let told = now.since(backend.draining.map_or(since, |it| it.max(since)));
                    let unheard = readers.is_some_and(|readers| {
                        let taken = readers.taken.is_none_or(|taken| taken >= generation);
                        told < linger || (!taken && told < stop.drain)
                    });
                    requests || long || unheard
                });
                if kept.slots.len() < before {
                    dropped.push(pool);
                }
            }
        }
        dropped
    }

    /// Gives another port to every instance whose port a stranger has taken, and to every service
    /// whose listener could not be opened.
    pub(super) fn replace_taken_ports(&mut self, world: &World, now: Timestamp) -> Vec<String> {
        let amiss = self.ports_amiss(world, now);
        if amiss.is_empty() {
            return Vec::new();
        }
        let mut used = self.ports_used();
        amiss.into_iter().filter_map(|it| self.mend(&it, &mut used, now)).collect()
    }

    /// Every port that is not what it should be, service by service.
    fn ports_amiss(&self, world: &World, now: Timestamp) -> Vec<Amiss> {
        let platform = world.platform.known();
        let keeper = world.keeper.known().filter(|it| it.listeners.values().any(Option::is_some));
        let mut amiss = Vec::new();
        let fails = |listener: &String| {
            keeper.and_then(|it| it.listeners.get(listener)).is_some_and(Option::is_some)
        };
        let doors = self.ways().filter(|way| fails(&way.listener()));
        for way in doors.filter(|way| now.since(way.door.since) >= LISTENER_RETRY) {
            amiss.push(Amiss::Door(way.caller.clone(), way.revision, way.used.clone()));
        }
        for (name, service) in &self.services {
            let failed = keeper
                .and_then(|keeper| keeper.listeners.get(&super::state::service_listener(name)))
                .is_some_and(Option::is_some);
            // The keeper names the listener, not its port, so what it says of the port before
            // must have had time to pass.
            if failed && now.since(service.port_since) >= LISTENER_RETRY {
                amiss.push(Amiss::Listener(name.clone()));
            }
            for (revision, kept) in &service.revisions {
                let pool = PoolId::new(name, *revision);
                for (number, slot) in &kept.slots {
                    let id = pool.instance(*number);
                    let Some(seen) = platform.and_then(|it| it.instances.get(&id)) else {
                        continue;
                    };
                    let same = seen.port == slot.port;
                    if seen.phase == InstancePhase::PortTaken && same {
                        amiss.push(Amiss::Taken(id));
                    } else if seen.phase == InstancePhase::Running && !same {
                        amiss.push(Amiss::Stayed(id, seen.port));
                    }
                }
            }
        }
        amiss
    }

    /// Chooses another port. Returns what was done; `None` when no port is free.
    fn mend(&mut self, amiss: &Amiss, used: &mut BTreeSet<u16>, now: Timestamp) -> Option<String> {
        match amiss {
            Amiss::Listener(name) => {
                let port = self.ports.take(used)?;
                let service = self.services.get_mut(name)?;
                let before = std::mem::replace(&mut service.port, port);
                service.port_since = now;
                Some(format!("{name}: {before} is taken, {port} instead"))
            }
            Amiss::Door(caller, revision, to) => {
                let port = self.ports.take(used)?;
                let door = self.kept_mut(caller, *revision)?.doors.get_mut(to)?;
                let before = std::mem::replace(door, Door { port, since: now });
                Some(format!(
                    "{caller} {revision} to {to}: {} is taken, {port} instead",
                    before.port
                ))
            }
            Amiss::Taken(id) => {
                let port = self.ports.take(used)?;
                let before = std::mem::replace(&mut self.slot_mut(id)?.port, port);
                Some(format!("{id}: {before} is taken, {port} instead"))
            }
            Amiss::Stayed(id, port) => {
                if !used.insert(*port) {
                    return None;
                }
                self.slot_mut(id)?.port = *port;
                Some(format!("{id}: {port} is free again"))
            }
        }
    }

    fn slot_mut(&mut self, id: &InstanceId) -> Option<&mut Slot> {
        self.kept_mut(&id.pool.service, id.pool.revision)?.slots.get_mut(&id.slot)
    }

    /// Forgets revisions that nothing needs any more, beyond the newest
    /// [`State::REVISIONS_MAX`]. One whose instances are not known to be gone is never forgotten.
    pub(super) fn forget_revisions(&mut self, world: &World) {
        let Some(platform) = world.platform.known() else { return };
        let release = self.release.as_ref();
        for (name, service) in &mut self.services {
            let excess = service.revisions.len().saturating_sub(Self::REVISIONS_MAX);
            if excess == 0 {
                continue;
            }
            let rollout = release.and_then(|release| release.rollouts.get(name));
            let moving = rollout.into_iter().flat_map(|it| it.from.into_iter().chain([it.to]));
            let job = release.and_then(|release| release.jobs.get(name)).map(|run| run.revision);
            let needed: BTreeSet<RevisionNumber> =
                service.stable.into_iter().chain(moving).chain(job).collect();
            let forgotten: Vec<RevisionNumber> = service
                .revisions
                .iter()
                .filter(|(number, kept)| !needed.contains(number) && kept.slots.is_empty())
                .map(|(number, _)| *number)
                .filter(|number| {
                    let pool = PoolId::new(name, *number);
                    !platform.instances.keys().any(|id| id.pool == pool)
                })
                .take(excess)
                .collect();
            service.revisions.retain(|number, _| !forgotten.contains(number));
        }
    }

    pub(super) fn kept(&self, name: &ServiceName, revision: RevisionNumber) -> Option<&Kept> {
        self.services.get(name)?.revisions.get(&revision)
    }

    pub(super) fn kept_mut(
        &mut self,
        name: &ServiceName,
        revision: RevisionNumber,
    ) -> Option<&mut Kept> {
        self.services.get_mut(name)?.revisions.get_mut(&revision)
    }
}

impl Service {
    /// A service that is not deployed yet.
    pub(super) fn new(port: u16, now: Timestamp) -> Self {
        Self {
            stable: None,
            replicas: 0,
            revisions: BTreeMap::new(),
            last_revision: RevisionNumber(0),
            split: BTreeMap::new(),
            port,
            port_since: now,
            held_back: BTreeMap::new(),
            slow: None,
            released: None,
        }
    }
}

fn is_healthy(world: &World, pool: &PoolId, slot: u32) -> bool {
    let edge = world.edge.known();
    let backend = edge.and_then(|edge| edge.instances.get(&pool.instance(slot)));
    backend.is_some_and(|backend| backend.health == Health::Healthy)
}
