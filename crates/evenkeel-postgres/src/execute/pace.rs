//! How much is done at once, and how long others have to themselves in between. Decides from what was
//! seen; knows no clock.

use std::time::Duration;

/// What one piece of work looked like.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// How long it took.
    pub took: Duration,
    /// How long a small question took right after it, as any client's would.
    pub question: Duration,
    /// How far the slowest replica is behind, if there is one.
    pub lag: Option<Duration>,
}

/// The pace of a backfill.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Pages that are looked at in one piece.
    pages: u64,
    /// The share of time that is spent working, up to one.
    duty: f64,
    /// How long the small question takes when nothing is wrong.
    usual: Duration,
}

/// How long a piece of work should take. Rows that it changes are locked as long.
const PIECE: Duration = Duration::from_millis(20);
/// Most pages in one piece.
const PAGES_MAX: u64 = 512;
/// Least share of time that is spent working.
const DUTY_MIN: f64 = 0.1;
/// What the share is multiplied by when others have to wait, and what is added when they do not.
const DUTY_DOWN: f64 = 0.7;
const DUTY_UP: f64 = 0.02;
/// A small question that takes this many times what is usual waits for something.
const SLOW: u32 = 8;
/// A question is not slow below this.
const SLOW_MIN: Duration = Duration::from_millis(10);
/// A replica that is further behind than this is waited for.
const LAG_MAX: Duration = Duration::from_secs(10);
/// How long a replica is given to catch up before it is looked at again.
const LAG_PAUSE: Duration = Duration::from_secs(1);

impl Pace {
    /// A pace, given how long a small question usually takes.
    pub fn new(usual: Duration) -> Self {
        Self { pages: 16, duty: 1.0, usual }
    }

    /// How many pages the next piece has.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The share of time that is spent working.
    pub fn duty(&self) -> f64 {
        self.duty
    }

    /// Learns from a piece of work, and says how long to leave the server to others.
    pub fn after(&mut self, seen: Seen) -> Duration {
        let took = seen.took.max(Duration::from_micros(100));
        let factor = (PIECE.as_secs_f64() / took.as_secs_f64()).clamp(0.5, 2.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "pages are few, and not negative"
        )]
        let pages = (self.pages as f64 * factor) as u64;
        self.pages = pages.clamp(1, PAGES_MAX);
        if seen.lag.is_some_and(|lag| lag > LAG_MAX) {
            return LAG_PAUSE;
        }
        if seen.question > (self.usual * SLOW).max(SLOW_MIN) {
            self.duty = (self.duty * DUTY_DOWN).max(DUTY_MIN);
        } else {
            self.duty = (self.duty + DUTY_UP).min(1.0);
        }
        took.mul_f64((1.0 - self.duty) / self.duty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(took: u64, question: u64) -> Seen {
        Seen {
            took: Duration::from_millis(took),
            question: Duration::from_millis(question),
            lag: None,
        }
    }

    #[test]
    fn a_piece_grows_until_it_takes_its_time_and_shrinks_at_once() {
        let mut pace = Pace::new(Duration::from_millis(1));
        for _ in 0..20 {
            pace.after(seen(1, 1));
        }
        assert_eq!(pace.pages(), PAGES_MAX);
        pace.after(seen(400, 1));
        assert_eq!(pace.pages(), PAGES_MAX / 2);
    }

    #[test]
    fn others_who_wait_get_time_and_it_is_taken_back_slowly() {
        let mut pace = Pace::new(Duration::from_millis(1));
        assert_eq!(pace.after(seen(20, 1)), Duration::ZERO);
        let pause = pace.after(seen(20, 50));
        assert!(pause > Duration::from_millis(8), "{pause:?}");
        for _ in 0..50 {
            pace.after(seen(20, 50));
        }
        assert!((pace.duty() - DUTY_MIN).abs() < 1e-9);
        for _ in 0..50 {
            pace.after(seen(20, 1));
        }
        assert!((pace.duty() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_replica_that_is_behind_is_waited_for() {
        let mut pace = Pace::new(Duration::from_millis(1));
        let behind = Seen { lag: Some(Duration::from_secs(11)), ..seen(20, 1) };
        assert_eq!(pace.after(behind), LAG_PAUSE);
    }
}
