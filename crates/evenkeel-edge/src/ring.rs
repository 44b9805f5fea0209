//! A ring of hashes: the same key leads to the same instance, and when instances come and go only
//! their own share of the keys moves.

use evenkeel_kernel::model::traffic;

/// Places of each instance. With a hundred, shares differ by about a tenth.
const PLACES: u32 = 100;

/// The places of the instances of a pool, in order.
#[derive(Debug, Default)]
pub(crate) struct Ring(Vec<(u64, usize)>);

impl Ring {
    /// The ring of the instances in these slots.
    pub(crate) fn of<'s>(slots: impl Iterator<Item = &'s u32>) -> Self {
        let places = |(index, slot): (usize, &u32)| {
            let (slot, index) = (*slot, index);
            (0..PLACES).map(move |place| {
                let [a, b] = [slot, place].map(u32::to_be_bytes);
                (traffic::hash(&[a, b].concat()), index)
            })
        };
        let mut all: Vec<_> = slots.enumerate().flat_map(places).collect();
        all.sort_unstable();
        Self(all)
    }

    /// The instances in the order in which they are asked for a key, some of them more than once.
    pub(crate) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|(place, _)| *place < key);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(ring: &Ring, key: u64) -> usize {
        ring.from(traffic::hash(&key.to_be_bytes())).next().unwrap()
    }

    #[test]
    fn keys_spread_and_few_move() {
        let [ten, eleven] = [10_u32, 11].map(|n| (1..=n).collect::<Vec<u32>>());
        let (ten, eleven) = (Ring::of(ten.iter()), Ring::of(eleven.iter()));
        let mut shares = [0; 10];
        let mut moved = 0;
        for key in 0..10_000 {
            let before = first(&ten, key);
            shares[before] += 1;
            let after = first(&eleven, key);
            moved += usize::from(before != after);
            assert!(before == after || after == 10, "{key} moved between those that stayed");
        }
        assert!(shares.iter().all(|share| (700..1_300).contains(share)), "{shares:?}");
        assert!((600..1_300).contains(&moved), "{moved} keys moved");
    }
}
