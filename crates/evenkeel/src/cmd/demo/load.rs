//! The load: so many requests a second, whether the earlier ones are answered or not, from a
//! thread of its own so that nothing the demo does holds it up.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval};

use super::exchange::{Caller, Kind};
use super::order::OLDER;
use super::record::Record;

/// Requests that may be without an answer. A machine that cannot carry the rate shall not answer
/// everything late: what is due beyond this is held back, and the ledger says how often.
const UNANSWERED_MIN: usize = 100;
/// The same, as a part of a second's requests.
const UNANSWERED_PART: usize = 2;
/// The longest round of the mix; see [`kind`].
const ROUND: u64 = 100;
/// Orders are every so many of the short requests, at least; of a high rate they are fewer.
const ORDERS_EVERY: u64 = 3;
/// Orders a second, at most: it is not the database that is shown here.
const ORDERS_MAX: u64 = 100;
/// Of so many orders that are looked at, one is an older one, and the others are among the latest.
const OLDER_EVERY: u64 = 4;
/// So many are the latest.
const LATEST: usize = 20;

/// A load that goes on.
#[derive(Debug)]
pub(super) struct Load {
    record: Arc<Mutex<Record>>,
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

/// What a load is told.
#[derive(Debug, Default)]
struct Told {
    ending: AtomicBool,
    /// There is somebody who takes orders.
    orders: AtomicBool,
}

impl Load {
    /// Begins to send `rate` requests a second to the edge on `port`.
    pub(super) fn start(port: u16, rate: u32) -> anyhow::Result<Self> {
        let record = Arc::new(Mutex::new(Record::default()));
        let told = Arc::new(Told::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, hears) = (Arc::clone(&record), Arc::clone(&told));
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, generate(port, rate.max(1), &shared, &hears));
            })
            .context("could not start the load")?;
        Ok(Self { record, told, thread: Some(thread) })
    }

    /// What came of it so far.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// Sends orders too, from now on.
    pub(super) fn order(&self) {
        self.told.orders.store(true, Ordering::Release);
    }

    /// Sends nothing more.
    pub(super) fn end(&self) {
        self.told.ending.store(true, Ordering::Release);
    }

    /// Whether every request has come to its end, after [`Self::end`].
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
        // An unfinished one is left alone: its requests end with the process.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            drop(thread.join());
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn generate(port: u16, rate: u32, record: &Arc<Mutex<Record>>, told: &Told) {
    let caller = Rc::new(Caller::new(port));
    let mut beat = interval(Duration::from_secs(1) / rate);
    // A beat that comes late is made up for: the rate is what was promised.
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let unanswered_max = UNANSWERED_MIN.max(rate as usize / UNANSWERED_PART);
    let mut under_way = JoinSet::new();
    let mut number = 0;
    while !told.ending.load(Ordering::Acquire) {
        let due = beat.tick().await.into_std();
        while under_way.try_join_next().is_some() {}
        let kind = match told.orders.load(Ordering::Acquire) {
            true => order(number, rate, record).unwrap_or_else(|| kind(number)),
            false => kind(number),
        };
        if under_way.len() >= unanswered_max {
            lock(record).held_back += 1;
            continue;
        }
        lock(record).sent += 1;
        let (caller, record) = (Rc::clone(&caller), Arc::clone(record));
        under_way.spawn_local(async move {
            let answer = caller.call(kind, number).await;
            let mut now = lock(&record);
            match answer {
                // Counted from when it was due, so that waiting to be sent counts as waiting.
                Ok(answer) => now.answered(kind, &answer, due, Instant::now()),
                Err(cause) => now.failed(kind, cause),
            }
        });
        number += 1;
    }
    while under_way.join_next().await.is_some() {}
}

/// The mix: two thirds are read and a third is written; now and then somebody reads a feed that
/// takes two seconds, talks for as long, or waits a second for news.
fn kind(number: u64) -> Kind {
    match number % ROUND {
        17 | 67 => Kind::Feed,
        42 => Kind::Wait,
        91 => Kind::Talk,
        place if place % 3 == 0 => Kind::Write,
        _ => Kind::Read,
    }
}

/// The order that takes the place of a short request, if one does: every second one is new, and
/// every second one looks at one that is there.
fn order(number: u64, rate: u32, record: &Mutex<Record>) -> Option<Kind> {
    let every = ORDERS_EVERY.max(u64::from(rate) / ORDERS_MAX);
    if !kind(number).is_short() || number % every != 1 {
        return None;
    }
    let count = number / every;
    if count.is_multiple_of(2) {
        return Some(Kind::Order(OLDER + 1 + number));
    }
    let latest = lock(record).orders.latest(LATEST);
    let old = 1 + fastrand::u64(..OLDER);
    Some(Kind::Recall(match latest.get(fastrand::usize(..latest.len().max(1))) {
        Some(id) if !(count / 2).is_multiple_of(OLDER_EVERY) => *id,
        Some(_) | None => old,
    }))
}
