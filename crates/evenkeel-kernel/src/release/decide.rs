//! From one state to the next: what the release does about what was observed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::Seen;
use super::ledger::Ledger;
use super::pools::Moment;
use super::state::{
    Bake, Because, Kept, Kind, Note, Outcome, Past, Paused, Phase, Queued, Release, Rollout,
    Service, State,
};
use crate::model::{PoolId, Revision, RevisionNumber, ServiceName, Strategy, Weight, Workload};
use crate::plan::{dependency_order, moving, plan};
use crate::rollout;
use crate::time::{Timestamp, human};
use crate::world::World;

/// Healthy time is added to the durable state in portions of this size, so that a crash costs at
/// most one portion and a bake costs at most one commit a second.
const BAKE_PORTION: Duration = Duration::from_secs(1);
/// A longer gap between two looks was not watched and does not count as healthy time.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Another state, and what to write into the journal about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The state to commit.
    pub state: State,
    /// What was decided, in order. Empty for mere book-keeping.
    pub notes: Vec<Note>,
}

impl State {
    /// Decides what changes. Reads the world, touches nothing; `None` when there is nothing to
    /// decide.
    #[must_use]
    pub fn decide(&self, world: &World, now: Timestamp) -> Option<Decision> {
        let moment = Moment { now, generation: self.generation.next() };
        let mut next = Deciding { state: self.clone(), world, moment, notes: Vec::new() };
        next.keep_house();
        next.step();
        next.settle();
        let Deciding { mut state, notes, .. } = next;
        if state == *self {
            return None;
        }
        state.finish_decision(self, world, now);
        Some(Decision { state, notes })
    }

    /// What a new control process makes of the state it finds: time that nobody watched is
    /// neither progress nor lack of it.
    #[must_use]
    pub fn resumed(&self, now: Timestamp) -> Self {
        let mut state = self.clone();
        if let Some(release) = &mut state.release {
            release.bake.seen = None;
            release.progress = now;
            release.blind = None;
            for rollout in release.rollouts.values_mut() {
                rollout.unwell = None;
            }
        }
        state
    }

    /// Book-keeping that every changed state gets: a generation if anything else is wanted, and
    /// the ledger as of now.
    pub(super) fn finish_decision(&mut self, before: &Self, world: &World, now: Timestamp) {
        let same_wants = self.services == before.services
            && self.routes() == before.routes()
            && self.listeners() == before.listeners()
            && self.previews() == before.previews()
            && self.release.as_ref().map(|it| it.id) == before.release.as_ref().map(|it| it.id);
        if !same_wants {
            self.generation = before.generation.next();
        }
        let moved = !same_wants
            || self.release.as_ref().map(|it| &it.phase)
                != before.release.as_ref().map(|it| &it.phase);
        if let Some(release) = &mut self.release {
            if moved {
                release.progress = now;
            }
            if let Some(edge) = world.edge.known() {
                release.ledger.read(edge);
            }
        }
    }

    /// Starts a release towards `wanted`.
    pub(super) fn start(&mut self, change: Queued, world: &World, now: Timestamp) -> Vec<Note> {
        let Queued { id, kind, by, wanted } = change;
        let plan = plan(&self.now(&wanted), &wanted);
        let order = moving(&self.now(&wanted), &wanted);
        let mut used = self.ports_used();
        let mut rollouts = BTreeMap::new();
        for name in &order {
            let described = &wanted.services[name];
            let number = self.now(&wanted).next[name];
            if !self.services.contains_key(name) {
                let Some(port) = self.ports.take(&mut used) else { continue };
                self.services.insert(name.clone(), Service::new(port, now));
            }
            let Some(service) = self.services.get_mut(name) else { continue };
            service.keep(number, &described.workload);
            let strategy = match (kind, service.stable) {
                (Kind::Apply | Kind::Restart, Some(_)) => described.rollout.strategy.clone(),
                // What replaces nothing, or returns to what is known, has no steps to take.
                (Kind::Rollback, _) | (_, None) => without_steps(&described.rollout.strategy),
            };
            let rollout = Rollout {
                from: service.stable,
                to: number,
                strategy,
                replicas: described.replicas,
                unwell: None,
                flip: false,
            };
            rollouts.insert(name.clone(), rollout);
        }
        let mut release = Release {
            id,
            kind,
            by,
            started: now,
            wanted,
            plan,
            rollouts,
            order,
            phase: Phase::Expanding,
            since: now,
            progress: now,
            bake: Bake::default(),
            paused: None,
            blind: None,
            hurried: false,
            ledger: Ledger::default(),
        };
        release.ledger = Ledger::open(release.pools(), world.edge.known());
        let text = format!("release {id} started by {}: {}", release.by, summary(&release));
        self.release = Some(release);
        vec![Note { release: Some(id), kind: "release.started", text }]
    }

    /// Turns the release under way back.
    pub(super) fn turn_back(&mut self, because: Because, now: Timestamp) -> Vec<Note> {
        let Some(release) = self.release.as_mut() else { return Vec::new() };
        let failed = because.is_failure();
        for (name, rollout) in &mut release.rollouts {
            let Some(service) = self.services.get(name) else { continue };
            let old = rollout.from.and_then(|from| service.revisions.get(&from));
            let whole = old.map_or(0, |kept| kept.active().count());
            rollout.flip = failed || whole >= service.replicas as usize;
        }
        let id = release.id;
        let text = format!("release {id} turns back: {because}");
        release.phase = Phase::TurningBack(because);
        release.since = now;
        release.progress = now;
        release.paused = None;
        release.bake = Bake::default();
        vec![Note { release: Some(id), kind: "release.turned-back", text }]
    }

    /// Remembers that the new revision of `name` is bad, so that it is not tried again unasked.
    fn hold_back(&mut self, name: &ServiceName, reason: &str) {
        let Some(release) = &self.release else { return };
        let Some(rollout) = release.rollouts.get(name) else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(kept) = service.revisions.get(&rollout.to) else { return };
        service.held_back.insert(kept.revision.digest.clone(), reason.to_owned());
        while service.held_back.len() > Self::HELD_BACK_MAX {
            service.held_back.pop_first();
        }
    }
}

impl Service {
    /// Keeps a revision under `number`, if it is not kept already.
    fn keep(&mut self, number: RevisionNumber, workload: &Workload) {
        let revision = Revision { number, digest: workload.digest(), workload: workload.clone() };
        self.last_revision = self.last_revision.max(number);
        self.revisions.entry(number).or_insert_with(|| Kept {
            revision,
            next_slot: 1,
            slots: BTreeMap::new(),
        });
    }
}

/// One decision in the making.
struct Deciding<'a> {
    state: State,
    world: &'a World,
    moment: Moment,
    notes: Vec<Note>,
}

impl Deciding<'_> {
    fn note(&mut self, kind: &'static str, text: String) {
        let release = self.state.release.as_ref().map(|release| release.id);
        self.notes.push(Note { release, kind, text });
    }

    /// What is done whatever phase a release is in.
    fn keep_house(&mut self) {
        for text in self.state.replace_taken_ports(self.world, self.moment.now) {
            self.note("port.replaced", text);
        }
        self.state.drop_drained(self.world, self.moment.now);
        self.state.forget_revisions(self.world);
        let stale = match (&self.state.release, self.world.edge.known()) {
            (Some(release), Some(edge)) => release.ledger.is_stale(edge),
            _ => false,
        };
        if stale
            && let (Some(release), Some(edge)) =
                (self.state.release.as_mut(), self.world.edge.known())
        {
            release.ledger.read(edge);
        }
    }

    /// One step of the release.
    fn step(&mut self) {
        if self.state.release.is_none() {
            return self.start_queued();
        }
        self.watch_the_watching();
        self.watch_wellness();
        self.fail();
        let Some(release) = self.state.release.clone() else { return };
        if release.phase.is_forward() {
            self.keep_old_whole(&release);
        }
        match &release.phase {
            Phase::Expanding => self.expand(&release),
            Phase::Shifting { service, step } => self.shift(&release, *service, *step),
            Phase::Baking => self.bake_out(&release),
            Phase::Contracting => self.contract(&release),
            Phase::TurningBack(because) => self.go_back(&release, because),
        }
    }

    /// Time in which something could not be seen is neither healthy time nor lack of progress.
    fn watch_the_watching(&mut self) {
        let sees = Seen::of(self.world).is_some();
        let now = self.moment.now;
        let Some(release) = self.state.release.as_mut() else { return };
        match (sees, release.blind) {
            (false, None) => {
                release.blind = Some(now);
                release.bake.seen = None;
                for rollout in release.rollouts.values_mut() {
                    rollout.unwell = None;
                }
            }
            (true, Some(since)) => {
                release.blind = None;
                release.progress = release.progress.after(now.since(since));
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    /// A strategy that leaves the old pool whole does so when the service is scaled meanwhile.
    fn keep_old_whole(&mut self, release: &Release) {
        for (name, rollout) in &release.rollouts {
            let rolls = matches!(rollout.strategy, Strategy::Rolling { .. });
            let untouched = !rolls || release.phase == Phase::Expanding;
            let Some(from) = rollout.from.filter(|_| untouched) else { continue };
            let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
            self.resize(name, from, replicas);
        }
    }

    fn start_queued(&mut self) {
        let Some(queued) = self.state.queued.take() else { return };
        let notes = self.state.start(queued, self.world, self.moment.now);
        self.notes.extend(notes);
    }

    /// Takes the release back, or holds it, if it fails.
    fn fail(&mut self) {
        let Some(release) = self.state.forward() else { return };
        let now = self.moment.now;
        let Some(failure) = self.state.failure(release, self.world, now) else { return };
        let paused = release.paused.is_some();
        let automatic = release.rollouts.keys().all(|name| {
            release.wanted.services.get(name).is_none_or(|service| service.rollout.auto_rollback)
        });
        if automatic {
            for name in &failure.culprits {
                self.state.hold_back(name, &failure.reason);
            }
            let notes = self.state.turn_back(Because::Failed(failure.reason), now);
            self.notes.extend(notes);
        } else if !paused {
            let reason = failure.reason;
            self.note("release.held", format!("held because {reason}; auto_rollback is off"));
            if let Some(release) = &mut self.state.release {
                release.paused = Some(Paused { by: reason, since: now });
                release.bake.seen = None;
            }
        }
    }

    /// Keeps the mark since when too few of the new instances are well.
    fn watch_wellness(&mut self) {
        let Some(seen) = Seen::of(self.world) else { return };
        let Some(release) = &self.state.release else { return };
        let marks: Vec<(ServiceName, bool)> = release
            .rollouts
            .iter()
            .map(|(name, rollout)| (name.clone(), self.state.is_unwell(name, rollout, seen)))
            .collect();
        let now = self.moment.now;
        let Some(release) = self.state.release.as_mut() else { return };
        for (name, unwell) in marks {
            if let Some(rollout) = release.rollouts.get_mut(&name) {
                rollout.unwell = if unwell { rollout.unwell.or(Some(now)) } else { None };
            }
        }
    }

    /// Starts the first instances of every new revision, those that are used before those that
    /// use them, and goes on once all are ready.
    fn expand(&mut self, release: &Release) {
        let mut all_ready = Seen::of(self.world).is_some() && self.listeners_open();
        for name in &release.order {
            // Without a port there is no rollout; the release then ends for lack of progress.
            let Some(rollout) = release.rollouts.get(name) else {
                all_ready = false;
                continue;
            };
            if !self.uses_are_ready(release, name) {
                all_ready = false;
                continue;
            }
            let first = rollout::first_size(&rollout.strategy, rollout.replicas, rollout.from);
            if self.active(name, rollout.to) < first {
                self.resize(name, rollout.to, first);
            }
            all_ready &= Seen::of(self.world).is_some_and(|seen| {
                let situation = self.state.situation(name, rollout, seen, self.moment.now);
                situation.new.ready >= first
            });
        }
        for (name, replicas) in self.resized(release) {
            let Some(stable) = self.state.services.get(&name).and_then(|it| it.stable) else {
                continue;
            };
            self.resize_to_at_least(&name, stable, replicas);
            all_ready &= Seen::of(self.world).is_some_and(|seen| {
                let pool = PoolId::new(&name, stable);
                self.state.side(&pool, Duration::ZERO, seen, self.moment.now).ready >= replicas
            });
        }
        if all_ready && release.paused.is_none() {
            self.enter(Phase::Shifting { service: 0, step: 0 });
        }
    }

    /// Services whose number of instances rises without a new revision.
    fn resized(&self, release: &Release) -> Vec<(ServiceName, u32)> {
        let wanted = release.wanted.services.iter();
        wanted
            .filter(|(name, _)| !release.rollouts.contains_key(*name))
            .filter(|(name, service)| {
                self.state.services.get(*name).is_some_and(|it| service.replicas > it.replicas)
            })
            .map(|(name, service)| (name.clone(), service.replicas))
            .collect()
    }

    fn listeners_open(&self) -> bool {
        let Some(edge) = self.world.edge.known() else { return false };
        self.state.listeners().keys().all(|name| edge.listeners.contains(name))
    }

    /// Whether everything the service uses has an instance that answers. Services in a circle do
    /// not wait for one another.
    fn uses_are_ready(&self, release: &Release, name: &ServiceName) -> bool {
        let services = &release.wanted.services;
        let order = dependency_order(services);
        let place = |of: &ServiceName| order.iter().position(|it| it == of);
        let Some(service) = services.get(name) else { return true };
        service.workload.uses.iter().filter(|used| place(used) < place(name)).all(|used| {
            let Some(deployed) = self.state.services.get(used) else { return true };
            if deployed.stable.is_some() {
                return true;
            }
            let Some(rollout) = release.rollouts.get(used) else { return true };
            Seen::of(self.world).is_some_and(|seen| {
                let pool = PoolId::new(used, rollout.to);
                let listener = super::state::service_listener(used);
                seen.edge.listeners.contains(&listener)
                    && self.state.side(&pool, Duration::ZERO, seen, self.moment.now).ready > 0
            })
        })
    }

    /// Moves the traffic of one service, one step at a time.
    fn shift(&mut self, release: &Release, index: usize, step: usize) {
        let Some((name, rollout)) =
            release.order.get(index).and_then(|name| Some((name, release.rollouts.get(name)?)))
        else {
            return self.promote(release);
        };
        if release.paused.is_some() {
            return self.stop_bake();
        }
        let Some(seen) = Seen::of(self.world) else { return };
        let situation = self.state.situation(name, rollout, seen, self.moment.now);
        let target = rollout::target(&rollout.strategy, step, &situation);
        self.resize(name, rollout.to, target.new);
        if let Some(from) = rollout.from {
            self.resize(name, from, target.old);
        }
        self.split(name, rollout, target.weight);
        let is_new = rollout.from.is_none();
        if target.weight != situation.weight {
            self.note(
                "split.changed",
                format!("{name}: {} of the traffic goes to {}", target.weight, rollout.to),
            );
            return;
        }
        if !target.reached || seen.edge.serving.generation < self.state.generation {
            return self.stop_bake();
        }
        let needed =
            rollout::watched(&rollout.strategy, step, is_new).map_or(Duration::ZERO, |it| it.bake);
        if !self.bake(needed) {
            return;
        }
        if step + 1 < rollout::steps(&rollout.strategy, is_new) {
            let next = step + 1;
            self.enter(Phase::Shifting { service: index, step: next });
        } else if index + 1 < release.order.len() {
            self.enter(Phase::Shifting { service: index + 1, step: 0 });
        } else {
            self.promote(release);
        }
    }

    /// All traffic is on the new revisions: the routes follow, the old is kept warm.
    fn promote(&mut self, release: &Release) {
        if release.paused.is_some() {
            return;
        }
        self.enter(Phase::Baking);
        let bake = release.bake(&self.state.stack);
        let text = match bake.is_zero() {
            true => "promoted".to_owned(),
            false => format!("promoted; what it replaced is kept for {}", human(bake)),
        };
        self.note("release.promoted", text);
    }

    /// Watches the promoted release; then the point of no return.
    fn bake_out(&mut self, release: &Release) {
        for (name, rollout) in &release.rollouts {
            self.resize_to_at_least(name, rollout.to, rollout.replicas);
        }
        let Some(seen) = Seen::of(self.world) else { return };
        if seen.edge.serving.generation < self.state.generation {
            return self.stop_bake();
        }
        if !self.bake(release.bake(&self.state.stack)) {
            return;
        }
        // A service that is not as large as wanted yet is not promoted in full.
        let whole = release.rollouts.iter().all(|(name, rollout)| {
            let pool = PoolId::new(name, rollout.to);
            let side = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
            side.ready >= rollout.replicas
        });
        if whole {
            self.pass_point_of_no_return(release);
        }
    }

    fn pass_point_of_no_return(&mut self, release: &Release) {
        let wanted = &release.wanted;
        for (name, rollout) in &release.rollouts {
            if let Some(service) = self.state.services.get_mut(name) {
                service.stable = Some(rollout.to);
                service.split = [(rollout.to, Weight::ALL)].into();
            }
        }
        for (name, service) in &mut self.state.services {
            match wanted.services.get(name) {
                Some(described) => service.replicas = described.replicas,
                None => {
                    service.stable = None;
                    service.replicas = 0;
                    service.split.clear();
                }
            }
        }
        self.state.stack = wanted.clone();
        self.enter(Phase::Contracting);
        self.note("release.point-of-no-return", "the old revisions are stopped now".to_owned());
    }

    /// Ends the release when everything it replaced is known to be gone.
    fn contract(&mut self, release: &Release) {
        let Some(seen) = Seen::of(self.world) else { return };
        let lists_stale = self.state.services.iter().any(|(name, service)| {
            service.revisions.iter().any(|(revision, kept)| {
                let pool = PoolId::new(name, *revision);
                let stays = service.stable == Some(*revision);
                let unwanted = |id: &crate::model::InstanceId| {
                    id.pool == pool && !kept.slots.contains_key(&id.slot)
                };
                (!stays && !kept.slots.is_empty()) || seen.platform.instances.keys().any(unwanted)
            })
        });
        if !lists_stale {
            let outcome = match release.hurried {
                true => Outcome::FastPromoted,
                false => Outcome::Promoted,
            };
            self.end(outcome, None);
        }
    }

    /// Brings everything back to what it was before the release.
    fn go_back(&mut self, release: &Release, because: &Because) {
        for (name, rollout) in &release.rollouts {
            let Some(from) = rollout.from else {
                if let Some(service) = self.state.services.get_mut(name) {
                    service.split.clear();
                }
                self.resize(name, rollout.to, 0);
                continue;
            };
            self.go_back_to(release, name, rollout, from);
        }
        let Some(seen) = Seen::of(self.world) else { return };
        let done = release.rollouts.iter().all(|(name, rollout)| {
            let pool = PoolId::new(name, rollout.to);
            let new = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
            let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
            let old = rollout.from.map_or(replicas, |from| self.active(name, from));
            new.occupied == 0 && old >= replicas
        });
        if done && seen.edge.serving.generation >= self.state.generation {
            let outcome = match because {
                Because::Failed(_) => Outcome::RolledBack,
                Because::Aborted(_) => Outcome::Aborted,
                Because::RolledBack(_) => Outcome::FastRolledBack,
                Because::Superseded(_) => Outcome::Superseded,
            };
            self.end(outcome, Some(because.to_string()));
        }
    }

    fn go_back_to(
        &mut self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        from: RevisionNumber,
    ) {
        let replicas = self.state.services.get(name).map_or(0, |it| it.replicas);
        let Some(seen) = Seen::of(self.world) else {
            // Even blind, the way back to a pool that was never touched is safe.
            if rollout.flip && self.active(name, from) >= replicas {
                self.split(name, rollout, Weight::NONE);
            }
            return;
        };
        let way = Rollout { replicas, ..rollout.clone() };
        let mut situation = self.state.situation(name, &way, seen, self.moment.now);
        // Going back, an old instance counts as soon as it is healthy, and so does a new one.
        let pool = PoolId::new(name, rollout.to);
        situation.new = self.state.side(&pool, Duration::ZERO, seen, self.moment.now);
        let target = rollout::back(&rollout.strategy, &situation);
        // What was there before may be broken for good. The way back ends all the same, because a
        // repair may be waiting behind it.
        let overdue = self.moment.now.since(release.progress) >= release.progress_deadline();
        let flips = (rollout.flip && situation.old.ready > 0) || overdue;
        let weight = match flips || situation.new.size == 0 {
            true => Weight::NONE,
            false => target.weight.min(situation.weight),
        };
        self.resize(name, from, target.old.max(situation.old.size));
        self.split(name, rollout, weight);
        let enough = situation.old.ready >= replicas;
        let new = match weight == Weight::NONE && (enough || rollout.flip || overdue) {
            true => 0,
            false => target.new,
        };
        self.resize(name, rollout.to, new);
    }

    fn end(&mut self, outcome: Outcome, because: Option<String>) {
        let Some(mut release) = self.state.release.clone() else { return };
        if let Some(edge) = self.world.edge.known() {
            release.ledger.read(edge);
        }
        self.note(
            "release.ended",
            match &because {
                Some(because) => format!("release {} ended: {outcome}, {because}", release.id),
                None => format!("release {} ended: {outcome}", release.id),
            },
        );
        let moved = release.rollouts.iter();
        let past = Past {
            id: release.id,
            kind: release.kind,
            by: release.by,
            started: release.started,
            ended: self.moment.now,
            outcome,
            because,
            moved: moved.map(|(name, it)| (name.clone(), (it.from, it.to))).collect(),
            ledger: release.ledger,
        };
        self.state.remember(past);
        self.state.release = None;
    }

    /// Services that no rollout moves have their stable revision, whole, and nothing else.
    fn settle(&mut self) {
        let rolling = self.state.release.as_ref().filter(|it| it.phase != Phase::Contracting);
        let moved = |name: &ServiceName| rolling.is_some_and(|it| it.rollouts.contains_key(name));
        let names: Vec<ServiceName> =
            self.state.services.keys().filter(|name| !moved(name)).cloned().collect();
        for name in names {
            let Some(service) = self.state.services.get_mut(&name) else { continue };
            let replicas = match self.state.release.as_ref().filter(|it| it.phase.is_forward()) {
                Some(release) => {
                    let wanted = release.wanted.services.get(&name);
                    service.replicas.max(wanted.map_or(0, |wanted| wanted.replicas))
                }
                None => service.replicas,
            };
            let stable = service.stable;
            if let Some(stable) = stable {
                service.split = [(stable, Weight::ALL)].into();
            }
            let revisions: Vec<_> = service.revisions.keys().copied().collect();
            for revision in revisions {
                if stable == Some(revision) {
                    let lost = self.state.succeed_lost(&name, revision, self.world, self.moment);
                    self.resize(&name, revision, replicas + lost);
                } else {
                    self.resize(&name, revision, 0);
                }
            }
        }
    }

    fn resize(&mut self, name: &ServiceName, revision: RevisionNumber, size: u32) {
        self.state.resize(name, revision, size, self.world, self.moment);
    }

    fn resize_to_at_least(&mut self, name: &ServiceName, revision: RevisionNumber, size: u32) {
        if self.active(name, revision) < size {
            self.resize(name, revision, size);
        }
    }

    fn active(&self, name: &ServiceName, revision: RevisionNumber) -> u32 {
        let count = self.state.kept(name, revision).map_or(0, |kept| kept.active().count());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Gives the new revision `weight` and the old one the rest. A revision without instances
    /// gets nothing.
    fn split(&mut self, name: &ServiceName, rollout: &Rollout, weight: Weight) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        let weight =
            if rollout.from.is_some() || weight == Weight::NONE { weight } else { Weight::ALL };
        let mut split = BTreeMap::new();
        if weight.0 > 0 {
            split.insert(rollout.to, weight);
        }
        if let Some(from) = rollout.from.filter(|_| weight.rest().0 > 0) {
            split.insert(from, weight.rest());
        }
        service.split = split;
    }

    /// Adds healthy time. Returns whether there is enough of it.
    fn bake(&mut self, needed: Duration) -> bool {
        let now = self.moment.now;
        let Some(release) = self.state.release.as_mut() else { return false };
        if release.paused.is_some() {
            release.bake.seen = None;
            return false;
        }
        if release.bake.waived || release.bake.healthy >= needed {
            return true;
        }
        if release.rollouts.values().any(|rollout| rollout.unwell.is_some()) {
            release.bake.seen = None;
            return false;
        }
        let Some(seen) = release.bake.seen else {
            release.bake.seen = Some(now);
            return false;
        };
        let passed = now.since(seen).min(GAP_MAX);
        if passed >= BAKE_PORTION || release.bake.healthy + passed >= needed {
            release.bake.healthy += passed;
            release.bake.seen = Some(now);
            release.progress = now;
        }
        release.bake.healthy >= needed
    }

    fn stop_bake(&mut self) {
        if let Some(release) = &mut self.state.release {
            release.bake.seen = None;
        }
    }

    fn enter(&mut self, phase: Phase) {
        let now = self.moment.now;
        let Some(release) = &mut self.state.release else { return };
        let waived = release.bake.waived && phase == Phase::Contracting;
        release.bake = Bake { waived, ..Bake::default() };
        release.since = now;
        release.progress = now;
        release.phase = phase;
        let text = match release.moving() {
            Some((name, rollout, step)) => {
                let steps = rollout::steps(&rollout.strategy, rollout.from.is_none());
                format!("shifting {name} to {}: step {} of {steps}", rollout.to, step + 1)
            }
            None => release.phase.name().to_owned(),
        };
        self.note("phase.entered", text);
    }
}

impl State {
    /// Adds a release to those that are remembered.
    pub(super) fn remember(&mut self, past: Past) {
        self.past.push(past);
        let excess = self.past.len().saturating_sub(Self::PAST_MAX);
        self.past.drain(..excess);
    }
}

/// A way back takes no steps: what is tried already need not be tried again.
fn without_steps(strategy: &Strategy) -> Strategy {
    match strategy {
        Strategy::Rolling { .. } => strategy.clone(),
        Strategy::BlueGreen { .. } | Strategy::Canary { .. } => {
            Strategy::BlueGreen { preview: None }
        }
    }
}

fn summary(release: &Release) -> String {
    let moved = release.order.iter().filter_map(|name| {
        let rollout = release.rollouts.get(name)?;
        Some(match rollout.from {
            Some(from) => format!("{name} {from} to {}", rollout.to),
            None => format!("{name} {}", rollout.to),
        })
    });
    let moved: Vec<String> = moved.collect();
    match moved.is_empty() {
        true => "no new revision".to_owned(),
        false => moved.join(", "),
    }
}
