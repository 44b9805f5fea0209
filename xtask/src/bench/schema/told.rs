//! What became of it, as tables.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::clients::Sample;

/// One engine's.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) rows: u32,
    pub(super) phases: Vec<(&'static str, Instant, Instant)>,
    pub(super) samples: Vec<Sample>,
    /// Processor time of its connection, in all phases.
    pub(super) cpu: Duration,
    /// And of it while it filled.
    pub(super) cpu_filling: Duration,
    /// Bytes of the journal while it filled, with what the clients wrote.
    pub(super) wal: i64,
    pub(super) hot: f64,
    pub(super) table: (i64, i64),
    pub(super) indexes: (i64, i64),
    /// Bytes of the table and its indexes before, and with what was there besides before contract.
    pub(super) disk: (i64, i64),
    /// What a write of a client costs the server: before, and while both shapes are there through
    /// the old one and the new one.
    pub(super) writes: Vec<Duration>,
    pub(super) held: Duration,
    pub(super) load: (String, String),
}

/// Longest text of an error that is printed.
const ERROR: usize = 90;

pub(super) fn head() {
    println!(
        "    {:<17} {:>8} {:>8} {:>9} {:>9} {:>7} {:>8} {:>5} {:>7} {:>8}  load",
        "",
        "rows/s",
        "/CPU s",
        "all/CPU s",
        "WAL B/row",
        "table",
        "indexes",
        "HOT",
        "failed",
        "locked"
    );
    println!("    {:<17} each phase: its seconds; worst wait and p99 of the clients in ms", "");
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn part(one: i64, of: f64) -> f64 {
    one as f64 / of
}

fn growth((before, after): (i64, i64)) -> f64 {
    part(after, part(before, 1.0).max(1.0)) * 100.0 - 100.0
}

impl Outcome {
    pub(super) fn tell(&self) {
        let rows = f64::from(self.rows);
        let seconds = self.phase("fill").as_secs_f64().max(0.001);
        println!(
            "    {:<17} {:>8.0} {:>8.0} {:>9.0} {:>9.0} {:>+6.0}% {:>+7.0}% {:>4.0}% {:>7} {:>5.0} ms  {}-{}",
            self.name,
            rows / seconds,
            rows / self.cpu_filling.as_secs_f64().max(0.001),
            rows / self.cpu.as_secs_f64().max(0.001),
            part(self.wal, 1.0) / rows,
            growth(self.table),
            growth(self.indexes),
            self.hot * 100.0,
            self.failures().values().map(|it| it.0).sum::<usize>(),
            self.held.as_secs_f64() * 1_000.0,
            self.load.0,
            self.load.1,
        );
        println!("    {:<17} {}", "", self.waits().join("  "));
        let writes: Vec<String> =
            self.writes.iter().map(|it| format!("{:.0}", it.as_secs_f64() * 1e6)).collect();
        println!(
            "    {:<17} a write costs (µs; before, then old and new shape): {}; most disk {:+.0} %",
            "",
            writes.join(", "),
            growth(self.disk)
        );
        for ((phase, text), (count, first)) in self.failures() {
            let text: String = text.chars().take(ERROR).collect();
            let at = first.as_secs_f64();
            println!("    {:<17} {count} failed in {phase} (from {at:.1} s on): {text}", "");
        }
    }

    fn phase(&self, name: &str) -> Duration {
        let found = self.phases.iter().find(|(it, ..)| *it == name);
        found.map(|(_, from, to)| *to - *from).unwrap_or_default()
    }

    /// Each phase with those who waited in it, in part or all the time.
    fn waits(&self) -> Vec<String> {
        let one = |(name, from, to): &(&str, Instant, Instant)| {
            let mut waits: Vec<Duration> = self
                .samples
                .iter()
                .filter(|it| it.due <= *to && it.end >= *from)
                .map(|it| it.end - it.due)
                .collect();
            waits.sort();
            let at = |index: usize| {
                waits.get(index).copied().unwrap_or_default().as_secs_f64() * 1_000.0
            };
            format!(
                "{name} {:.2} s: {:.0}, {:.0};",
                (*to - *from).as_secs_f64(),
                at(waits.len().saturating_sub(1)),
                at(waits.len().saturating_sub(1) * 99 / 100)
            )
        };
        self.phases.iter().map(one).collect()
    }

    /// What failed, by the phase in which it ended: how often, and how long after the beginning.
    fn failures(&self) -> BTreeMap<(&str, &str), (usize, Duration)> {
        let mut all: BTreeMap<_, (usize, Duration)> = BTreeMap::new();
        let Some((_, began, _)) = self.phases.first() else { return all };
        for it in &self.samples {
            let Some(text) = &it.failed else { continue };
            let phase = self.phases.iter().rev().find(|(_, from, _)| *from <= it.end);
            let phase = phase.map_or("quiet", |(name, ..)| *name);
            let at = it.end.saturating_duration_since(*began);
            let entry = all.entry((phase, text.as_str())).or_insert((0, at));
            *entry = (entry.0 + 1, entry.1.min(at));
        }
        all
    }
}
