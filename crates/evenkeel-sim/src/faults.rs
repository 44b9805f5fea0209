//! What goes wrong, and when.

use std::rc::Rc;

use evenkeel_kernel::model::{InstanceId, PoolId};
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::{InstancePhase, World};

use crate::network::Message;
use crate::platform::Proc;
use crate::rng::{Purpose, Rng};
use crate::scenario::{Behaviour, Roughness};
use crate::simulation::{Event, Simulation};
use crate::store::Disk;

/// How long faults go on after people have done everything they wanted.
const FADES_AFTER_MS: u64 = 2_500;
/// Tables that an operator may find and install again.
const OLD_TABLES_MAX: usize = 6;

/// A boundary at which control may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    AfterClaim,
    AfterObserve,
    BeforeCommit,
    AfterCommit,
    BeforeSend,
    BetweenSends,
    AfterSend,
}

/// What goes wrong now.
#[derive(Debug)]
pub(crate) struct Faults {
    rng: Rng,
    roughness: Roughness,
    active: bool,
    fading_since: Option<u64>,
    platform_hidden_until: u64,
    edge_hidden_until: u64,
    keeper_hidden_until: u64,
    disk_full_until: u64,
    stall_next: bool,
    old_tables: Vec<Rc<RoutingTable>>,
    /// The edge serves a table that an operator installed.
    pub(crate) meddled_with_table: bool,
    /// Platform and edge were both seen at the last look.
    pub(crate) saw: bool,
    /// What a planted cache holds.
    pub(crate) cache: Option<World>,
}

impl Faults {
    pub(crate) fn new(seed: u64, roughness: Roughness) -> Self {
        Self {
            rng: Rng::new(seed, Purpose::Faults),
            roughness,
            active: roughness > Roughness::Calm,
            fading_since: None,
            platform_hidden_until: 0,
            edge_hidden_until: 0,
            keeper_hidden_until: 0,
            disk_full_until: 0,
            stall_next: false,
            old_tables: Vec::new(),
            meddled_with_table: false,
            saw: false,
            cache: None,
        }
    }

    /// Whether anything goes wrong at all now.
    pub(crate) fn active(&self) -> bool {
        self.active
    }

    /// People are done; the faults end soon.
    pub(crate) fn fade(&mut self, now: u64) {
        let since = *self.fading_since.get_or_insert(now);
        if now >= since + FADES_AFTER_MS {
            self.active = false;
            self.stall_next = false;
        }
    }

    pub(crate) fn crashes(&mut self, moment: Moment) -> bool {
        let permille = match moment {
            Moment::AfterObserve | Moment::BeforeSend | Moment::AfterSend => 4,
            Moment::AfterClaim | Moment::BeforeCommit | Moment::AfterCommit => 12,
            Moment::BetweenSends => 2,
        };
        self.active && self.rng.chance(permille)
    }

    /// How long the controller sleeps here, if it does.
    pub(crate) fn stalls(&mut self) -> Option<u64> {
        let stalls = self.active && self.stall_next && self.rng.chance(300);
        stalls.then(|| {
            self.stall_next = false;
            self.rng.between(500, 6_000)
        })
    }

    pub(crate) fn disk(&mut self, now: u64) -> Disk {
        if now < self.disk_full_until {
            return Disk::Full;
        }
        match self.active && self.rng.chance(8) {
            true => *self.rng.pick(&[Disk::FailsAfter, Disk::FailsBefore]),
            false => Disk::Works,
        }
    }

    pub(crate) fn disk_is_full(&self, now: u64) -> bool {
        now < self.disk_full_until
    }

    pub(crate) fn platform_is_hidden(&self, now: u64) -> bool {
        now < self.platform_hidden_until
    }

    pub(crate) fn edge_is_hidden(&self, now: u64) -> bool {
        now < self.edge_hidden_until
    }

    pub(crate) fn keeper_is_hidden(&self, now: u64) -> bool {
        now < self.keeper_hidden_until
    }

    pub(crate) fn address_taken(&mut self) -> bool {
        self.roughness == Roughness::Machine && self.rng.chance(10)
    }

    pub(crate) fn port_taken(&mut self) -> bool {
        self.roughness == Roughness::Machine && self.rng.chance(10)
    }

    /// When the copies of an order arrive: none if it is lost, two if it is duplicated.
    pub(crate) fn fate(&mut self, network: &mut Rng, message: &Message) -> Vec<u64> {
        let prompt = network.between(1, 20);
        // What is said to the keeper is neither lost nor overtaken; see `Want::Listeners`.
        if !self.active || matches!(message, Message::Listeners(_)) {
            return vec![prompt];
        }
        match self.rng.below(100) {
            0..4 => Vec::new(),
            4..8 => vec![prompt, prompt + network.between(0, 2_500)],
            8..13 => vec![network.between(200, 3_500)],
            _ => vec![prompt],
        }
    }
}

impl Simulation {
    /// One fault strikes, and the next one is prepared.
    pub(crate) fn strike(&mut self) {
        if !self.faults.active() {
            return;
        }
        self.keep_table();
        let pause = self.faults.rng.between(400, 5_000);
        self.after(pause, Event::Fault);
        let kinds = if self.roughness == Roughness::Machine { 16 } else { 8 };
        let span = match self.faults.rng.chance(100) {
            true => self.faults.rng.between(4_000, 8_000),
            false => self.faults.rng.between(300, 2_500),
        };
        match self.faults.rng.below(kinds) {
            0 => {
                self.faults.platform_hidden_until = self.now + span;
                self.say(|| format!("the platform cannot be seen for {span} ms"));
            }
            1 => {
                self.faults.edge_hidden_until = self.now + span;
                self.say(|| format!("the edge cannot be seen for {span} ms"));
            }
            2 => self.faults.keeper_hidden_until = self.now + span,
            3 => {
                self.faults.disk_full_until = self.now + span.min(2_500);
                self.say(|| "the disk is full".to_owned());
            }
            4..6 => self.faults.stall_next = true,
            6 | 7 => self.restart_edge(span.min(1_500)),
            8..11 => self.kill_one(),
            11 => self.lose_shim(),
            12 => self.remove_one(),
            13 => self.add_foreign(),
            14 => self.install_old_table(),
            _ => self.reboot(),
        }
    }

    fn keep_table(&mut self) {
        let table = Rc::clone(&self.edge.table);
        let tables = &mut self.faults.old_tables;
        if tables.last().is_none_or(|last| !Rc::ptr_eq(last, &table)) {
            tables.push(table);
            if tables.len() > OLD_TABLES_MAX {
                tables.remove(0);
            }
        }
    }

    fn restart_edge(&mut self, ms: u64) {
        if self.edge.up {
            self.edge.up = false;
            self.say(|| "the edge dies".to_owned());
            self.after(ms, Event::EdgeUp);
        }
    }

    fn victim(&mut self) -> Option<InstanceId> {
        let ids: Vec<InstanceId> = self.platform.procs.keys().cloned().collect();
        (!ids.is_empty()).then(|| self.faults.rng.pick(&ids).clone())
    }

    fn kill_one(&mut self) {
        let Some(id) = self.victim() else { return };
        let Some((life, once)) = self.platform.procs.get(&id).map(|it| (it.life, it.once)) else {
            return;
        };
        self.say(|| format!("{id} is killed"));
        match once {
            true => self.end_job(&id, life, false),
            false => self.exit(&id, life),
        }
    }

    fn lose_shim(&mut self) {
        let Some(id) = self.victim() else { return };
        if let Some(it) = self.platform.procs.get_mut(&id)
            && it.phase == InstancePhase::Running
        {
            it.phase = InstancePhase::Lost;
            self.say(|| format!("the shim of {id} dies"));
        }
    }

    /// An operator removes an instance with all that belongs to it.
    fn remove_one(&mut self) {
        let Some(id) = self.victim() else { return };
        self.platform.lose(&id, self.now);
        self.say(|| format!("an operator removes {id}"));
    }

    /// An operator starts an instance that nobody asked for.
    fn add_foreign(&mut self) {
        let Some(InstanceId { pool, .. }) = self.victim() else { return };
        let pool = match self.faults.rng.chance(300) {
            true => PoolId::new(&"stranger".parse().expect("a name"), pool.revision),
            false => pool,
        };
        let id = pool.instance(900 + self.faults.rng.small(0, 9));
        let now = self.now;
        self.say(|| format!("an operator starts {id}"));
        let foreign = Proc {
            port: 30_000,
            behaviour: Behaviour::Good,
            phase: InstancePhase::Running,
            since: now,
            born: now,
            life: 0,
            answers_from: Some(now),
            sick_at: None,
            was_healthy: false,
            exits: 0,
            fence: evenkeel_kernel::world::Fence::default(),
            once: false,
            foreign: true,
        };
        self.platform.procs.entry(id).or_insert(foreign);
    }

    /// An operator puts a table back that was served before.
    fn install_old_table(&mut self) {
        if self.faults.old_tables.is_empty() || !self.edge.up {
            return;
        }
        let table = Rc::clone(self.faults.rng.pick(&self.faults.old_tables));
        self.edge.refresh(&mut self.platform, self.now);
        self.edge.install(&table, self.now, || 0);
        self.faults.meddled_with_table = true;
        self.say(|| format!("an operator installs the table of {}", table.fence.generation));
    }

    /// The machine reboots: everything is gone but what is on disk.
    fn reboot(&mut self) {
        if self.faults.rng.chance(700) {
            return;
        }
        self.boot += 1;
        self.say(|| "the machine reboots".to_owned());
        for id in self.platform.procs.keys().cloned().collect::<Vec<_>>() {
            self.platform.lose(&id, self.now);
        }
        self.platform.pending.clear();
        self.sockets.clear();
        self.edge.listeners.clear();
        self.edge.up = false;
        self.forget_controllers();
        self.after(100, Event::EdgeUp);
        self.after(200, Event::Boot);
        self.after(1_000, Event::Fault);
    }
}
