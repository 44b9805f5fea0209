//! The newest journal entries, for those who follow along.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_journal::{Entry, Row, Seq};
use tokio::sync::watch;

use crate::api::types::Event;

/// Entries kept for followers; who lags further behind reads the journal.
const KEPT_MAX: usize = 2_000;

/// The tail of the journal, in memory.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    kept: Arc<Mutex<VecDeque<Event>>>,
    more: Arc<Condvar>,
    newest: watch::Sender<u64>,
}

impl Events {
    /// The tail as the journal has it.
    pub(crate) fn load(entries: Vec<Entry>) -> Self {
        let events: VecDeque<Event> =
            entries.into_iter().map(|entry| event(entry.seq, &entry.row)).collect();
        let newest = watch::Sender::new(events.back().map_or(0, |event| event.seq));
        Self { kept: Arc::new(Mutex::new(events)), more: Arc::default(), newest }
    }

    /// Adds what was committed just now; `last` is the place of the last row.
    pub(crate) fn committed(&self, rows: &[Row], last: Seq) {
        let first = last.0 + 1 - rows.len() as u64;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, row) in rows.iter().enumerate() {
            kept.push_back(event(Seq(first + i as u64), row));
        }
        let excess = kept.len().saturating_sub(KEPT_MAX);
        kept.drain(..excess);
        drop(kept);
        self.more.notify_all();
        self.newest.send_replace(last.0);
    }

    /// The kept entries after `after`, oldest first.
    pub(crate) fn after(&self, after: u64) -> Vec<Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| event.seq > after).cloned().collect()
    }

    /// The first kept entries after `after`, at most `limit`; none if some of them are not kept any
    /// more and have to be read from the journal. Waits up to `wait` for the first.
    pub(crate) fn page(&self, after: u64, limit: usize, wait: Duration) -> Option<Vec<Event>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing_new = |kept: &mut VecDeque<Event>| kept.back().is_none_or(|it| it.seq <= after);
        let waited = self.more.wait_timeout_while(kept, wait, nothing_new);
        let (kept, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if kept.front().is_some_and(|first| first.seq > after + 1) {
            return None;
        }
        let from = kept.partition_point(|event| event.seq <= after);
        Some(kept.range(from..).take(limit).cloned().collect())
    }

    /// The newest entry's place.
    pub(crate) fn head(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Tells when there is something new.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

/// The form in which entries are shown.
pub(crate) fn event(seq: Seq, row: &Row) -> Event {
    let body: serde_json::Value = serde_json::from_str(&row.body).unwrap_or_default();
    let text = body.get("text").and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    Event {
        seq: seq.0,
        release: row.release.map(|id| id.0),
        at_ms: row.at,
        actor: row.actor.clone(),
        kind: row.kind.clone(),
        text,
    }
}
