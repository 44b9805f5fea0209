//! What the elders of an edge hold and have counted, and how that joins what it counts itself.
//!
//! Everything here only grows as long as the edge tells the same incarnation: an elder's end, or
//! its silence, never takes back what it was seen to have counted.

use std::collections::BTreeMap;

use evenkeel_kernel::model::PoolId;
use evenkeel_kernel::world::{Counts, Fence, Lately, Unrouted};
use serde::{Deserialize, Serialize};

use crate::protocol::{Demand, Instance, Observation};

/// How long what a gone elder counted lately is still told: as long as "lately" is.
const LATELY_KEPT_MS: u64 = 60_000;

/// What edges have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    #[serde(with = "as_list")]
    pub(crate) pools: BTreeMap<PoolId, Counts>,
    pub(crate) unrouted: Unrouted,
}

impl Sums {
    fn of(observation: &Observation) -> Self {
        let pools = observation.pools.iter().cloned().collect();
        Self { pools, unrouted: observation.unrouted.clone() }
    }

    fn add(&mut self, other: &Self) {
        for (pool, counts) in &other.pools {
            let sum = self.pools.entry(pool.clone()).or_default();
            let in_flight = sum.in_flight + counts.in_flight;
            *sum = Counts { in_flight, ..sum.plus(counts) };
        }
        self.unrouted = self.unrouted.plus(&other.unrouted);
    }

    fn since(&self, base: &Self) -> Self {
        let nothing = Counts::default();
        let pool = |(id, counts): (&PoolId, &Counts)| {
            (id.clone(), counts.since(base.pools.get(id).unwrap_or(&nothing)))
        };
        let unrouted = self.unrouted.since(&base.unrouted);
        Self { pools: self.pools.iter().map(pool).collect(), unrouted }
    }

    fn keep(&mut self, keep: &dyn Fn(&PoolId) -> bool) {
        self.pools.retain(|pool, _| keep(pool));
    }
}

/// One edge that has left its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Elder {
    pub(crate) pid: u32,
    /// What it had counted when it became an elder of this line; `None` until that is known.
    base: Option<Sums>,
    /// What it said last.
    seen: Option<Observation>,
    gone: bool,
    /// When it was met, and when it went, in this process's time.
    #[serde(skip)]
    met_ms: u64,
    #[serde(skip)]
    gone_ms: u64,
}

impl Elder {
    /// What it has counted for this line of edges.
    fn counted(&self) -> Sums {
        match (&self.seen, &self.base) {
            (Some(seen), Some(base)) => Sums::of(seen).since(base),
            (_, _) => Sums::default(),
        }
    }

    /// For how long it has been an elder.
    pub(crate) fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.met_ms)
    }

    /// The table by which it routes, as far as that is known.
    pub(crate) fn serving(&self) -> Fence {
        self.seen.as_ref().map(|it| it.serving).unwrap_or_default()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Elders {
    carried: Sums,
    list: Vec<Elder>,
}

impl Elders {
    /// Takes over what an edge leaves: its own count from the beginning, and those before it.
    pub(crate) fn inherit(
        &mut self,
        pid: u32,
        own: Observation,
        carried: Sums,
        elders: Vec<Elder>,
        now_ms: u64,
    ) {
        self.carried = carried;
        self.list = elders;
        let base = Some(Sums::default());
        let last = Elder { pid, base, seen: Some(own), gone: false, met_ms: 0, gone_ms: 0 };
        self.list.push(last);
        for elder in &mut self.list {
            (elder.met_ms, elder.gone_ms) = (now_ms, now_ms);
        }
    }

    /// Meets one of which only the door is known: what it has counted so far was told to control by
    /// others.
    pub(crate) fn meet(&mut self, pid: u32, now_ms: u64) {
        if self.list.iter().all(|it| it.pid != pid) {
            let seen = None;
            self.list.push(Elder {
                pid,
                base: None,
                seen,
                gone: false,
                met_ms: now_ms,
                gone_ms: 0,
            });
        }
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Elder> {
        self.list.iter().filter(|it| !it.gone)
    }

    fn get_mut(&mut self, pid: u32) -> Option<&mut Elder> {
        self.list.iter_mut().find(|it| it.pid == pid && !it.gone)
    }

    /// Takes in what an elder says. `keep` are the pools of the table that is served.
    pub(crate) fn heard(
        &mut self,
        pid: u32,
        mut seen: Observation,
        keep: &dyn Fn(&PoolId) -> bool,
    ) {
        let Some(elder) = self.get_mut(pid) else { return };
        seen.pools.retain(|(pool, _)| keep(pool));
        elder.base.get_or_insert_with(|| Sums::of(&seen));
        elder.seen = Some(seen);
    }

    /// Notes that an elder routes by another table.
    pub(crate) fn serves(&mut self, pid: u32, fence: Fence) {
        if let Some(seen) = self.get_mut(pid).and_then(|it| it.seen.as_mut()) {
            seen.serving = fence;
        }
    }

    /// Notes that an elder has ended: it holds nothing, and what it counted stays.
    pub(crate) fn went(&mut self, pid: u32, now_ms: u64) {
        if let Some(elder) = self.get_mut(pid) {
            (elder.gone, elder.gone_ms) = (true, now_ms);
        }
    }

    /// Drops what is counted of pools that are not kept: should one come back, it is counted from
    /// zero by everybody.
    pub(crate) fn keep(&mut self, keep: &dyn Fn(&PoolId) -> bool) {
        self.carried.keep(keep);
        for elder in &mut self.list {
            if let Some(base) = &mut elder.base {
                base.keep(keep);
            }
            if let Some(seen) = &mut elder.seen {
                seen.pools.retain(|(pool, _)| keep(pool));
            }
        }
    }

    /// Forgets those who went long ago, but for what they counted.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        let old = |it: &Elder| it.gone && now_ms.saturating_sub(it.gone_ms) >= LATELY_KEPT_MS;
        let (old, stay): (Vec<Elder>, Vec<Elder>) = self.list.drain(..).partition(old);
        self.list = stay;
        for elder in old {
            let mut counted = elder.counted();
            counted.pools.values_mut().for_each(|it| it.in_flight = 0);
            self.carried.add(&counted);
        }
    }

    /// What an heir needs to go on.
    pub(crate) fn bequest(&self) -> (Sums, Vec<Elder>) {
        (self.carried.clone(), self.list.clone())
    }

    /// The oldest table by which anybody routes.
    pub(crate) fn serving(&self, own: Fence) -> Fence {
        self.living().map(Elder::serving).fold(own, Fence::min)
    }

    /// What all see together.
    pub(crate) fn join(&self, mut own: Observation) -> Observation {
        if self.list.is_empty() && self.carried == Sums::default() {
            return own;
        }
        let mut sums = Sums::of(&own);
        sums.add(&self.carried);
        for elder in &self.list {
            let mut counted = elder.counted();
            if elder.gone {
                counted.pools.values_mut().for_each(|it| it.in_flight = 0);
            }
            sums.add(&counted);
            if !elder.gone {
                own.demand.iter_mut().for_each(|it| it.joins(elder));
            }
            let seen = elder.seen.iter().flat_map(|it| &it.instances);
            let theirs: BTreeMap<_, _> = seen.map(|it| (&it.id, it)).collect();
            for instance in &mut own.instances {
                if let Some(theirs) = theirs.get(&instance.id) {
                    instance.joins(theirs, elder.gone);
                }
            }
            let theirs = elder.seen.iter().filter(|_| !elder.gone).flat_map(|it| &it.readers);
            for (service, theirs) in theirs {
                let own = own.readers.entry(service.clone()).or_insert(*theirs);
                *own = own.and(*theirs);
            }
        }
        own.serving = self.serving(own.serving);
        for (pool, counts) in &mut own.pools {
            if let Some(sum) = sums.pools.remove(pool) {
                *counts = sum;
            }
        }
        own.unrouted = sums.unrouted;
        own
    }
}

impl Instance {
    fn joins(&mut self, elder: &Self, gone: bool) {
        self.lately = Lately {
            errors: self.lately.errors.plus(elder.lately.errors),
            slow_tail: self.lately.slow_tail.plus(elder.lately.slow_tail),
            slow_middle: self.lately.slow_middle.plus(elder.lately.slow_middle),
        };
        if !gone {
            self.in_flight = self.in_flight.saturating_add(elder.in_flight);
            self.long_lived = self.long_lived.saturating_add(elder.long_lived);
            let theirs = elder.load_milli.unwrap_or(0);
            self.load_milli = self.load_milli.map(|it| it.saturating_add(theirs));
        }
    }
}

impl Demand {
    /// With what waits at an elder. Nobody new asks there.
    fn joins(&mut self, elder: &Elder) {
        let theirs = elder.seen.iter().flat_map(|it| &it.demand);
        for it in theirs.filter(|it| it.service == self.service) {
            self.waiting = self.waiting.saturating_add(it.waiting);
            self.age_ms = self.age_ms.min(it.age_ms);
        }
    }
}

/// Pools are no texts, so they cannot be keys of a JSON object.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Counts, PoolId};

    pub(super) fn serialize<S: Serializer>(
        pools: &BTreeMap<PoolId, Counts>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        pools.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<PoolId, Counts>, D::Error> {
        Ok(Vec::<(PoolId, Counts)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_kernel::model::Generation;
    use evenkeel_kernel::world::{Health, Readers};

    use super::*;
    use crate::fixtures::fence;

    fn pool() -> PoolId {
        PoolId::new(&"web".parse().unwrap(), evenkeel_kernel::model::RevisionNumber(1))
    }

    /// What an edge sees that has counted so many requests of one instance, and holds so many.
    fn sees(generation: u64, requests: u64, in_flight: u32) -> Observation {
        let counts = Counts { requests, in_flight: in_flight.into(), ..Counts::default() };
        let instance = Instance {
            id: pool().instance(1),
            health: Health::Healthy,
            age_ms: 0,
            in_flight,
            load_milli: Some(500),
            long_lived: in_flight,
            draining_ms: None,
            lately: Lately::default(),
        };
        Observation {
            incarnation: 1,
            serving: fence(generation),
            listeners: Vec::new(),
            instances: vec![instance],
            pools: vec![(pool(), counts)],
            unrouted: Unrouted { no_route: requests, ..Unrouted::default() },
            certificates: Vec::new(),
            readers: BTreeMap::new(),
            demand: Vec::new(),
        }
    }

    /// Requests, requests in flight, those of the instance, unrouted ones, and the table.
    fn together(elders: &Elders, own: Observation) -> (u64, u64, u32, u64, u64) {
        let all = elders.join(own);
        let counts = &all.pools[0].1;
        let (serving, unrouted) = (all.serving.generation.0, all.unrouted.no_route);
        (counts.requests, counts.in_flight, all.instances[0].in_flight, unrouted, serving)
    }

    #[test]
    fn what_an_elder_counts_and_holds_is_added_until_it_ends_and_its_count_stays() {
        let mut elders = Elders::default();
        elders.inherit(7, sees(3, 100, 4), Sums::default(), Vec::new(), 1);
        assert_eq!(together(&elders, sees(3, 0, 0)), (100, 4, 4, 100, 3));
        elders.heard(7, sees(3, 103, 1), &|_| true);
        assert_eq!(together(&elders, sees(4, 10, 2)), (113, 3, 3, 113, 3));
        elders.serves(7, fence(4));
        assert_eq!(together(&elders, sees(4, 10, 2)), (113, 3, 3, 113, 4));
        elders.went(7, 10);
        assert_eq!(together(&elders, sees(5, 10, 2)), (113, 2, 2, 113, 5));
        elders.settle(10 + LATELY_KEPT_MS);
        assert!(elders.list.is_empty());
        assert_eq!(together(&elders, sees(5, 10, 2)), (113, 2, 2, 113, 5));
    }

    #[test]
    fn what_waits_at_an_elder_waits_and_who_was_asked_there_was_asked() {
        let web: evenkeel_kernel::model::ServiceName = "web".parse().unwrap();
        let asks = |waiting, age_ms| {
            let demand = vec![Demand { service: web.clone(), waiting, age_ms }];
            Observation { demand, ..sees(3, 0, 0) }
        };
        let mut elders = Elders::default();
        elders.inherit(7, asks(3, 50), Sums::default(), Vec::new(), 1);
        let together = |elders: &Elders| elders.join(asks(2, 900)).demand;
        assert_eq!(together(&elders), asks(5, 50).demand);
        elders.went(7, 10);
        assert_eq!(together(&elders), asks(2, 900).demand);
    }

    #[test]
    fn counts_go_on_over_several_heirs() {
        let mut first = Elders::default();
        first.inherit(7, sees(3, 100, 4), Sums::default(), Vec::new(), 1);
        first.heard(7, sees(3, 103, 1), &|_| true);
        let (carried, list) = first.bequest();
        let mut second = Elders::default();
        second.inherit(8, sees(3, 50, 2), carried, list, 1);
        assert_eq!(together(&second, sees(3, 5, 1)), (158, 4, 4, 158, 3));
        second.heard(7, sees(3, 104, 0), &|_| true);
        second.went(7, 5);
        second.went(8, 5);
        assert_eq!(together(&second, sees(3, 5, 1)), (159, 1, 1, 159, 3));
    }

    #[test]
    fn one_that_is_only_found_counts_from_then_on_and_holds_up_whoever_waits_for_a_table() {
        let mut elders = Elders::default();
        elders.meet(7, 1);
        elders.meet(7, 2);
        assert_eq!(together(&elders, sees(3, 5, 1)), (5, 1, 1, 5, 0));
        elders.heard(7, sees(3, 103, 2), &|_| true);
        assert_eq!(together(&elders, sees(3, 5, 1)), (5, 3, 3, 5, 3));
        elders.heard(7, sees(3, 105, 0), &|_| true);
        assert_eq!(together(&elders, sees(3, 5, 1)), (7, 1, 1, 7, 3));
    }

    #[test]
    fn clients_of_an_elders_discovery_count_as_long_as_it_has_any() {
        let reads = |services: &[(&str, Option<u64>)]| {
            let readers = services.iter().map(|(name, taken)| {
                (name.parse().unwrap(), Readers { taken: taken.map(Generation) })
            });
            Observation { readers: readers.collect(), ..sees(3, 0, 0) }
        };
        let mut elders = Elders::default();
        elders.inherit(7, reads(&[("web", Some(2)), ("db", None)]), Sums::default(), Vec::new(), 1);
        let own = || reads(&[("web", Some(3)), ("api", Some(3))]);
        let together = |elders: &Elders| {
            let all = elders.join(own()).readers;
            let said = all.into_iter().map(|(name, it)| format!("{name} {:?}", it.taken));
            said.collect::<Vec<_>>().join(", ")
        };
        let both = "api Some(Generation(3)), db None, web Some(Generation(2))";
        assert_eq!(together(&elders), both);
        elders.heard(7, reads(&[]), &|_| true);
        assert_eq!(together(&elders), "api Some(Generation(3)), web Some(Generation(3))");
        elders.heard(7, reads(&[("web", Some(2))]), &|_| true);
        elders.went(7, 5);
        assert_eq!(together(&elders), "api Some(Generation(3)), web Some(Generation(3))");
    }

    #[test]
    fn a_pool_that_left_the_table_is_counted_from_zero() {
        let mut elders = Elders::default();
        elders.inherit(7, sees(3, 100, 4), Sums::default(), Vec::new(), 1);
        elders.keep(&|_| false);
        elders.heard(7, sees(3, 100, 4), &|_| false);
        assert_eq!(together(&elders, sees(3, 1, 0)).0, 1);
    }
}
