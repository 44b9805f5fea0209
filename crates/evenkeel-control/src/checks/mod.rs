//! Those who answer the questions of checks and gates: each question in a thread of its own, a bounded
//! number at once, and never on the engine's thread.
//!
//! Nothing is decided here: what was found out is handed on as it is. A question that is not
//! wanted any more is given up; one whose answer nobody has yet is asked again after a restart.

mod ask;
mod counters;
mod gate;
mod prometheus;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evenkeel_kernel::model::CheckId;
use evenkeel_kernel::want::Check;
use evenkeel_kernel::world::{Answer, Reading};

use crate::orders::Orders;

/// Questions that are asked at the same time; others wait for their turn.
const ASKING_MAX: usize = 16;

/// Everybody who asks.
#[derive(Debug)]
pub(crate) struct Checks {
    means: Arc<Means>,
    open: Arc<Mutex<Open>>,
    orders: Orders,
}

/// What they ask with.
#[derive(Debug)]
struct Means {
    /// Where secrets are kept.
    home: PathBuf,
    /// The command that holds commands on a leash.
    holder: Vec<OsString>,
}

#[derive(Debug, Default)]
struct Open {
    questions: BTreeMap<CheckId, Question>,
    asking: usize,
}

#[derive(Debug)]
struct Question {
    run: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Its turn has not come.
    Waiting(Box<Check>),
    /// Somebody asks.
    Asking,
    /// It is answered.
    Answered(Reading),
}

impl Checks {
    /// Nobody asks anything yet. `orders` is told when an answer is there.
    pub(crate) fn new(home: PathBuf, holder: Vec<OsString>, orders: Orders) -> Self {
        Self { means: Arc::new(Means { home, holder }), open: Arc::default(), orders }
    }

    /// Has exactly these questions answered.
    pub(crate) fn make_true(&self, wanted: Vec<Check>) {
        let mut open = lock(&self.open);
        open.questions.retain(|id, question| {
            wanted.iter().any(|check| check.id == *id && check.run == question.run)
        });
        for check in wanted {
            let run = check.run;
            let fresh = || Question { run, stage: Stage::Waiting(Box::new(check.clone())) };
            open.questions.entry(check.id.clone()).or_insert_with(fresh);
        }
        self.take_turns(&mut open);
    }

    /// The answers there are.
    pub(crate) fn answers(&self) -> BTreeMap<CheckId, Answer> {
        let open = lock(&self.open);
        let answered = open.questions.iter().filter_map(|(id, question)| match &question.stage {
            Stage::Answered(reading) => {
                Some((id.clone(), Answer { run: question.run, reading: reading.clone() }))
            }
            Stage::Waiting(_) | Stage::Asking => None,
        });
        answered.collect()
    }

    /// Lets those ask whose turn it is.
    fn take_turns(&self, open: &mut Open) {
        let free = ASKING_MAX.saturating_sub(open.asking);
        let waiting = open.questions.values_mut();
        let waiting = waiting.filter(|it| matches!(it.stage, Stage::Waiting(_))).take(free);
        let mut started = 0;
        for question in waiting {
            let Stage::Waiting(check) = std::mem::replace(&mut question.stage, Stage::Asking)
            else {
                continue;
            };
            match self.start(*check) {
                Ok(()) => started += 1,
                Err(error) => {
                    let why = format!("nobody could be sent to ask: {error}");
                    question.stage = Stage::Answered(Reading::Error(why));
                }
            }
        }
        open.asking += started;
    }

    fn start(&self, check: Check) -> std::io::Result<()> {
        let (open, means) = (Arc::clone(&self.open), Arc::clone(&self.means));
        let orders = self.orders.clone();
        let name = check.id.about.to_string();
        let ask = move || {
            let wanted = || is_wanted(&lock(&open), &check);
            let reading = ask::ask(&check, &means, &wanted);
            let mut open = lock(&open);
            open.asking = open.asking.saturating_sub(1);
            // What is not wanted any more has been taken away, or asked anew.
            if is_wanted(&open, &check)
                && let Some(question) = open.questions.get_mut(&check.id)
            {
                question.stage = Stage::Answered(reading);
            }
            drop(open);
            orders.changed();
        };
        std::thread::Builder::new().name(name).spawn(ask).map(drop)
    }
}

fn is_wanted(open: &Open, check: &Check) -> bool {
    open.questions.get(&check.id).is_some_and(|question| question.run == check.run)
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Every change of it is complete before anything that might panic.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
