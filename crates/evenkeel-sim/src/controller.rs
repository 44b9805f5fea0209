//! The shell of the control plane: observe, decide, commit, act. It may die between any two of
//! them, or sleep through minutes.

use std::rc::Rc;

use evenkeel_kernel::model::{Epoch, PoolId};
use evenkeel_kernel::release::{Stage, State};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{self, Fence, Observed, World};

use crate::bug::Bug;
use crate::faults::Moment;
use crate::invariants::{self, Checked, Violation, broken};
use crate::network::{Batch, Message};
use crate::simulation::{CONVERGES_WITHIN_MS, Event, Simulation};
use crate::store::Committed;

/// Decisions in a row without looking again; more of them is a loop without end.
const DECISIONS_MAX: usize = 60;
/// A batch that has not changed is sent again every so many rounds.
const RESEND_EVERY: u64 = 3;
/// A controller is asked what it waits for every so many rounds.
const WHY_EVERY: u64 = 8;
/// An order that takes longer may be overtaken by another decision.
const LATE_MS: u64 = 200;
/// How long a planted cache is believed.
const CACHE_MS: u64 = 3_000;

/// One control process.
#[derive(Debug)]
pub(crate) struct Controller {
    epoch: Epoch,
    started: u64,
    state: Rc<State>,
    alive: bool,
    stalled: Option<Stalled>,
    batch: Option<Batch>,
    round: u64,
    /// The world of its last round.
    saw: Option<World>,
}

/// Where a controller sleeps.
#[derive(Debug)]
enum Stalled {
    /// It has decided and not committed.
    BeforeCommit(Rc<State>, Box<World>),
    /// It has committed and not sent.
    BeforeSend,
}

/// Whether the controller goes on.
enum Flow {
    GoesOn,
    Ended,
}

impl Simulation {
    /// A controller starts, unless one is awake: it claims the store, and everything of the one
    /// before it is void.
    pub(crate) fn boot_controller(&mut self) {
        let awake = self.controllers.last().is_some_and(|it| it.alive && it.stalled.is_none());
        if awake {
            return;
        }
        if self.faults.disk_is_full(self.now) {
            return self.after(400, Event::Boot);
        }
        let epoch = self.store.claim();
        if self.faults.crashes(Moment::AfterClaim) {
            return self.after(300, Event::Boot);
        }
        let state = Rc::new(self.store.state.resumed(Timestamp(self.now)));
        self.say(|| format!("control starts with {epoch}"));
        self.controllers.push(Controller {
            epoch,
            started: self.now,
            state,
            alive: true,
            stalled: None,
            batch: None,
            round: 0,
            saw: None,
        });
        let id = self.controllers.len() - 1;
        self.after(0, Event::Wake(id));
    }

    fn crash(&mut self, id: usize, moment: Moment) -> Flow {
        if !self.faults.crashes(moment) {
            return Flow::GoesOn;
        }
        self.die(id);
        Flow::Ended
    }

    fn die(&mut self, id: usize) {
        self.controllers[id].alive = false;
        self.say(|| "control dies".to_owned());
        let ms = self.wakes.between(50, 1_500);
        self.after(ms, Event::Boot);
    }

    /// A reboot ends every controller.
    pub(crate) fn forget_controllers(&mut self) {
        for controller in &mut self.controllers {
            controller.alive = false;
            controller.stalled = None;
        }
    }

    /// One round of a controller.
    pub(crate) fn wake(&mut self, id: usize) -> Checked {
        let controller = &self.controllers[id];
        if !controller.alive || controller.stalled.is_some() {
            return Ok(());
        }
        // The last one that started holds the lock of the database.
        if id + 1 == self.controllers.len() {
            let state = Rc::clone(&self.controllers[id].state);
            self.databases.obey(id, &state, &self.platform, self.now)?;
        }
        let world = self.observe(id);
        if let Flow::Ended = self.crash(id, Moment::AfterObserve) {
            return Ok(());
        }
        let state = Rc::clone(&self.controllers[id].state);
        if let Some(next) = self.person_acts(&state, &world)?
            && let Flow::Ended = self.commit(id, Rc::new(next), &world)?
        {
            return Ok(());
        }
        if let Flow::Ended = self.decide(id, &world)? {
            return Ok(());
        }
        self.controllers[id].saw = Some(world);
        self.send(id)?;
        self.rest(id)
    }

    /// A controller that slept goes on where it was.
    pub(crate) fn go_on(&mut self, id: usize) -> Checked {
        let Some(stalled) = self.controllers[id].stalled.take() else { return Ok(()) };
        self.say(|| "a controller wakes up".to_owned());
        if let Stalled::BeforeCommit(next, world) = stalled
            && let Flow::Ended = self.write(id, next, &world)?
        {
            return Ok(());
        }
        self.send(id)?;
        self.rest(id)
    }

    fn rest(&mut self, id: usize) -> Checked {
        if !self.controllers[id].alive {
            return Ok(());
        }
        self.look_for_the_end()?;
        self.says_what_it_waits_for(id)?;
        // Nothing is under way: there is less to look at.
        let idle = self.controllers[id].state.release.is_none();
        let ms = if idle { self.wakes.between(300, 900) } else { self.wakes.between(200, 600) };
        self.after(ms, Event::Wake(id));
        Ok(())
    }

    /// A release that rests can always say why.
    fn says_what_it_waits_for(&self, id: usize) -> Checked {
        let controller = &self.controllers[id];
        let state = &controller.state;
        let now = Timestamp(self.now);
        let looks = controller.round.is_multiple_of(WHY_EVERY) && state.release.is_some();
        let (Some(world), true) = (&controller.saw, looks) else { return Ok(()) };
        match state.waits(world, now).is_empty() && state.decide(world, now).is_none() {
            true => broken("says-what-it-waits-for", "a release waits in silence".to_owned()),
            false => Ok(()),
        }
    }

    fn look_for_the_end(&mut self) -> Checked {
        if !self.people.are_done() {
            return Ok(());
        }
        let Some(since) = self.calm_since else {
            self.faults.fade(self.now);
            if !self.faults.active() {
                self.calm_since = Some(self.now);
                self.edge.demand.stay(self.now);
                self.say(|| "nobody disturbs the world any more".to_owned());
            }
            return Ok(());
        };
        match self.astray() {
            None => self.finished = true,
            Some(why) if self.now > since + CONVERGES_WITHIN_MS => {
                self.tell_the_end();
                return broken("converges", why);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn observe(&mut self, id: usize) -> World {
        self.edge.refresh(&mut self.platform, self.now);
        let now = self.now;
        let at = Timestamp(now);
        let known_platform = !self.faults.platform_is_hidden(now);
        let known_edge = self.edge.up && !self.faults.edge_is_hidden(now);
        let world = World {
            platform: match known_platform {
                true => Observed::Known(self.platform.observe(), at),
                false if self.bug == Some(Bug::UnknownIsEmpty) => {
                    Observed::Known(world::Platform::default(), at)
                }
                false => blind("the platform"),
            },
            edge: match known_edge {
                true => Observed::Known(self.edge.observe(now), at),
                false => blind("the edge"),
            },
            keeper: match self.faults.keeper_is_hidden(now) {
                false => {
                    let listeners =
                        self.sockets.iter().map(|(name, (_, error))| (name.clone(), error.clone()));
                    Observed::Known(world::Keeper { listeners: listeners.collect() }, at)
                }
                true => blind("the keeper"),
            },
            checks: self.asked.answers(id, &self.controllers[id].state, now),
            schemas: self.databases.seen(&self.controllers[id].state),
            calendar: World::unknown().calendar,
        };
        self.faults.saw = known_platform && known_edge;
        let controller = &self.controllers[id];
        match self.bug {
            Some(Bug::TrustJournal) => believed(&controller.state, at),
            Some(Bug::CachedWorld) => {
                let fresh = now > controller.started + CACHE_MS;
                match self.faults.cache.take().filter(|_| !fresh) {
                    Some(cached) => {
                        self.faults.cache = Some(cached.clone());
                        cached
                    }
                    None => {
                        self.faults.cache = Some(world.clone());
                        world
                    }
                }
            }
            _ => world,
        }
    }

    fn decide(&mut self, id: usize, world: &World) -> Result<Flow, Violation> {
        for _ in 0..DECISIONS_MAX {
            let state = Rc::clone(&self.controllers[id].state);
            let Some(decision) = state.decide(world, Timestamp(self.now)) else {
                return Ok(Flow::GoesOn);
            };
            for note in &decision.notes {
                self.say(|| format!("  {}: {}", note.kind, note.text));
            }
            invariants::scaled(&state, &decision, self.faults.saw)?;
            let mut next = decision.state;
            if self.bug == Some(Bug::SlotsReused) {
                reuse_slots(&state, &mut next);
            }
            if let Flow::Ended = self.commit(id, Rc::new(next), world)? {
                return Ok(Flow::Ended);
            }
        }
        broken("decides-once", "the kernel never comes to a decision".to_owned())?;
        Ok(Flow::Ended)
    }

    fn commit(&mut self, id: usize, next: Rc<State>, world: &World) -> Result<Flow, Violation> {
        if let Flow::Ended = self.crash(id, Moment::BeforeCommit) {
            return Ok(Flow::Ended);
        }
        if let Some(ms) = self.faults.stalls() {
            self.stall(id, ms, Stalled::BeforeCommit(next, Box::new(world.clone())));
            return Ok(Flow::Ended);
        }
        self.write(id, next, world)
    }

    fn stall(&mut self, id: usize, ms: u64, at: Stalled) {
        self.controllers[id].stalled = Some(at);
        self.say(|| "control is stopped by SIGSTOP".to_owned());
        self.after(ms, Event::Continue(id));
        self.after(300, Event::Boot);
    }

    fn write(&mut self, id: usize, next: Rc<State>, world: &World) -> Result<Flow, Violation> {
        if self.bug == Some(Bug::ActBeforeCommit) {
            let fence = Fence { epoch: self.controllers[id].epoch, generation: next.generation };
            self.dispatch(&Batch::of(&next, fence))?;
        }
        let before = Rc::clone(&self.store.state);
        let fenced = self.bug != Some(Bug::NoStoreFence);
        let disk = self.faults.disk(self.now);
        let done = self.store.commit(self.controllers[id].epoch, &next, disk, fenced);
        if Rc::ptr_eq(&self.store.state, &next) {
            self.commits += 1;
            self.remember();
            let saw = self.faults.saw;
            // What an operator put there is not what was decided.
            let edge = (!self.faults.meddled_with_table).then_some(&self.edge);
            self.checker.committed(&before, &next, saw, (&self.platform, edge), self.now)?;
            self.databases.committed(&next)?;
            fresh_eyes(world, self.controllers[id].started)?;
        }
        match done {
            Committed::Yes => {
                self.take(id, next)?;
                Ok(self.crash(id, Moment::AfterCommit))
            }
            Committed::Fenced => {
                self.controllers[id].alive = false;
                self.say(|| "a controller that was replaced ends".to_owned());
                self.after(200, Event::Boot);
                Ok(Flow::Ended)
            }
            Committed::Unknown => {
                self.say(|| "the commit failed".to_owned());
                self.die(id);
                Ok(Flow::Ended)
            }
        }
    }

    /// The controller goes on with a state that is durable.
    fn take(&mut self, id: usize, next: Rc<State>) -> Checked {
        let controller = &mut self.controllers[id];
        if let Some(batch) = &controller.batch
            && batch.fence.generation == next.generation
        {
            let again = Batch::of(&next, batch.fence);
            if !batch.says_the_same(&again) {
                let generation = next.generation;
                return broken("one-generation-one-want", format!("{generation} wants two things"));
            }
        }
        controller.state = next;
        Ok(())
    }

    fn send(&mut self, id: usize) -> Checked {
        let Flow::GoesOn = self.crash(id, Moment::BeforeSend) else { return Ok(()) };
        if let Some(ms) = self.faults.stalls() {
            self.stall(id, ms, Stalled::BeforeSend);
            return Ok(());
        }
        let controller = &mut self.controllers[id];
        controller.round += 1;
        let fence = Fence { epoch: controller.epoch, generation: controller.state.generation };
        let known = controller.batch.as_ref().is_some_and(|batch| batch.fence == fence);
        if known && !controller.round.is_multiple_of(RESEND_EVERY) {
            return Ok(());
        }
        if !known {
            let batch = Batch::of(&controller.state, fence);
            if let Some(table) = batch.table() {
                // One that has just started follows what the edge was told by another.
                let before = controller.batch.as_ref().and_then(Batch::table);
                let before = before.unwrap_or(&self.edge.table);
                invariants::table(&controller.state, table, Some(before.as_ref()))?;
            }
            controller.batch = Some(batch);
        }
        let Some(batch) = self.controllers[id].batch.clone() else { return Ok(()) };
        self.dispatch(&batch)?;
        let _ended = self.crash(id, Moment::AfterSend);
        Ok(())
    }

    /// Sends what is wanted on its way.
    fn dispatch(&mut self, batch: &Batch) -> Checked {
        if batch.fence.generation > self.store.state.generation {
            let generation = batch.fence.generation;
            return broken("write-ahead", format!("{generation} is ordered and not durable"));
        }
        for message in &batch.messages {
            if self.faults.crashes(Moment::BetweenSends) {
                // The rest is never sent; the controller's own end is the next one's to tell.
                return Ok(());
            }
            let fate = self.faults.fate(&mut self.network, message);
            match fate[..] {
                [] => self.say(|| "an order is lost".to_owned()),
                [_, _] => self.say(|| "an order is on its way twice".to_owned()),
                [ms] if ms >= LATE_MS => self.say(|| format!("an order takes {ms} ms")),
                _ => {}
            }
            for ms in fate {
                let message = match (self.bug, message) {
                    (Some(Bug::RandomNames), Message::Pool(pool)) => {
                        let mut renamed = (**pool).clone();
                        let shift = 1_000 * self.network.small(1, 60);
                        renamed.slots =
                            renamed.slots.iter().map(|(n, slot)| (n + shift, *slot)).collect();
                        Message::Pool(Rc::new(renamed))
                    }
                    _ => message.clone(),
                };
                self.after(ms, Event::Deliver(message));
            }
        }
        Ok(())
    }
}

fn blind<T>(what: &str) -> Observed<T> {
    Observed::Unknown(format!("{what} does not answer"))
}

/// A controller decides on what it saw itself.
fn fresh_eyes(world: &World, started: u64) -> Checked {
    match &world.platform {
        Observed::Known(_, at) if at.0 < started => {
            broken("fresh-eyes", "a decision is based on what an earlier controller saw".to_owned())
        }
        Observed::Known(..) | Observed::Unknown(_) => Ok(()),
    }
}

/// The world as it would be if all that was ordered were done.
fn believed(state: &State, at: Timestamp) -> World {
    let mut platform = world::Platform::default();
    let mut edge = world::Edge {
        incarnation: 1,
        serving: Fence { epoch: Epoch(0), generation: state.generation },
        listeners: state.listeners().into_keys().collect(),
        ..world::Edge::default()
    };
    for (name, service) in &state.services {
        for (revision, kept) in &service.revisions {
            for (number, slot) in &kept.slots {
                let id = PoolId::new(name, *revision).instance(*number);
                let instance = world::Instance {
                    phase: world::InstancePhase::Running,
                    since: slot.since,
                    port: slot.port,
                    exits: 0,
                    streak: 0,
                    last_exit: None,
                    pid: None,
                    cpu_milli: None,
                    fence: Fence::default(),
                };
                platform.instances.insert(id.clone(), instance);
                let busy = slot.stage == Stage::Active;
                let backend = world::Backend {
                    health: world::Health::Healthy,
                    since: slot.since,
                    in_flight: u32::from(busy),
                    long_lived: 0,
                    ..world::Backend::default()
                };
                edge.instances.insert(id, backend);
            }
        }
    }
    World {
        platform: Observed::Known(platform, at),
        edge: Observed::Known(edge, at),
        keeper: Observed::Known(world::Keeper::default(), at),
        checks: std::collections::BTreeMap::new(),
        schemas: std::collections::BTreeMap::new(),
        calendar: World::unknown().calendar,
    }
}

/// Gives new instances the lowest free names of their pools.
fn reuse_slots(before: &State, after: &mut State) {
    for (name, service) in &mut after.services {
        for (revision, kept) in &mut service.revisions {
            let earlier = before.services.get(name).and_then(|it| it.revisions.get(revision));
            let fresh: Vec<u32> = kept
                .slots
                .keys()
                .copied()
                .filter(|number| earlier.is_none_or(|it| !it.slots.contains_key(number)))
                .collect();
            for number in fresh {
                let Some(slot) = kept.slots.remove(&number) else { continue };
                let free = (1..=number).find(|free| !kept.slots.contains_key(free));
                kept.slots.insert(free.unwrap_or(number), slot);
            }
        }
    }
}
