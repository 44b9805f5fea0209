//! The desk of one receiver: its own thread, its own place in the journal, its own patience.
//!
//! Events are told one after the other, each until it is taken or given up, so a receiver that is
//! away misses nothing and hears everything in order. Nobody else waits for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_kernel::model::{Receiver, ReceiverName};
use evenkeel_kernel::release::news;
use evenkeel_local::Backoff;

use super::Around;
use super::book::Book;
use super::message::Message;
use super::wire::Wire;
use crate::api::types::Event;
use crate::clock::wall_ms;
use crate::log;

/// An event that was not taken for so long is given up: nobody acts on yesterday's news.
pub(crate) const GIVEN_UP_MS: u64 = 24 * 60 * 60 * 1000;
/// The first wait after a failed try is at most a second, and none is longer than five minutes.
const PATIENCE: Backoff = Backoff::new(1_000, 300_000);
/// Events read at once.
const PAGE: usize = 100;
/// How long a desk sleeps at most before it looks whether it is still needed.
const LOOK: Duration = Duration::from_secs(1);
/// Rows without interest that are passed over before that is written down.
const PASSED_MAX: u64 = 500;
/// How long a receiver that is gone from the stack is still told what happened before.
const LINGER: Duration = Duration::from_secs(60);

/// One receiver.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) name: ReceiverName,
    inside: Mutex<Inside>,
    bell: Condvar,
    /// Somebody tries it out just now.
    tried: AtomicBool,
}

#[derive(Clone, Debug)]
struct Inside {
    receiver: Receiver,
    book: Book,
    /// It is gone from the stack.
    leaving: Option<Leaving>,
    /// The wait after a failed try is cut short.
    hurry: bool,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// The last row that it is still told.
    last: u64,
    /// Until then.
    until: Instant,
}

impl Desk {
    pub(crate) fn new(name: ReceiverName, receiver: Receiver, book: Book) -> Self {
        let inside = Inside { receiver, book, leaving: None, hurry: false };
        let inside = Mutex::new(inside);
        Self { name, inside, bell: Condvar::new(), tried: AtomicBool::new(false) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is reached, and how far it is.
    pub(crate) fn now(&self) -> (Receiver, Book) {
        let inside = self.inside();
        (inside.receiver.clone(), inside.book.clone())
    }

    /// The stack wants it like this.
    pub(crate) fn wanted(&self, receiver: &Receiver) {
        let mut inside = self.inside();
        inside.leaving = None;
        if inside.receiver != *receiver {
            inside.receiver = receiver.clone();
            inside.hurry = true;
            self.bell.notify_all();
        }
    }

    /// The stack has it no more; it still hears of what came before, up to the row `last`. Returns
    /// whether that is new.
    pub(crate) fn leave(&self, last: u64) -> bool {
        let mut inside = self.inside();
        let is_new = inside.leaving.is_none();
        inside.leaving.get_or_insert(Leaving { last, until: Instant::now() + LINGER });
        is_new
    }

    /// Whether nothing is left to do for one that leaves.
    pub(crate) fn is_done(&self) -> bool {
        let inside = self.inside();
        inside.leaving.is_some_and(|it| inside.book.after >= it.last || Instant::now() >= it.until)
    }

    /// Tells it that somebody tries it. Blocks for as long as it takes to answer.
    pub(crate) fn test(&self, message: &Message, around: &Around) -> Result<(), String> {
        if self.tried.swap(true, Ordering::AcqRel) {
            return Err("somebody tries it just now".to_owned());
        }
        let receiver = self.inside().receiver.clone();
        let result = Wire::to(&receiver, around).and_then(|wire| wire.tell(message));
        self.tried.store(false, Ordering::Release);
        if result.is_ok() {
            self.inside().hurry = true;
            self.bell.notify_all();
        }
        result
    }

    /// Works until it is done.
    pub(crate) fn work(&self, around: &Around) {
        let mut pages = VecDeque::new();
        let mut wire = None;
        let mut patience = PATIENCE;
        let mut read = self.inside().book.after;
        let mut saved = read;
        while !around.dismissed(self) {
            let Some(event) = pages.pop_front() else {
                pages.extend(around.page(read, PAGE, LOOK));
                read = pages.back().map_or(read, |event: &Event| event.seq);
                continue;
            };
            let receiver = self.inside().receiver.clone();
            let now = wall_ms();
            let seq = event.seq;
            if !news::wanted(&receiver.events, &event.kind) {
                self.inside().book.after = seq;
                if seq - saved >= PASSED_MAX {
                    self.save(around);
                    saved = seq;
                }
                continue;
            }
            if now.saturating_sub(event.at_ms) > GIVEN_UP_MS {
                log::line(&format!("gave up telling {} of event {seq}, {}", self.name, event.kind));
                let mut inside = self.inside();
                inside.book.given_up += 1;
                inside.book.after = seq;
                drop(inside);
                self.save(around);
                saved = seq;
                continue;
            }
            match tell(&mut wire, &receiver, &Message::of(&event, &around.stack()), around) {
                Ok(()) => {
                    patience.succeeded();
                    self.taken(seq);
                    self.save(around);
                    saved = seq;
                }
                Err(error) => {
                    pages.push_front(event);
                    self.failed(error);
                    self.save(around);
                    self.pause(Duration::from_millis(patience.failed()));
                }
            }
        }
    }

    fn taken(&self, seq: u64) {
        let mut inside = self.inside();
        let failed = inside.book.failing.is_some();
        inside.book.taken(Some(seq), wall_ms());
        if failed {
            log::line(&format!("{} is told again", self.name));
        }
    }

    /// Each new reason is logged once, so that a day of tries is no flood.
    fn failed(&self, error: String) {
        let mut inside = self.inside();
        if inside.book.failing.as_ref().is_none_or(|before| before.error != error) {
            log::line(&format!("could not tell {}: {error}", self.name));
        }
        inside.book.failed(error, wall_ms());
    }

    /// What cannot be written down is told twice after a restart; that is no reason to be silent.
    fn save(&self, around: &Around) {
        let book = self.inside().book.clone();
        if let Err(error) = book.save(&around.home, &self.name) {
            log::line(&format!("could not write down how far {} is: {error}", self.name));
        }
    }

    /// Waits after a failed try, unless there is reason to hurry.
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut inside = self.inside();
        while !inside.hurry && inside.leaving.is_none_or(|it| Instant::now() < it.until) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.bell.wait_timeout(inside, left.min(LOOK));
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inside.hurry = false;
    }
}

/// One try. The wire is kept for as long as the receiver is reached in the same way: the secrets of
/// one that leaves are deleted before it has heard the last.
fn tell(
    wire: &mut Option<(Receiver, Wire)>,
    receiver: &Receiver,
    message: &Message,
    around: &Around,
) -> Result<(), String> {
    let known = wire.take().filter(|(of, _)| of == receiver);
    let (of, to) = match known {
        Some(known) => known,
        None => (receiver.clone(), Wire::to(receiver, around)?),
    };
    let told = to.tell(message);
    *wire = Some((of, to));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut patience = PATIENCE;
        let mut caps = Vec::new();
        for _ in 0..100 {
            caps.push(patience.cap_ms() / 1_000);
            assert!(patience.failed() <= 1_000 * *caps.last().unwrap());
        }
        assert_eq!(caps[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(caps[99], 300);
    }
}
