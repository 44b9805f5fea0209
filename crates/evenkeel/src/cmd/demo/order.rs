//! The orders of the demo: what each holds follows from its number, so that whoever reads one knows
//! what must stand there.

use serde::{Deserialize, Serialize};

/// Orders that are there before any is taken; the numbers of others follow.
pub(super) const OLDER: u64 = 100_000;

const FIRST_NAMES: [&str; 7] = ["Ada", "Alan", "Edsger", "Grace", "Barbara", "Donald", "Radia"];
const LAST_NAMES: [&str; 5] = ["Archer", "Baker", "Cooper", "Fletcher", "Mason"];
/// Amounts are below this.
const CENTS: u64 = 1_000_000;

/// Somebody buys something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) cents: i64,
}

impl Order {
    /// What the order with this number holds.
    pub(super) fn of(id: u64) -> Self {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (first, last) = (pick(&FIRST_NAMES, id), pick(&LAST_NAMES, id));
        Self {
            id: signed(id),
            name: format!("{first} {last}"),
            cents: signed(id.wrapping_mul(7_919) % CENTS),
        }
    }
}

fn pick<'a>(names: &[&'a str], id: u64) -> &'a str {
    let count = u64::try_from(names.len()).unwrap_or(1);
    let place = usize::try_from(id % count).unwrap_or(0);
    names.get(place).copied().unwrap_or_default()
}
