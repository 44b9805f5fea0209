//! News: who is told what happens, beside everything that happens.
//!
//! One thread sees which receivers the stack has, and each of them has a thread of its own. They
//! read what is in the journal already, so nothing here is on the way of a decision, and what a
//! dead control did not tell its successor does.

mod book;
mod command;
mod desk;
mod message;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_kernel::model::{Digest, Receiver, ReceiverName, StackName};
use evenkeel_kernel::release::{State, news};
use evenkeel_kernel::time::human;
use tokio::sync::oneshot;

use self::book::Book;
use self::desk::{Desk, GIVEN_UP_MS};
use self::message::Message;
pub(crate) use self::wire::{key, request, url};
use crate::api::types::{Event, ReceiverView, WaitView};
use crate::clock::wall_ms;
use crate::events::Events;
use crate::log;
use crate::orders::{Order, Orders};
use crate::snapshot::Latest;

/// Time between two looks at which receivers the stack has.
const LOOK: Duration = Duration::from_millis(500);
/// A receiver that has failed for so long is mentioned to everybody who asks how things are.
const FAILING_LONG_MS: u64 = 60_000;

/// What the desks work with.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    home: PathBuf,
    /// The command that holds programs on a leash.
    holder: Vec<OsString>,
    latest: Latest,
    events: Events,
    orders: Orders,
    desks: Arc<Mutex<BTreeMap<ReceiverName, Arc<Desk>>>>,
}

/// Why a receiver could not be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Untested {
    /// There is none of that name; these there are.
    Unknown(Vec<String>),
    /// It did not take it.
    Failed(String),
}

/// Starts the threads, which run as long as the process lives.
pub(crate) fn start(
    home: &Path,
    holder: Vec<OsString>,
    latest: Latest,
    events: Events,
    orders: Orders,
) -> io::Result<Around> {
    let (home, desks) = (home.to_owned(), Arc::default());
    let around = Around { home, holder, latest, events, orders, desks };
    // Nobody knows any more how a receiver was reached that is not in the stack.
    let told = told(&around.latest.get().state);
    for name in Book::names(&around.home).into_iter().filter(|name| !told.contains_key(name)) {
        Book::forget(&around.home, &name)?;
    }
    let watching = around.clone();
    std::thread::Builder::new().name("news".to_owned()).spawn(move || {
        loop {
            watching.look();
            std::thread::sleep(LOOK);
        }
    })?;
    Ok(around)
}

/// Who is told: the receivers of the stack, and those of the one that a release leads to.
fn told(state: &State) -> BTreeMap<ReceiverName, Receiver> {
    let mut told = state.stack.notify.clone();
    told.extend(state.release.iter().flat_map(|it| it.wanted.notify.clone()));
    told
}

/// The secrets that receivers and gates need, now or after the changes that are on their way.
pub(crate) fn secrets(state: &State) -> BTreeSet<Digest> {
    let stacks = [&state.stack].into_iter();
    let stacks = stacks.chain(state.release.iter().map(|release| &release.wanted));
    let stacks = stacks.chain(state.queued.iter().map(|queued| &queued.wanted));
    let kept = stacks.flat_map(|stack| stack.kept_secrets());
    kept.filter_map(|it| it.digest.clone()).collect()
}

impl Around {
    fn desks(&self) -> MutexGuard<'_, BTreeMap<ReceiverName, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens and closes desks as the stack has it.
    fn look(&self) {
        let snapshot = self.latest.get();
        let told = told(&snapshot.state);
        let mut missing = Vec::new();
        let desks = self.desks();
        for (name, desk) in desks.iter().filter(|(name, _)| !told.contains_key(name)) {
            if desk.leave(self.events.head()) {
                log::line(&format!("{name} is told nothing more"));
            }
        }
        for (name, receiver) in &told {
            match desks.get(name) {
                Some(desk) => desk.wanted(receiver),
                None => missing.push((name, receiver)),
            }
        }
        // Only this thread opens desks, and nobody waits for the disk meanwhile.
        drop(desks);
        for (name, receiver) in missing {
            match self.open(name, receiver, &snapshot.state) {
                Ok(desk) => drop(self.desks().insert(name.clone(), desk)),
                Err(error) => log::line(&format!("could not begin to tell {name}: {error}")),
            }
        }
    }

    fn open(
        &self,
        name: &ReceiverName,
        receiver: &Receiver,
        state: &State,
    ) -> io::Result<Arc<Desk>> {
        let book = match Book::load(&self.home, name)? {
            Some(book) => book,
            None => {
                let book = Book::beginning(self.beginning(name, state));
                book.save(&self.home, name)?;
                book
            }
        };
        let desk = Arc::new(Desk::new(name.clone(), receiver.clone(), book));
        let (working, around) = (Arc::clone(&desk), self.clone());
        let thread = std::thread::Builder::new().name(format!("tell {name}"));
        thread.spawn(move || working.work(&around))?;
        Ok(desk)
    }

    /// The row after which a new receiver begins: before the start of the release that brought it,
    /// which is the one under way unless the stack before it has the receiver too, and then the
    /// last that ended. Said by the journal and not by the moment, so that a control that dies in
    /// between changes nothing about it, nor does the next release if it is quick.
    fn beginning(&self, name: &ReceiverName, state: &State) -> u64 {
        let brought = !state.stack.notify.contains_key(name);
        let under_way = state.release.as_ref().filter(|_| brought);
        let last = state.past.last().map(|past| past.id);
        let release = under_way.map(|it| it.id).or(last).map(|id| id.0);
        let starts = |event: &Event| event.release == release && event.kind == "release.started";
        let events = self.events.after(0);
        events.iter().find(|event| starts(event)).map_or(self.events.head(), |it| it.seq - 1)
    }

    /// The events after `after`, at most `limit`; waits for the first. What is not in memory any
    /// more is read from the journal, which costs the engine one page.
    fn page(&self, after: u64, limit: usize, wait: Duration) -> Vec<Event> {
        if let Some(page) = self.events.page(after, limit, wait) {
            return page;
        }
        let (reply, answer) = oneshot::channel();
        let given = self.orders.give(Order::Tail { after, limit, reply });
        given.ok().and_then(|()| answer.blocking_recv().ok()).unwrap_or_else(|| {
            // The engine has more urgent things to do.
            std::thread::sleep(wait);
            Vec::new()
        })
    }

    fn stack(&self) -> StackName {
        self.latest.get().state.stack.name.clone()
    }

    /// Whether a desk is done; then it is closed with this.
    fn dismissed(&self, desk: &Desk) -> bool {
        let mut desks = self.desks();
        if !desk.is_done() {
            return false;
        }
        if let Err(error) = Book::forget(&self.home, &desk.name) {
            log::line(&format!("could not forget how far {} was: {error}", desk.name));
        }
        desks.remove(&desk.name);
        true
    }

    /// Tells a receiver that `actor` tries it. Blocks for as long as that takes.
    pub(crate) fn test(&self, name: &str, actor: &str) -> Result<(), Untested> {
        let all = self.all();
        let Some(desk) = name.parse::<ReceiverName>().ok().and_then(|name| all.get(&name)) else {
            return Err(Untested::Unknown(all.keys().map(ToString::to_string).collect()));
        };
        let message = Message::test(&self.stack(), actor, wall_ms());
        desk.test(&message, self).map_err(Untested::Failed)
    }

    /// Every receiver, as it is now.
    pub(crate) fn receivers(&self) -> Vec<ReceiverView> {
        self.all().values().map(|desk| self.receiver(desk)).collect()
    }

    /// The open desks, and those that the next look opens.
    fn all(&self) -> BTreeMap<ReceiverName, Arc<Desk>> {
        let mut all = self.desks().clone();
        for (name, receiver) in told(&self.latest.get().state) {
            let book = Book::beginning(self.events.head());
            let desk = |name: &ReceiverName| Arc::new(Desk::new(name.clone(), receiver, book));
            all.entry(name).or_insert_with_key(desk);
        }
        all
    }

    fn receiver(&self, desk: &Desk) -> ReceiverView {
        let (receiver, book) = desk.now();
        let events = self.events.after(book.after);
        let open: Vec<&Event> =
            events.iter().filter(|it| news::wanted(&receiver.events, &it.kind)).collect();
        let oldest = open.first().filter(|_| book.failing.is_some());
        ReceiverView {
            name: desk.name.to_string(),
            kind: receiver.to.key().to_owned(),
            to: receiver.to.to_string(),
            signed: receiver.secret.is_some(),
            events: receiver.events.clone(),
            behind: open.len() as u64,
            taken_ms: book.taken_ms,
            failing_since_ms: book.failing.as_ref().map(|it| it.since_ms),
            tries: book.failing.as_ref().map_or(0, |it| it.tries),
            last_error: book.failing.as_ref().map(|it| it.error.clone()),
            gives_up_ms: oldest.map(|it| it.at_ms.saturating_add(GIVEN_UP_MS)),
            given_up: book.given_up,
        }
    }

    /// The receivers that have been failing for long, among what is waited for.
    pub(crate) fn waits(&self, now_ms: u64) -> Vec<WaitView> {
        let receivers = self.receivers().into_iter();
        receivers.filter_map(|receiver| wait(&receiver, now_ms)).collect()
    }
}

fn wait(receiver: &ReceiverView, now_ms: u64) -> Option<WaitView> {
    let since_ms = receiver.failing_since_ms?;
    let failing = now_ms.saturating_sub(since_ms);
    if failing < FAILING_LONG_MS {
        return None;
    }
    let events =
        if receiver.behind == 1 { "1 event" } else { &format!("{} events", receiver.behind) };
    let whole_seconds = Duration::from_secs(failing / 1000);
    Some(WaitView {
        what: format!(
            "receiver {} has taken nothing for {}; {events} wait for it",
            receiver.name,
            human(whole_seconds)
        ),
        since_ms,
        until_ms: receiver.gives_up_ms,
        then: receiver.gives_up_ms.map(|_| "the oldest of them is given up".to_owned()),
        last_error: receiver.last_error.clone(),
        unblock: format!("`evenkeel notify test {}` tries it now", receiver.name),
    })
}

#[cfg(test)]
mod tests;
