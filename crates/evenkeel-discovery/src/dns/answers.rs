//! Answers to questions, kept ready until what they speak of has changed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::message::{Head, Query, Unasked};
use super::ready::Ready;
use super::zone;
use crate::catalog::{ByName, Catalog, changed};
use crate::hub::Hub;
use crate::readers::{Mark, Readers};

/// Answers kept at most: some ten names and types for each of ten thousand instances. Beyond it
/// they are forgotten all at once.
const KEPT_MAX: usize = 100_000;

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing is said.
    Silence,
    /// What was written is sent.
    Answer,
    /// Somebody else is asked.
    Forward,
}

/// What all threads of conversation share.
#[derive(Debug)]
pub(crate) struct Answers {
    hub: Rc<Hub>,
    readers: Rc<Readers>,
    kept: RefCell<Kept>,
    turn: Cell<usize>,
}

/// The answers that are ready, by the wire form of the name in lower case, and the type.
#[derive(Debug, Default)]
struct Kept {
    catalog: Arc<Catalog>,
    /// Each with the mark of the service it speaks of.
    ready: HashMap<Box<[u8]>, (Rc<Ready>, Rc<Mark>)>,
    /// Which of them speak of a service.
    of_service: ByName<Vec<Box<[u8]>>>,
}

impl Answers {
    pub(crate) fn new(hub: Rc<Hub>, readers: Rc<Readers>) -> Self {
        Self { hub, readers, kept: RefCell::default(), turn: Cell::new(0) }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers `message` in `out`, in at most `limit` bytes, or in what its sender takes over UDP.
    pub(crate) fn answer(&self, message: &[u8], limit: Option<usize>, out: &mut Vec<u8>) -> Reply {
        out.clear();
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unasked::Silence) => return Reply::Silence,
            Err(Unasked::Answer { code, end, edns }) => {
                let head = Head::only(code, edns);
                head.write(message, end, out);
                head.finish(out);
                return Reply::Answer;
            }
        };
        let Some((ready, forwards)) = self.ready(&query) else { return Reply::Forward };
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let limit = limit.unwrap_or_else(|| query.udp_max());
        ready.write(&query, message, limit, turn, forwards, out);
        Reply::Answer
    }

    /// The answer, and whether we could be asked for other names too. `None`: the name is none of
    /// ours.
    fn ready(&self, query: &Query) -> Option<(Rc<Ready>, bool)> {
        let kept = &mut *self.kept.borrow_mut();
        kept.follow(&self.hub);
        let forwards = !kept.catalog.settings().forward.is_empty();
        let mut key = [0_u8; 257];
        let name = query.name.wire();
        let key = key.get_mut(..name.len() + 2)?;
        let (place, kind) = key.split_at_mut(name.len());
        place.copy_from_slice(name);
        kind.copy_from_slice(&query.kind.to_be_bytes());
        let key: &[u8] = key;
        if let Some((ready, mark)) = kept.ready.get(key) {
            mark.ask();
            return Some((Rc::clone(ready), forwards));
        }
        let labels = query.name.labels()?;
        #[expect(clippy::cast_possible_truncation, reason = "serial numbers go round")]
        let serial = kept.catalog.index() as u32;
        let answer = zone::answer(&kept.catalog, &labels, query.kind, serial)?;
        let ready = Rc::new(answer.ready);
        if let (true, Some(service)) = (answer.exists, answer.service) {
            if kept.ready.len() >= KEPT_MAX {
                kept.ready.clear();
                kept.of_service.clear();
            }
            let mark = self.readers.of(&service);
            mark.ask();
            kept.ready.insert(key.into(), (Rc::clone(&ready), mark));
            kept.of_service.entry(service.into()).or_default().push(key.into());
        }
        Some((ready, forwards))
    }
}

impl Kept {
    /// Forgets what is out of date.
    fn follow(&mut self, hub: &Hub) {
        let now = hub.now();
        if Arc::ptr_eq(&now, &self.catalog) {
            return;
        }
        let before = std::mem::replace(&mut self.catalog, now);
        let now = &self.catalog;
        if now.settings() != before.settings() || now.stack() != before.stack() {
            self.ready.clear();
            self.of_service.clear();
            return;
        }
        for name in changed(now, &before) {
            for key in self.of_service.remove(name.as_str()).into_iter().flatten() {
                self.ready.remove(&key);
            }
        }
    }
}
