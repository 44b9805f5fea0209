//! The end of the demo: what was sent, what was lost, what the releases came to.

use std::time::Duration;

use evenkeel_control::api::types::ReleaseView;
use serde_json::{Value, json};

use super::order::OLDER;
use super::record::{Failure, Record};
use super::script::{Chapter, Played};
use super::show::{Show, ms};
use crate::term::{self, Tone, paint};

/// What is left of a demo.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) played: Played,
    pub(super) took: Duration,
}

impl Ledger {
    /// Tries that the edge made again on another instance.
    fn retried(&self) -> u64 {
        let accounts = self.played.releases.iter().flat_map(|release| &release.ledger.pools);
        accounts.map(|account| account.retried).sum()
    }

    /// The last line for programs.
    pub(super) fn json(&self, record: &Record) -> Value {
        let releases: Vec<Value> = self.played.releases.iter().map(release).collect();
        let failures: Vec<Value> = record.failures.iter().map(failure).collect();
        let by_revision: serde_json::Map<String, Value> = record
            .versions
            .iter()
            .map(|(version, tally)| (format!("web r{version}"), Value::from(tally.served)))
            .collect();
        let times = record.percentiles();
        json!({
            "at_ms": term::now_ms(),
            "event": "done",
            "requests": record.sent,
            "failed": record.failed,
            "retried": self.retried(),
            "reconnects": record.reconnects,
            "held_back": record.held_back,
            "by_revision": by_revision,
            "p50_ms": times.p50.as_secs_f64() * 1000.0,
            "p99_ms": times.p99.as_secs_f64() * 1000.0,
            "max_ms": times.max.as_secs_f64() * 1000.0,
            "orders": self.orders_json(record),
            "failures": failures,
            "releases": releases,
            "seconds": self.took.as_secs_f64(),
        })
    }

    fn orders_json(&self, record: &Record) -> Value {
        match &self.played.orders {
            Chapter::LeftOut(text) => json!({ "left_out": text }),
            Chapter::Kept { rows } => json!({
                "older": OLDER,
                "taken": record.orders.taken.len(),
                "read": record.orders.read,
                "read_across": record.orders.across.values().sum::<u64>(),
                "rows": rows,
            }),
        }
    }

    /// The same for people.
    pub(super) fn lines(&self, record: &Record, show: &Show) -> Vec<String> {
        let mut lines = vec![String::new(), paint(Tone::Bold, "the ledger")];
        lines.extend(self.requests(record));
        lines.push(String::new());
        lines.extend(self.outcomes(show));
        lines.push(String::new());
        lines.extend(verdict(record, show));
        if let Chapter::Kept { rows } = &self.played.orders {
            let text = format!("{rows} orders in the table, each as it was taken");
            lines.push(paint(Tone::Good, &text));
        }
        lines.push(self.honesty());
        lines.push(format!("it took {} s", self.took.as_secs()));
        lines
    }

    fn requests(&self, record: &Record) -> Vec<String> {
        let times = record.percentiles();
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("requests sent", record.sent.to_string()),
            row("served", record.served.to_string()),
            row("failed", record.failed.to_string()),
            row("tried again by the edge", self.retried().to_string()),
            row("connections closed unused", record.reconnects.to_string()),
            row(
                "answers took",
                format!("p50 {}, p99 {}, max {}", ms(times.p50), ms(times.p99), ms(times.max)),
            ),
        ];
        if record.held_back > 0 {
            let text = format!("{} (this machine cannot carry the rate)", record.held_back);
            rows.push(row("due, but held back", text));
        }
        rows.extend(
            record.versions.iter().map(|(version, tally)| {
                row(&format!("by web r{version}"), tally.served.to_string())
            }),
        );
        if let Chapter::Kept { .. } = &self.played.orders {
            let orders = &record.orders;
            let across = orders.across.values().sum::<u64>();
            rows.push(row("orders there before", OLDER.to_string()));
            rows.push(row("orders taken", orders.taken.len().to_string()));
            let text =
                format!("{}, {across} of them by another revision than took them", orders.read);
            rows.push(row("orders looked at", text));
        }
        term::table(&rows)
    }

    fn outcomes(&self, show: &Show) -> Vec<String> {
        let head = ["RELEASE", "AT", "TOOK", "MOVED", "OUTCOME", ""];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.played.releases.iter().map(|release| {
            let took = release.since_ms.saturating_sub(release.started_ms);
            vec![
                format!("#{}", release.id),
                show.since(release.started_ms).trim().to_owned(),
                term::span(took),
                moved(release).join(", "),
                release.outcome.clone().unwrap_or_else(|| release.phase.clone()),
                release.because.clone().unwrap_or_default(),
            ]
        }));
        term::table(&rows)
    }

    /// What zero means, and what it does not.
    fn honesty(&self) -> String {
        format!(
            "{} tries met an instance as it died, and were made again on another: GET and PUT may \
             be. A POST that had\nnot been handed over would have been, too; one that the dying \
             process had taken would have been answered 502,\nbecause nobody can know whether it \
             had an effect.",
            self.retried()
        )
    }
}

fn moved(release: &ReleaseView) -> Vec<String> {
    let rollouts = release.rollouts.iter();
    rollouts
        .map(|it| match &it.from {
            Some(from) => format!("{} {from} to {}", it.service, it.to),
            None => format!("{} {}", it.service, it.to),
        })
        .collect()
}

fn release(release: &ReleaseView) -> Value {
    let pools = release.ledger.pools.iter();
    json!({
        "id": release.id,
        "kind": release.kind,
        "started_ms": release.started_ms,
        "ended_ms": release.since_ms,
        "moved": moved(release),
        "outcome": release.outcome,
        "because": release.because,
        "served": pools.clone().map(|it| it.served).sum::<u64>(),
        "retried": pools.clone().map(|it| it.retried).sum::<u64>(),
        "failed": pools.map(|it| it.failed).sum::<u64>(),
    })
}

fn failure(failure: &Failure) -> Value {
    json!({ "at_ms": failure.at_ms, "request": failure.what, "cause": failure.cause })
}

/// Zero, or each failure with what went on around it.
pub(super) fn verdict(record: &Record, show: &Show) -> Vec<String> {
    if record.failed == 0 {
        let text = format!("{} requests, none failed", record.sent);
        return vec![paint(Tone::Good, &text)];
    }
    let mut lines = vec![paint(Tone::Bad, &format!("{} requests failed", record.failed))];
    for failure in &record.failures {
        let around = show.events.iter().rev().find(|event| event.at_ms <= failure.at_ms);
        let around = around.map(|event| format!("  (after: {})", event.text)).unwrap_or_default();
        let (since, what, cause) = (show.since(failure.at_ms), failure.what, &failure.cause);
        lines.push(format!("{since}  {what}: {cause}{around}"));
    }
    lines
}
