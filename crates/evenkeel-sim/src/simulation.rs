//! The world of one seed: virtual time, a queue of what happens next, and the executors.
//!
//! One thread, no clock. Time jumps to the next event; every draw comes from a stream of the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_kernel::model::{Epoch, Generation, InstanceId, Scale, Stack};
use evenkeel_kernel::release::{Ports, State};
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::want;
use evenkeel_kernel::world::InstancePhase;

use crate::asked::Asked;
use crate::bug::Bug;
use crate::controller::Controller;
use crate::databases::Databases;
use crate::edge::Edge;
use crate::faults::Faults;
use crate::invariants::{self, Checked, Checker, Violation, broken};
use crate::load::{self, Demand};
use crate::network::Message;
use crate::people::People;
use crate::platform::{Order, Platform, Proc};
use crate::rng::{Purpose, Rng};
use crate::scenario::{Behaviour, Roughness, Scenario};
use crate::store::Store;

/// Virtual time after which a world that nobody disturbs any more must be as wanted. It covers a
/// few deadlines in a row, for releases that are queued behind one another.
pub(crate) const CONVERGES_WITHIN_MS: u64 = 180_000;
/// Events of one seed; more of them is a loop without end.
const EVENTS_MAX: u64 = 100_000;
/// Durable states that are remembered, to judge tables that arrive late.
const STATES_MAX: usize = 32;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What must never happen, and did.
    pub violation: Option<Violation>,
    /// What happened, line by line, if it was asked for.
    pub story: Vec<String>,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Decisions that were committed.
    pub commits: u64,
    /// Releases that ended.
    pub releases: usize,
}

/// Runs the world of `seed` to its end.
#[must_use]
pub fn run(seed: u64, bug: Option<Bug>, tell: bool) -> Report {
    let mut simulation = Simulation::new(seed, bug, tell);
    let violation = simulation.play().err();
    Report {
        seed,
        violation,
        story: simulation.story.unwrap_or_default(),
        virtual_ms: simulation.now,
        commits: simulation.commits,
        releases: simulation.store.state.past.len(),
    }
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A controller starts.
    Boot,
    /// A controller looks around.
    Wake(usize),
    /// A stalled controller goes on.
    Continue(usize),
    /// An order arrives.
    Deliver(Message),
    /// The platform does something.
    Execute(Order),
    /// An instance has ended for good.
    Gone(InstanceId),
    /// A process ends by itself.
    Exit(InstanceId, u32),
    /// Its shim starts it again.
    Again(InstanceId, u32),
    /// The edge is back.
    EdgeUp,
    /// Something goes wrong.
    Fault,
}

struct Due {
    at: u64,
    order: u64,
    /// Which boot of the machine it belongs to; it is void after another one.
    boot: u32,
    event: Event,
}

impl Report {
    /// A seed that could not be played to its end.
    #[must_use]
    pub fn of_panic(seed: u64) -> Self {
        let text = "it panics".to_owned();
        let violation = Some(Violation { invariant: "never-panics", text });
        let story = Vec::new();
        Self { seed, violation, story, virtual_ms: 0, commits: 0, releases: 0 }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One world.
pub(crate) struct Simulation {
    pub(crate) now: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) roughness: Roughness,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    pub(crate) boot: u32,
    pub(crate) network: Rng,
    pub(crate) instances: Rng,
    pub(crate) wakes: Rng,
    pub(crate) asked: Asked,
    pub(crate) databases: Databases,
    pub(crate) faults: Faults,
    pub(crate) people: People,
    pub(crate) store: Store,
    pub(crate) states: BTreeMap<Generation, Rc<State>>,
    pub(crate) platform: Platform,
    pub(crate) edge: Edge,
    pub(crate) sockets: BTreeMap<String, (SocketAddr, Option<String>)>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) checker: Checker,
    pub(crate) commits: u64,
    /// Since when nobody disturbs the world any more.
    pub(crate) calm_since: Option<u64>,
    pub(crate) finished: bool,
    story: Option<Vec<String>>,
}

impl Simulation {
    fn new(seed: u64, bug: Option<Bug>, tell: bool) -> Self {
        let mut scenario = Scenario::new(seed);
        load::scale_some(seed, &mut scenario);
        let nothing = Stack::empty("sim".parse().expect("a name"));
        let ports = Ports { first: 20_000, last: 20_120, next: 20_000 };
        let state = Rc::new(State::new(nothing, ports));
        let mut simulation = Self {
            now: 1_000,
            bug,
            roughness: scenario.roughness,
            queue: BinaryHeap::new(),
            order: 0,
            boot: 0,
            network: Rng::new(seed, Purpose::Network),
            instances: Rng::new(seed, Purpose::Instances),
            wakes: Rng::new(seed, Purpose::Controllers),
            asked: Asked::new(seed, scenario.roughness),
            databases: Databases::new(seed),
            faults: Faults::new(seed, scenario.roughness),
            people: People::new(scenario.acts),
            states: [(state.generation, Rc::clone(&state))].into(),
            store: Store { state, epoch: Epoch(0) },
            platform: Platform::default(),
            edge: Edge::new(Demand::new(seed)),
            sockets: BTreeMap::new(),
            controllers: Vec::new(),
            checker: Checker::new(scenario.roughness, bug),
            commits: 0,
            calm_since: None,
            finished: false,
            story: tell.then(Vec::new),
        };
        simulation.after(0, Event::Boot);
        simulation.after(500, Event::Fault);
        simulation
    }

    fn play(&mut self) -> Checked {
        for _ in 0..EVENTS_MAX {
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = self.now.max(due.at);
            if due.boot == self.boot {
                self.happen(due.event)?;
            }
            if self.finished {
                return Ok(());
            }
        }
        broken("converges", "the world never comes to rest".to_owned())
    }

    /// Writes a line of the story, if it is told.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let (seconds, ms) = (self.now / 1000, self.now % 1000);
            story.push(format!("{seconds:>4}.{ms:03}  {}", line()));
        }
    }

    /// Lets `event` happen `ms` from now, unless the machine reboots before.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        let due = Due { at: self.now + ms, order: self.order, boot: self.boot, event };
        self.queue.push(Reverse(due));
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Boot => self.boot_controller(),
            Event::Wake(id) => return self.wake(id),
            Event::Continue(id) => return self.go_on(id),
            Event::Deliver(message) => return self.deliver(message),
            Event::Execute(order) => return self.execute(order),
            Event::Gone(id) => {
                self.platform.procs.remove(&id);
            }
            Event::Exit(id, life) => self.exit(&id, life),
            Event::Again(id, life) => self.start_again(&id, life),
            Event::EdgeUp => {
                self.edge.restart(self.now);
                self.say(|| "the edge is back".to_owned());
            }
            Event::Fault => self.strike(),
        }
        Ok(())
    }

    /// The durable state as of `generation`, or as of now.
    fn state_of(&self, generation: Generation) -> Rc<State> {
        Rc::clone(self.states.get(&generation).unwrap_or(&self.store.state))
    }

    /// Remembers the state that has become durable.
    pub(crate) fn remember(&mut self) {
        let state = Rc::clone(&self.store.state);
        self.states.insert(state.generation, state);
        if self.states.len() > STATES_MAX {
            self.states.pop_first();
        }
    }

    fn deliver(&mut self, message: Message) -> Checked {
        match message {
            Message::Listeners(wanted) => {
                self.listen(&wanted);
                Ok(())
            }
            Message::Table(table) => self.install(&table),
            Message::Pool(pool) => {
                self.ask_platform(&pool);
                Ok(())
            }
        }
    }

    fn listen(&mut self, wanted: &BTreeMap<String, SocketAddr>) {
        let mut sockets = BTreeMap::new();
        for (name, addr) in wanted {
            let held = self.sockets.get(name).filter(|(held, _)| held == addr).cloned();
            let again = held.as_ref().is_some_and(|(_, error)| error.is_some());
            let socket = match held {
                // A person frees an address now and then; nobody frees the others for us.
                Some(held) if !again || name.starts_with("svc-") => held,
                Some(_) | None => {
                    let taken = self.faults.active() && self.faults.address_taken();
                    (*addr, taken.then(|| "address in use".to_owned()))
                }
            };
            sockets.insert(name.clone(), socket);
        }
        self.sockets = sockets;
        let open = self.sockets.iter().filter(|(_, (_, error))| error.is_none());
        self.edge.listeners = open.map(|(name, _)| name.clone()).collect();
    }

    fn install(&mut self, table: &Rc<RoutingTable>) -> Checked {
        if !self.edge.up || *self.edge.table == **table {
            return Ok(());
        }
        if table.fence < self.edge.fence && self.bug != Some(Bug::NoFencing) {
            self.say(|| "the edge refuses a table for its age".to_owned());
            return Ok(());
        }
        self.edge.refresh(&mut self.platform, self.now);
        if !self.faults.meddled_with_table {
            let state = self.state_of(table.fence.generation);
            let old = Rc::clone(&self.edge.table);
            let before: Vec<&State> = self.states.values().map(Rc::as_ref).collect();
            let is_ill = |id: &InstanceId| self.edge.finds_ill(id);
            let tables = (&*old, &**table);
            let checked =
                self.checker.installs(&state, &before, &self.platform, tables, is_ill, self.now);
            if let Err(violation) = checked {
                self.say(|| format!("the edge is told to serve {}", table_text(table)));
                self.tell_the_end();
                return Err(violation);
            }
        }
        self.faults.meddled_with_table = false;
        self.edge.fence = table.fence;
        let instances = &mut self.instances;
        self.edge.install(table, self.now, || instances.between(0, 900));
        self.say(|| format!("the edge serves {}", table_text(table)));
        Ok(())
    }

    fn ask_platform(&mut self, pool: &Rc<want::Pool>) {
        let Some(orders) = self.platform.accept(pool, self.bug != Some(Bug::NoFencing)) else {
            return self.say(|| "the platform refuses an order for its age".to_owned());
        };
        for order in orders {
            let slow = self.faults.active() && self.instances.chance(50);
            let ms = self.instances.between(10, if slow { 2_500 } else { 150 });
            self.after(ms, Event::Execute(order));
        }
    }

    fn execute(&mut self, order: Order) -> Checked {
        match order {
            Order::Start(id, pool) => self.start(&id, &pool),
            Order::Stop(id, fence) => return self.stop(&id, fence),
            Order::Move(id, port) => {
                let (now, warmup) = (self.now, self.instances.between(50, 400));
                if let Some(it) = self.platform.procs.get_mut(&id)
                    && it.port != port
                {
                    it.port = port;
                    if it.once {
                        let waits = it.phase == InstancePhase::PortTaken;
                        if waits {
                            it.live(now, warmup);
                            self.begin_job(&id);
                        }
                        return Ok(());
                    }
                    it.live(now, warmup);
                    let life = it.life;
                    self.schedule_exit(&id, life);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, id: &InstanceId, pool: &Rc<want::Pool>) {
        self.platform.pending.remove(id);
        let Some(slot) = pool.slots.get(&id.slot) else { return };
        if self.platform.procs.contains_key(id) {
            return;
        }
        let once = pool.workload.once;
        if once && self.platform.has_other_attempt(id) {
            // The platform keeps them apart too, as the last who can.
            self.platform.pending.insert(id.clone());
            return self.after(50, Event::Execute(Order::Start(id.clone(), Rc::clone(pool))));
        }
        let mut it = Proc {
            port: slot.port,
            behaviour: Behaviour::of(&pool.workload),
            phase: InstancePhase::Running,
            since: self.now,
            born: self.now,
            life: 0,
            answers_from: None,
            sick_at: None,
            was_healthy: false,
            exits: 0,
            fence: pool.fence,
            once,
            foreign: false,
        };
        it.live(self.now, self.instances.between(50, 400));
        if self.faults.active() && self.faults.port_taken() {
            it.end(self.now, InstancePhase::PortTaken);
        }
        let life = it.life;
        self.say(|| format!("{id} starts"));
        let waits = it.phase == InstancePhase::PortTaken;
        self.platform.procs.insert(id.clone(), it);
        match once {
            true if waits => {}
            true => self.begin_job(id),
            false => self.schedule_exit(id, life),
        }
    }

    fn schedule_exit(&mut self, id: &InstanceId, life: u32) {
        let loops =
            self.platform.procs.get(id).is_some_and(|it| it.behaviour == Behaviour::CrashLoop);
        if loops {
            let ms = self.instances.between(150, 600);
            self.after(ms, Event::Exit(id.clone(), life));
        }
    }

    fn stop(&mut self, id: &InstanceId, fence: evenkeel_kernel::world::Fence) -> Checked {
        let Some(it) = self.platform.procs.get_mut(id) else { return Ok(()) };
        if it.phase == InstancePhase::Stopping {
            return Ok(());
        }
        let routed = self.edge.up && self.edge.routes_to(id);
        let careful = self.bug != Some(Bug::NoStopPrecondition);
        if careful && (routed || !self.edge.up) {
            self.say(|| format!("{id} is not stopped: the edge may route to it"));
            return Ok(());
        }
        it.fence = it.fence.max(fence);
        invariants::stops(&self.store.state, id, it, routed)?;
        it.phase = InstancePhase::Stopping;
        it.since = self.now;
        self.say(|| format!("{id} is stopped"));
        let ms = self.instances.between(30, 300);
        self.after(ms, Event::Gone(id.clone()));
        Ok(())
    }

    /// A process ends by itself; its shim starts it again after a while.
    pub(crate) fn exit(&mut self, id: &InstanceId, life: u32) {
        let now = self.now;
        let Some(it) = self.platform.procs.get_mut(id) else { return };
        if it.once {
            return self.end_job(id, life, true);
        }
        if it.life != life || it.phase != InstancePhase::Running {
            return;
        }
        it.end(now, InstancePhase::Backoff);
        it.exits += 1;
        let life = it.life;
        self.say(|| format!("{id} ends by itself"));
        let ms = self.instances.between(200, 700);
        self.after(ms, Event::Again(id.clone(), life));
    }

    fn start_again(&mut self, id: &InstanceId, life: u32) {
        let (now, warmup) = (self.now, self.instances.between(50, 400));
        let Some(it) = self.platform.procs.get_mut(id) else { return };
        if it.life != life || it.phase != InstancePhase::Backoff {
            return;
        }
        it.live(now, warmup);
        let life = it.life;
        self.schedule_exit(id, life);
    }

    /// Tells what is there, for a world that does not come to rest.
    pub(crate) fn tell_the_end(&mut self) {
        let mut lines: Vec<String> = Vec::new();
        for (id, it) in &self.platform.procs {
            let well = it.condition(self.now).0;
            lines.push(format!("{id} is {:?} on {}, well: {well}", it.phase, it.port));
        }
        for (name, service) in &self.store.state.services {
            for (revision, kept) in service.revisions.iter().filter(|(_, it)| !it.slots.is_empty())
            {
                lines.push(format!("{name} {revision} of {}: {:?}", service.replicas, kept.slots));
            }
        }
        if let Some(release) = &self.store.state.release {
            lines.push(format!("{:?}: {:?}", release.phase, release.rollouts));
        }
        for line in lines {
            self.say(|| line);
        }
    }

    /// Why the world is not as the durable state wants it; `None` when it is.
    pub(crate) fn astray(&self) -> Option<String> {
        let state = &self.store.state;
        if let Some(release) = &state.release {
            return Some(format!("release {} is {}", release.id, release.phase.name()));
        }
        if state.queued.is_some() {
            return Some("a change is queued".to_owned());
        }
        let mut wanted = std::collections::BTreeSet::new();
        for (name, service) in &state.services {
            for (revision, kept) in &service.revisions {
                let pool = evenkeel_kernel::model::PoolId::new(name, *revision);
                wanted.extend(kept.slots.keys().map(|number| pool.instance(*number)));
                if Some(*revision) != service.stable && !kept.slots.is_empty() {
                    return Some(format!("{pool} still has slots"));
                }
                if kept.active().count() < kept.slots.len() {
                    return Some(format!("{pool} still drains"));
                }
            }
            let Some(stable) = service.stable else { continue };
            let kept = &service.revisions[&stable];
            let size = kept.slots.len();
            // One of a bad revision that lost its shim waits for others to be well.
            let bad = Behaviour::of(&kept.revision.workload) != Behaviour::Good;
            let asked = self.edge.demand.of(name, self.now) > 0;
            if service.sleeps() && asked {
                return Some(format!("{name} sleeps and is asked for"));
            }
            let scale = state.stack.services.get(name).and_then(|it| it.scale.as_ref());
            let may_sleep = scale.is_some_and(Scale::sleeps) && !bad;
            if may_sleep && !service.sleeps() && !asked {
                return Some(format!("{name} does not sleep and is asked by nobody"));
            }
            if size != service.replicas as usize && !bad {
                return Some(format!("{name} has {size} of {}", service.replicas));
            }
        }
        if let Some(missing) = wanted.iter().find(|id| !self.platform.procs.contains_key(*id)) {
            return Some(format!("{missing} is not there"));
        }
        let ours =
            self.platform.procs.keys().filter(|id| state.services.contains_key(&id.pool.service));
        if let Some(orphan) = ours.into_iter().find(|id| !wanted.contains(id)) {
            return Some(format!("{orphan} is there and nobody wants it"));
        }
        for id in &wanted {
            let it = &self.platform.procs[id];
            let well = it.condition(self.now).0 || it.behaviour != Behaviour::Good;
            if !well || (it.phase == InstancePhase::Lost && it.behaviour == Behaviour::Good) {
                return Some(format!("{id} is not well"));
            }
        }
        let table = state.table(self.edge.table.fence);
        let newest = self.edge.table.fence.generation == state.generation;
        (!newest || !self.edge.up || table != *self.edge.table)
            .then(|| "the edge does not serve the newest table".to_owned())
    }
}

/// A table in one line.
fn table_text(table: &RoutingTable) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{}:", table.fence.generation);
    for (name, service) in &table.services {
        let _infallible = write!(text, " {name}");
        for (revision, pool) in &service.pools {
            let active = pool.instances.values().filter(|it| !it.draining).count();
            let draining = pool.instances.len() - active;
            let weight = service.split.get(revision).copied().unwrap_or_default();
            let _infallible = write!(text, " [{revision} {active}+{draining} {weight}]");
        }
    }
    text
}
