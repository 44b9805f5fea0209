//! What came of the load: counted by version, failures kept with their time and cause.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::exchange::{Answered, Kind};
use crate::term;

/// Failures that are told one by one.
const FAILURES_MAX: usize = 100;
/// Times that are kept for the percentiles: a minute at 10,000 a second.
const TIMES_MAX: usize = 600_000;
/// How many of the latest answers the picture of the moment shows.
const RECENT: usize = 100;

/// A request that was not served.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// When, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// What was asked for.
    pub(super) what: &'static str,
    pub(super) cause: String,
}

/// What one version of web has answered.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) served: u64,
    /// Its latest answer.
    pub(super) last: Instant,
}

/// The orders that were taken, and what was seen of them.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Each with the version of web that took it.
    pub(super) taken: BTreeMap<u64, String>,
    /// How many were read and were right.
    pub(super) read: u64,
    /// How many of those were read by another version than took them: by the one that read it, of
    /// the one that took it.
    pub(super) across: BTreeMap<(String, String), u64>,
}

impl Orders {
    /// The numbers of those that were taken last, at most so many.
    pub(super) fn latest(&self, most: usize) -> Vec<u64> {
        self.taken.keys().rev().take(most).copied().collect()
    }

    /// How many a version has taken.
    pub(super) fn taken_by(&self, version: &str) -> usize {
        self.taken.values().filter(|it| *it == version).count()
    }

    /// How many of those that `taker` took were read by `reader`.
    pub(super) fn across(&self, reader: &str, taker: &str) -> u64 {
        self.across.get(&(reader.to_owned(), taker.to_owned())).copied().unwrap_or(0)
    }

    fn answered(&mut self, kind: Kind, version: &str) {
        match kind {
            Kind::Order(id) => drop(self.taken.insert(id, version.to_owned())),
            Kind::Recall(id) => {
                self.read += 1;
                if let Some(taker) = self.taken.get(&id).filter(|it| *it != version) {
                    *self.across.entry((version.to_owned(), taker.clone())).or_default() += 1;
                }
            }
            Kind::Read | Kind::Write | Kind::Feed | Kind::Wait | Kind::Talk => {}
        }
    }
}

/// Everything counted.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) sent: u64,
    pub(super) served: u64,
    pub(super) failed: u64,
    pub(super) reconnects: u64,
    /// Requests that were due but not sent, because too many were without an answer.
    pub(super) held_back: u64,
    /// The first failures.
    pub(super) failures: Vec<Failure>,
    pub(super) orders: Orders,
    /// Short answers by the version of web that gave them.
    pub(super) versions: BTreeMap<String, Tally>,
    /// How long short answers took, in microseconds.
    times: Vec<u32>,
    /// The versions that gave the latest short answers.
    recent: VecDeque<String>,
}

impl Record {
    pub(super) fn answered(&mut self, kind: Kind, answer: &Answered, due: Instant, now: Instant) {
        self.served += 1;
        self.reconnects += u64::from(answer.reconnected);
        if !kind.is_short() {
            return;
        }
        self.orders.answered(kind, &answer.version);
        let tally =
            self.versions.entry(answer.version.clone()).or_insert(Tally { served: 0, last: now });
        tally.served += 1;
        tally.last = now;
        if self.times.len() < TIMES_MAX {
            let us = now.saturating_duration_since(due).as_micros();
            self.times.push(u32::try_from(us).unwrap_or(u32::MAX));
        }
        self.recent.push_back(answer.version.clone());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    pub(super) fn failed(&mut self, kind: Kind, cause: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { at_ms: term::now_ms(), what: kind.name(), cause });
        }
    }

    /// Short answers of a version so far.
    pub(super) fn of(&self, version: &str) -> u64 {
        self.versions.get(version).map_or(0, |tally| tally.served)
    }

    /// The parts of the versions in the latest answers, each from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "at most RECENT")]
    pub(super) fn split(&self) -> BTreeMap<String, f64> {
        let mut parts: BTreeMap<String, f64> = BTreeMap::new();
        for version in &self.recent {
            *parts.entry(version.clone()).or_default() += 1.0 / self.recent.len() as f64;
        }
        parts
    }

    /// The time below which a part of the short answers came, and all of them.
    pub(super) fn percentiles(&self) -> Percentiles {
        percentiles(self.times.clone())
    }

    /// The same of the latest answers.
    pub(super) fn percentiles_now(&self) -> Percentiles {
        percentiles(self.times[self.times.len().saturating_sub(RECENT)..].to_vec())
    }
}

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

fn percentiles(mut times: Vec<u32>) -> Percentiles {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        Duration::from_micros(u64::from(times.get(place).copied().unwrap_or(0)))
    };
    Percentiles { p50: at(50), p99: at(99), max: at(100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_what_was_measured() {
        let ms = Duration::from_micros;
        let all = percentiles((1..=100).rev().collect());
        assert_eq!(all, Percentiles { p50: ms(51), p99: ms(100), max: ms(100) });
        assert_eq!(percentiles(vec![7]).p99, ms(7));
        assert_eq!(percentiles(Vec::new()), Percentiles::default());
    }

    #[test]
    fn failures_are_counted_beyond_those_that_are_kept() {
        let mut record = Record::default();
        for _ in 0..FAILURES_MAX + 5 {
            record.failed(Kind::Read, "gone".to_owned());
        }
        assert_eq!((record.failed, record.failures.len()), (105, FAILURES_MAX));
    }

    #[test]
    fn an_order_read_by_another_version_than_took_it_was_read_across() {
        let mut orders = Orders::default();
        for (kind, version) in [
            (Kind::Order(1), "6"),
            (Kind::Recall(1), "6"),
            (Kind::Recall(1), "7"),
            (Kind::Order(2), "7"),
            (Kind::Recall(2), "6"),
            // Nobody here took it.
            (Kind::Recall(3), "7"),
        ] {
            orders.answered(kind, version);
        }
        assert_eq!((orders.read, orders.taken_by("6"), orders.taken_by("7")), (4, 1, 1));
        assert_eq!((orders.across("7", "6"), orders.across("6", "7")), (1, 1));
        assert_eq!(orders.latest(1), [2]);
    }
}
