//! The request ledger of a release: served, retried, failed by cause, for each of its pools.
//!
//! The edge counts from its own start; the ledger carries what was counted over restarts of the
//! edge, up to what was seen last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::PoolId;
use crate::world::{Counts, Edge, Unrouted};

/// What the requests of one release came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The edge process that counts; 0 before one was seen.
    pub incarnation: u64,
    /// Each pool's account.
    #[serde(with = "as_list")]
    pub pools: BTreeMap<PoolId, Account>,
    /// Requests the edge answered itself, of all services.
    pub unrouted: Running<Unrouted>,
}

/// What was counted for one pool.
pub type Account = Running<Counts>;

/// A count that outlives its counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running<T> {
    /// From counters that are gone.
    pub carried: T,
    /// What the present counter showed when the release started.
    pub base: T,
    /// What it showed when last looked at.
    pub seen: T,
}

impl Running<Counts> {
    /// Everything since the release started.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.carried.plus(&self.seen.since(&self.base))
    }
}

impl Running<Unrouted> {
    /// Everything since the release started.
    #[must_use]
    pub fn total(&self) -> Unrouted {
        self.carried.plus(&self.seen.since(&self.base))
    }
}

impl Ledger {
    /// An empty ledger for `pools`, opened while `edge` shows its counters like this.
    #[must_use]
    pub fn open(pools: impl Iterator<Item = PoolId>, edge: Option<&Edge>) -> Self {
        let account = |pool: &PoolId| {
            let base = edge.and_then(|edge| edge.pools.get(pool)).map(slim).unwrap_or_default();
            Account { carried: Counts::default(), seen: base.clone(), base }
        };
        let unrouted = edge.map(|edge| edge.unrouted.clone()).unwrap_or_default();
        Self {
            incarnation: edge.map_or(0, |edge| edge.incarnation),
            pools: pools.map(|pool| (pool.clone(), account(&pool))).collect(),
            unrouted: Running {
                carried: Unrouted::default(),
                base: unrouted.clone(),
                seen: unrouted,
            },
        }
    }

    /// Whether another edge process counts now than the one this ledger was read from.
    #[must_use]
    pub fn is_stale(&self, edge: &Edge) -> bool {
        self.incarnation != edge.incarnation
    }

    /// Reads the counters.
    pub fn read(&mut self, edge: &Edge) {
        if self.incarnation == 0 {
            // No edge was seen when the release started: what it shows first is where it starts.
            *self = Self::open(std::mem::take(&mut self.pools).into_keys(), Some(edge));
            return;
        }
        if self.is_stale(edge) {
            self.incarnation = edge.incarnation;
            for account in self.pools.values_mut() {
                let carried = account.total();
                *account = Account { carried, ..Account::default() };
            }
            let carried = self.unrouted.total();
            self.unrouted = Running { carried, ..Running::default() };
        }
        for (pool, account) in &mut self.pools {
            let Some(counts) = edge.pools.get(pool) else { continue };
            if began_anew(&account.seen, counts) {
                *account = Account { carried: account.total(), ..Account::default() };
            }
            account.seen = slim(counts);
        }
        self.unrouted.seen = edge.unrouted.clone();
    }

    /// How often ten requests in a row failed on `pool`, as of now.
    #[must_use]
    pub(super) fn failed_streaks(&self, pool: &PoolId, edge: &Edge) -> u64 {
        let Some(account) = self.pools.get(pool) else { return 0 };
        let before = account.total().failed_streaks;
        let Some(counts) = edge.pools.get(pool) else { return before };
        let shown = counts.failed_streaks;
        let anew = self.is_stale(edge) || began_anew(&account.seen, counts);
        match (self.incarnation, anew) {
            // What the first edge shows is where the count starts.
            (0, _) => 0,
            (_, true) => before + shown,
            (_, false) => {
                let base = account.base.failed_streaks;
                account.carried.failed_streaks + shown.saturating_sub(base)
            }
        }
        .max(before)
    }

    /// One pool's account as it stands if read now.
    pub(super) fn account(&self, pool: &PoolId, edge: Option<&Edge>) -> Option<Account> {
        let one = Self {
            incarnation: self.incarnation,
            pools: [(pool.clone(), self.pools.get(pool)?.clone())].into(),
            unrouted: Running::default(),
        };
        one.as_of(edge).pools.remove(pool)
    }

    /// The ledger as it stands if read now.
    #[must_use]
    pub fn as_of(&self, edge: Option<&Edge>) -> Self {
        let mut ledger = self.clone();
        if let Some(edge) = edge {
            ledger.read(edge);
        }
        ledger
    }
}

/// Whether a pool is counted from zero again by the same edge process: it had left the table, and
/// came back.
fn began_anew(seen: &Counts, now: &Counts) -> bool {
    now.requests < seen.requests || now.failed_streaks < seen.failed_streaks
}

/// Counts without the histogram, which is not part of a ledger, and without the moment's gauge.
fn slim(counts: &Counts) -> Counts {
    Counts { latency: Vec::new(), in_flight: 0, ..counts.clone() }
}

/// Pools are no texts, so they cannot be keys of a JSON object.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Account, PoolId};

    pub(super) fn serialize<S: Serializer>(
        pools: &BTreeMap<PoolId, Account>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        pools.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<PoolId, Account>, D::Error> {
        Ok(Vec::<(PoolId, Account)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RevisionNumber;

    #[test]
    fn a_pool_that_left_the_table_is_counted_on_when_it_comes_back() {
        let pool = PoolId::new(&"web".parse().unwrap(), RevisionNumber(1));
        let edge = |requests, failed_streaks| Edge {
            incarnation: 1,
            pools: [(pool.clone(), Counts { requests, failed_streaks, ..Counts::default() })]
                .into(),
            ..Edge::default()
        };
        let mut ledger = Ledger::open([pool.clone()].into_iter(), Some(&edge(500, 8)));
        assert_eq!(ledger.failed_streaks(&pool, &edge(510, 8)), 0);
        ledger.read(&edge(510, 8));
        assert_eq!(ledger.failed_streaks(&pool, &edge(20, 1)), 1);
        ledger.read(&edge(20, 1));
        assert_eq!(ledger.failed_streaks(&pool, &edge(40, 2)), 2);
        ledger.read(&edge(40, 2));
        assert_eq!(ledger.pools[&pool].total().requests, 50);
    }
}
