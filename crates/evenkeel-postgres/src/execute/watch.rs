//! What others feel of the work on rows: asked now and then, as asking costs them something too.

use std::thread;
use std::time::{Duration, Instant};

use super::pace::{Pace, Seen};
use super::{Failed, Session, others};

/// How often replicas are looked at.
const LAG_LOOK: Duration = Duration::from_secs(1);
/// How often it is asked how long others wait.
const ASK: Duration = Duration::from_millis(50);
/// A pause after which a question says how long others wait where nothing is done.
const RESTED: Duration = Duration::from_millis(5);

/// When something was asked last, and what is known since.
pub(super) struct Watch<'a> {
    /// The table that is worked on.
    table: &'a str,
    asked: Instant,
    looked: Instant,
    lag: Option<Duration>,
}

impl<'a> Watch<'a> {
    pub(super) fn over(table: &'a str) -> Self {
        Self { table, asked: Instant::now(), looked: Instant::now(), lag: None }
    }

    /// What one piece of work looked like, with what others felt of it as far as it is time to ask.
    pub(super) fn seen(
        &mut self,
        session: &mut Session,
        took: Duration,
        work: f64,
    ) -> Result<Seen, Failed> {
        let question = if self.asked.elapsed() < ASK {
            None
        } else {
            self.asked = Instant::now();
            Some(others::question(session, self.table)?)
        };
        if self.looked.elapsed() > LAG_LOOK {
            self.looked = Instant::now();
            self.lag = others::lag(session)?;
        }
        Ok(Seen { took, work, question, lag: self.lag })
    }

    /// Leaves the server to others, and learns from it if that was long enough.
    pub(super) fn rest(
        &self,
        session: &mut Session,
        pace: &mut Pace,
        seen: &Seen,
        pause: Duration,
    ) -> Result<(), Failed> {
        thread::sleep(pause);
        if seen.question.is_some() && pause > RESTED {
            pace.rested(others::question(session, self.table)?);
        }
        Ok(())
    }
}
