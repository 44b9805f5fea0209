//! Who answers a request: first the pool by weight, then the instance by load.
//!
//! The pool: weights are shares among the pools that have an instance that can be tried; one that
//! has none passes its share on. The instance: of a few candidates the one with the least
//! `average time × (requests in flight + 1)`. Healthy ones first; when no pool has any, those that
//! once were.
//!
//! Panic: when more than half of a service's instances are unwell, those against which only their
//! check speaks count as healthy. A check that is broken must not leave a few instances with the
//! load of all.

use std::cell::OnceCell;
use std::sync::Arc;

use evenkeel_kernel::model::{Balance, PoolId, RevisionNumber};
use evenkeel_kernel::world::Health;

use crate::clock::now_ms;
use crate::instance::{Claim, Instance};
use crate::table::{Pool, Service};

/// Candidates compared. Two already avoid the worst; four see a slow one nearly always.
const CANDIDATES: usize = 4;
/// Draws to find them in a large pool before it is searched from end to end.
const DRAWS: usize = 16;
/// Candidates within this factor of the best are equal: otherwise the one that happened to be
/// fastest would get every request of a quiet service.
const NOISE: f32 = 1.5;
/// Times a claim is made again because its instance began to drain in that moment.
const CLAIMS_MAX: usize = 4;

/// A claimed instance and its pool.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) pool: Arc<Pool>,
    pub(crate) claim: Claim,
}

/// What is wanted of a pick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// Only this revision, whatever the split says.
    pub(crate) revision: Option<RevisionNumber>,
    /// This revision as long as it has somebody, else whatever the split says.
    pub(crate) affine: Option<RevisionNumber>,
    /// This pool first: the one whose try failed.
    pub(crate) prefer: Option<&'a PoolId>,
    /// Not these instances, by key: they were tried.
    pub(crate) tried: &'a [u64],
    /// Only those that waiting requests may try now.
    pub(crate) waited: bool,
    /// Where along the split its person stands, if they stay where they are: 0 to 9,999.
    pub(crate) place: Option<u16>,
    /// What it is known by, for the ring.
    pub(crate) key: Option<u64>,
}

/// How much is asked of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standard {
    Healthy,
    OnceHealthy,
}

impl Service {
    /// Claims an instance for one request; `None` when there is none that can be tried, or none may
    /// be because the service is held.
    ///
    /// Whether it is held is read again after the claim, for the reason of [`Instance::claim`].
    pub(crate) fn pick(&self, wish: &Wish<'_>) -> Option<Picked> {
        if self.held().is_some() {
            return None;
        }
        let picked = self.claim(wish)?;
        self.held().is_none().then_some(picked)
    }

    fn claim(&self, wish: &Wish<'_>) -> Option<Picked> {
        (0..CLAIMS_MAX).find_map(|_| {
            let (pool, instance) = self
                .candidate(wish, Standard::Healthy)
                .or_else(|| self.candidate(wish, Standard::OnceHealthy))?;
            let claim = instance.claim()?;
            Some(Picked { pool: Arc::clone(pool), claim })
        })
    }

    fn candidate<'s>(
        &'s self,
        wish: &Wish<'_>,
        standard: Standard,
    ) -> Option<(&'s Arc<Pool>, &'s Arc<Instance>)> {
        // Looked for only where somebody is unwell, and once.
        let panics = OnceCell::new();
        let doubts = || *panics.get_or_init(|| self.panics());
        let choose = |pool: &'s Arc<Pool>| pool.choose(wish, standard, &doubts);
        let within = |pool: &'s Arc<Pool>| choose(pool).is_some();
        if let Some(revision) = wish.revision {
            let pool = self.pools.iter().find(|pool| pool.id.revision == revision)?;
            return choose(pool).map(|it| (pool, it));
        }
        let affine = self.pools.iter().find(|pool| wish.affine == Some(pool.id.revision));
        if let Some(it) = affine.and_then(|pool| Some((pool, choose(pool)?))) {
            return Some(it);
        }
        let preferred = self
            .weighted()
            .map(|(pool, _)| pool)
            .find(|pool| wish.prefer == Some(&pool.id) && within(pool));
        if let Some(pool) = preferred {
            return choose(pool).map(|it| (pool, it));
        }
        let own = wish.place.and_then(|place| at(self.weighted(), place));
        if let Some(it) = own.and_then(|pool| Some((pool, choose(pool)?))) {
            return Some(it);
        }
        // The common case: the pool that the split draws has somebody.
        let drawn = draw(self.weighted())?;
        if let Some(it) = choose(drawn) {
            return Some((drawn, it));
        }
        let able = self.weighted().filter(|(pool, _)| within(pool));
        let able: Vec<_> = able.collect();
        let pool = draw(able.iter().copied())?;
        choose(pool).map(|it| (pool, it))
    }

    /// Whether more than half of the instances that were well, of pools with traffic, are not.
    fn panics(&self) -> bool {
        let serving = self.weighted().flat_map(|(pool, _)| &pool.instances);
        let (mut unwell, mut all) = (0_usize, 0_usize);
        for it in serving.filter(|it| !it.is_draining() && it.was_healthy()) {
            all += 1;
            unwell += usize::from(it.believed() == Health::Unhealthy);
        }
        unwell * 2 > all
    }

    fn weighted(&self) -> impl Iterator<Item = (&Arc<Pool>, u32)> + Clone {
        self.weights.iter().filter_map(|(place, weight)| Some((self.pools.get(*place)?, *weight)))
    }
}

/// The pool at a place of the split. The newest revision comes first, so that a person moves at most
/// once while its weight grows.
fn at<'a>(pools: impl Iterator<Item = (&'a Arc<Pool>, u32)>, place: u16) -> Option<&'a Arc<Pool>> {
    let mut pools: Vec<_> = pools.collect();
    pools.sort_by_key(|(pool, _)| std::cmp::Reverse(pool.id.revision));
    let mut rest = u32::from(place);
    pools.into_iter().find_map(|(pool, weight)| match rest.checked_sub(weight) {
        Some(less) => {
            rest = less;
            None
        }
        None => Some(pool),
    })
}

/// One of `pools`, each with the chance of its weight.
fn draw<'a>(pools: impl Iterator<Item = (&'a Arc<Pool>, u32)> + Clone) -> Option<&'a Arc<Pool>> {
    let total: u32 = pools.clone().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut rest = fastrand::u32(0..total);
    pools.into_iter().find_map(|(pool, weight)| match rest.checked_sub(weight) {
        Some(less) => {
            rest = less;
            None
        }
        None => Some(pool),
    })
}

impl Pool {
    /// The instance of this pool to try, if there is one. `doubts`: what only its check speaks
    /// against counts as healthy.
    fn choose(
        &self,
        wish: &Wish<'_>,
        standard: Standard,
        doubts: &dyn Fn() -> bool,
    ) -> Option<&Arc<Instance>> {
        let able = |it: &&Arc<Instance>| {
            !it.is_draining()
                && it.has_room()
                && !wish.tried.contains(&it.key)
                && (!wish.waited || it.knocks.is_free(now_ms()))
                && match standard {
                    Standard::Healthy => {
                        (it.believed() == Health::Healthy && !it.outlier.is_out_now())
                            || it.is_doubted() && doubts()
                    }
                    Standard::OnceHealthy => it.was_healthy(),
                }
        };
        match self.instances.as_slice() {
            [] => None,
            [only] => Some(only).filter(able),
            all => match &self.balance {
                Balance::PeakEwma => few_of(all, &able, latency_load),
                Balance::LeastRequest => few_of(all, &able, |it, _| in_flight_and_one(it)),
                Balance::RoundRobin => self.next(all, &able),
                Balance::Hash(_) => match wish.key {
                    Some(key) => self.by_hash(all, key, &able),
                    None => few_of(all, &able, latency_load),
                },
            },
        }
    }

    /// The one after the last. New ones are passed over as often as they are cold.
    fn next<'a>(
        &self,
        all: &'a [Arc<Instance>],
        able: &dyn Fn(&&'a Arc<Instance>) -> bool,
    ) -> Option<&'a Arc<Instance>> {
        let turn = self.counts.next_turn();
        let (before, after) = all.split_at(turn % all.len());
        let (now, mut cold) = (now_ms(), None);
        after
            .iter()
            .chain(before)
            .filter(able)
            .find(|it| {
                let warm = it.warmth(now) >= 1.0 || fastrand::f32() < it.warmth(now);
                cold = cold.or(Some(*it));
                warm
            })
            .or(cold)
    }

    /// The first on the ring that is not overloaded: at most a quarter above the average (the bound
    /// of "Consistent Hashing with Bounded Loads", Mirrokni et al., 2018).
    fn by_hash<'a>(
        &self,
        all: &'a [Arc<Instance>],
        key: u64,
        able: &dyn Fn(&&'a Arc<Instance>) -> bool,
    ) -> Option<&'a Arc<Instance>> {
        let total: u64 = all.iter().map(|it| u64::from(it.in_flight())).sum();
        let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let bound = ((total + 1) * 5).div_ceil(count * 4);
        let on_ring = || self.ring.from(key).filter_map(|place| all.get(place)).filter(able);
        on_ring().find(|it| u64::from(it.in_flight()) < bound).or_else(|| on_ring().next())
    }
}

/// The best of a few: of all where these are few, else of some that are drawn.
fn few_of<'a>(
    all: &'a [Arc<Instance>],
    able: &dyn Fn(&&'a Arc<Instance>) -> bool,
    load: fn(&Instance, u64) -> f32,
) -> Option<&'a Arc<Instance>> {
    if all.len() <= CANDIDATES {
        return best(all.iter().filter(able), load);
    }
    let drawn = (0..DRAWS).filter_map(|_| all.get(fastrand::usize(..all.len())));
    best(drawn.filter(able), load).or_else(|| best(from_anywhere(all).filter(able), load))
}

fn latency_load(it: &Instance, now_ms: u64) -> f32 {
    it.ewma.value(now_ms) * in_flight_and_one(it)
}

fn from_anywhere(all: &[Arc<Instance>]) -> impl Iterator<Item = &Arc<Instance>> {
    let (front, back) = all.split_at(fastrand::usize(..all.len().max(1)));
    back.iter().chain(front)
}

/// One of the least loaded of the first [`CANDIDATES`].
fn best<'a>(
    candidates: impl Iterator<Item = &'a Arc<Instance>>,
    load: fn(&Instance, u64) -> f32,
) -> Option<&'a Arc<Instance>> {
    let now = now_ms();
    let mut loads: [Option<(&Arc<Instance>, f32)>; CANDIDATES] = [None; CANDIDATES];
    let mut warm = false;
    for it in candidates {
        // Drawn twice is one candidate: a bad one must not be alone with itself.
        if loads.iter().flatten().any(|(known, _)| Arc::ptr_eq(known, it)) {
            continue;
        }
        let Some(place) = loads.iter_mut().find(|place| place.is_none()) else { break };
        warm |= it.warmth(now) >= 1.0;
        *place = Some((it, load(it, now)));
    }
    // Slow start: beside a warm one, a new one is a candidate as often as it is warm. When all are
    // new there is nobody to spare it.
    let cold = |it: &Instance| warm && fastrand::f32() >= it.warmth(now);
    for place in &mut loads {
        if place.is_some_and(|(it, _)| it.warmth(now) < 1.0 && cold(it)) {
            *place = None;
        }
    }
    let found = || loads.iter().flatten();
    let least = found().map(|(_, load)| *load).fold(f32::INFINITY, f32::min);
    let good = || found().filter(|(_, load)| *load <= least * NOISE);
    let count = good().count();
    if count == 0 {
        return None;
    }
    good().nth(fastrand::usize(..count)).map(|(it, _)| *it)
}

fn in_flight_and_one(it: &Instance) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "at most 1,024")]
    let in_flight = it.in_flight() as f32;
    in_flight + 1.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evenkeel_kernel::model::{InstanceId, Weight};
    use evenkeel_kernel::routing::RoutingTable;

    use super::*;
    use crate::fixtures::{pool, service_table};
    use crate::table::{Surroundings, Table};

    /// A served table: pools of the service `web` with their weights and numbers of instances, all
    /// of them healthy.
    fn table(pools: &[(u16, u32)]) -> Table {
        let pools = pools.iter().enumerate().map(|(i, (weight, instances))| {
            let addrs = (0..*instances).map(|_| "127.0.0.1:1".parse().unwrap()).collect();
            (u32::try_from(i + 1).unwrap(), Weight(*weight), pool(addrs))
        });
        let source: RoutingTable = service_table(1, pools.collect());
        Table::default().next(source, &Surroundings::plain(), &|_| true)
    }

    fn web(table: &Table) -> &Service {
        table.services.values().next().unwrap()
    }

    fn instance<'a>(table: &'a Table, name: &str) -> &'a Arc<Instance> {
        &table.instances[&name.parse::<InstanceId>().unwrap()]
    }

    /// Where 10,000 requests go, each answered before the next.
    fn shares(table: &Table, wish: &Wish<'_>) -> BTreeMap<String, u32> {
        let mut shares = BTreeMap::new();
        for _ in 0..10_000 {
            if let Some(picked) = web(table).pick(wish) {
                *shares.entry(picked.claim.instance().id.to_string()).or_default() += 1;
            }
        }
        shares
    }

    fn about(count: Option<&u32>, expected: u32) {
        let count = count.copied().unwrap_or(0);
        let slack = 40 + expected / 10;
        assert!(count.abs_diff(expected) <= slack, "{count}, not about {expected}");
    }

    #[test]
    fn pools_get_what_the_split_says() {
        let table = table(&[(9_500, 1), (500, 1)]);
        let shares = shares(&table, &Wish::default());
        about(shares.get("web.r1.1"), 9_500);
        about(shares.get("web.r2.1"), 500);
    }

    #[test]
    fn a_pool_without_anybody_passes_its_share_on() {
        let table = table(&[(4_000, 1), (4_000, 1), (2_000, 1)]);
        instance(&table, "web.r1.1").eject();
        let shares = shares(&table, &Wish::default());
        assert_eq!(shares.get("web.r1.1"), None);
        about(shares.get("web.r2.1"), 6_667);
        about(shares.get("web.r3.1"), 3_333);
    }

    #[test]
    fn s10_nobody_healthy_means_everybody_who_was() {
        let table = table(&[(5_000, 1), (5_000, 1)]);
        instance(&table, "web.r1.1").eject();
        instance(&table, "web.r2.1").eject();
        about(shares(&table, &Wish::default()).get("web.r1.1"), 5_000);
    }

    #[test]
    fn more_than_half_unwell_by_their_check_means_that_the_check_is_not_believed() {
        let table = table(&[(10_000, 4)]);
        let unwell = |number: u32| {
            let it = instance(&table, &format!("web.r1.{number}"));
            it.probed(false, 1, 1);
            Arc::clone(it)
        };
        unwell(1);
        unwell(2);
        assert_eq!(shares(&table, &Wish::default()).len(), 2, "half of them may be unwell");
        let third = unwell(3);
        let all = shares(&table, &Wish::default());
        assert_eq!(all.len(), 4);
        about(all.get("web.r1.1"), 2_500);
        // One that cannot be connected to is away, whatever its check says.
        third.failed();
        assert_eq!(shares(&table, &Wish::default()).get("web.r1.3"), None);
    }

    #[test]
    fn a_retry_stays_in_its_pool_while_it_has_another_instance() {
        let table = table(&[(5_000, 2), (5_000, 1)]);
        let first = instance(&table, "web.r1.1").key;
        let second = instance(&table, "web.r1.2").key;
        let pool = &web(&table).pools[0].id;
        let inside = Wish { prefer: Some(pool), tried: &[first], ..Wish::default() };
        assert_eq!(shares(&table, &inside).get("web.r1.2"), Some(&10_000));
        let outside = Wish { prefer: Some(pool), tried: &[first, second], ..Wish::default() };
        assert_eq!(shares(&table, &outside).get("web.r2.1"), Some(&10_000));
    }

    #[test]
    fn a_pinned_revision_gets_it_all_or_nobody() {
        let table = table(&[(10_000, 1), (0, 1)]);
        let pinned = Wish { revision: Some(RevisionNumber(2)), ..Wish::default() };
        assert_eq!(shares(&table, &pinned).get("web.r2.1"), Some(&10_000));
        let missing = Wish { revision: Some(RevisionNumber(3)), ..Wish::default() };
        assert!(shares(&table, &missing).is_empty());
    }

    #[test]
    fn equals_share_and_the_slow_and_the_failing_do_not() {
        let table = table(&[(10_000, 12)]);
        let slow = instance(&table, "web.r1.1");
        slow.answered(1.0, true);
        let shares = shares(&table, &Wish::default());
        assert_eq!(shares.get("web.r1.1"), None);
        assert_eq!(shares.len(), 11);
        about(shares.get("web.r1.5"), 909);
    }

    #[test]
    fn load_counts() {
        let table = table(&[(10_000, 2)]);
        let held: Vec<_> = (0..3).filter_map(|_| instance(&table, "web.r1.1").claim()).collect();
        assert_eq!(shares(&table, &Wish::default()).get("web.r1.1"), None);
        drop(held);
        about(shares(&table, &Wish::default()).get("web.r1.1"), 5_000);
    }

    #[test]
    fn an_instance_takes_so_many_and_then_the_other_does() {
        let table = table(&[(10_000, 1), (0, 1)]);
        let (full, free) = (instance(&table, "web.r1.1"), instance(&table, "web.r2.1"));
        let mut held: Vec<_> = (0..1_024).filter_map(|_| full.claim()).collect();
        assert!(web(&table).pick(&Wish::default()).is_none());
        let pinned = Wish { revision: Some(RevisionNumber(2)), ..Wish::default() };
        assert_eq!(web(&table).pick(&pinned).unwrap().claim.instance().key, free.key);
        held.pop();
        assert!(web(&table).pick(&Wish::default()).is_some());
    }

    #[test]
    fn who_waits_keeps_away_from_what_was_out_of_reach_just_now() {
        let table = table(&[(5_000, 1), (5_000, 1)]);
        let (first, second) = (instance(&table, "web.r1.1"), instance(&table, "web.r2.1"));
        let waited = Wish { waited: true, ..Wish::default() };
        first.failed();
        assert_eq!(web(&table).pick(&waited).unwrap().claim.instance().key, second.key);
        second.failed();
        assert!(web(&table).pick(&waited).is_none());
        assert!(web(&table).pick(&Wish::default()).is_some(), "who comes anew tries it");
    }

    #[test]
    fn d17_a_new_instance_starts_with_a_tenth() {
        let table = table(&[(10_000, 2)]);
        let new = instance(&table, "web.r1.1");
        new.admit(web(&table).pools[0].seed_ms(now_ms()));
        about(shares(&table, &Wish::default()).get("web.r1.1"), 500);
    }
}
