//! The platform's ground truth: processes with their shims, and how each of them fares.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use evenkeel_kernel::model::{InstanceId, PoolId};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want;
use evenkeel_kernel::world::{self, Fence, InstancePhase};

use crate::scenario::Behaviour;

/// One process and its shim.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    pub(crate) port: u16,
    pub(crate) behaviour: Behaviour,
    pub(crate) phase: InstancePhase,
    pub(crate) since: u64,
    /// When it came to be.
    pub(crate) born: u64,
    /// Counts its lives, so that what was scheduled for an earlier one is void.
    pub(crate) life: u32,
    /// From when on this life answers; `None` while it has no life that ever will.
    pub(crate) answers_from: Option<u64>,
    /// When it turns sick.
    pub(crate) sick_at: Option<u64>,
    /// Whether the edge has ever found it healthy.
    pub(crate) was_healthy: bool,
    pub(crate) exits: u32,
    pub(crate) fence: Fence,
    /// It is to run once.
    pub(crate) once: bool,
    /// Whether an operator added it.
    pub(crate) foreign: bool,
}

impl Proc {
    /// Whether it answers now, and since when that is so.
    pub(crate) fn condition(&self, now: u64) -> (bool, u64) {
        let alive = matches!(
            self.phase,
            InstancePhase::Running | InstancePhase::Lost | InstancePhase::Stopping
        );
        match (self.answers_from.filter(|_| alive), self.sick_at) {
            (Some(from), _) if now < from => (false, self.since),
            (Some(_), Some(sick)) if now >= sick => (false, sick),
            (Some(from), _) => (true, from),
            (None, _) => (false, self.since),
        }
    }

    /// Begins another life.
    pub(crate) fn live(&mut self, now: u64, warmup: u64) {
        self.life += 1;
        self.phase = InstancePhase::Running;
        self.since = now;
        self.sick_at = None;
        let answers = self.behaviour != Behaviour::NeverHealthy;
        self.answers_from = answers.then_some(now + warmup);
    }

    /// Ends this life.
    pub(crate) fn end(&mut self, now: u64, phase: InstancePhase) {
        self.life += 1;
        self.phase = phase;
        self.since = now;
        self.answers_from = None;
    }
}

/// Something that the platform is about to do.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Start an instance, as this want says.
    Start(InstanceId, Rc<want::Pool>),
    /// Stop an instance, if the edge does not route to it.
    Stop(InstanceId, Fence),
    /// Start it again on another port.
    Move(InstanceId, u16),
}

/// The platform: what runs, and what it was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    pub(crate) procs: BTreeMap<InstanceId, Proc>,
    pub(crate) fences: BTreeMap<PoolId, Fence>,
    pub(crate) pending: BTreeSet<InstanceId>,
    /// What is to run once and has begun, as it lies on the disk.
    pub(crate) begun: BTreeSet<InstanceId>,
    /// Healthy instances that a fault took away, and when: they are not held against us.
    pub(crate) ghosts: BTreeMap<InstanceId, u64>,
}

impl Platform {
    /// Takes a want and says what is to be done for it. `None`: it is refused for its age.
    pub(crate) fn accept(&mut self, pool: &Rc<want::Pool>, fencing: bool) -> Option<Vec<Order>> {
        let fence = self.fences.entry(pool.id.clone()).or_default();
        if pool.fence < *fence && fencing {
            return None;
        }
        *fence = pool.fence;
        let mut orders = Vec::new();
        for (number, slot) in &pool.slots {
            let id = pool.id.instance(*number);
            match self.procs.get(&id) {
                None if self.pending.insert(id.clone()) => {
                    orders.push(Order::Start(id, Rc::clone(pool)));
                }
                None => {}
                Some(running) if running.port != slot.port => {
                    orders.push(Order::Move(id, slot.port));
                }
                Some(_) => {}
            }
        }
        let first = pool.id.instance(0);
        for (id, running) in self.procs.range(first..) {
            if id.pool != pool.id {
                break;
            }
            let wanted = pool.slots.contains_key(&id.slot);
            if !wanted && running.phase != InstancePhase::Stopping {
                orders.push(Order::Stop(id.clone(), pool.fence));
            }
        }
        Some(orders)
    }

    /// Whether another attempt of the same job is there.
    pub(crate) fn has_other_attempt(&self, id: &InstanceId) -> bool {
        let same = |other: &InstanceId| other.pool.service == id.pool.service && other != id;
        self.procs.iter().any(|(other, it)| it.once && same(other))
    }

    /// A fault takes an instance away.
    pub(crate) fn lose(&mut self, id: &InstanceId, now: u64) {
        if self.procs.remove(id).is_some_and(|it| it.was_healthy) {
            self.ghosts.insert(id.clone(), now);
        }
    }

    /// What an observer sees.
    pub(crate) fn observe(&self) -> world::Platform {
        let instances = self.procs.iter().map(|(id, it)| {
            let seen = world::Instance {
                phase: it.phase,
                since: Timestamp(it.since),
                port: it.port,
                exits: it.exits,
                streak: it.exits,
                last_exit: (it.exits > 0).then(|| "exit status 1".to_owned()),
                pid: None,
                cpu_milli: None,
                fence: it.fence,
            };
            (id.clone(), seen)
        });
        world::Platform { instances: instances.collect() }
    }
}
