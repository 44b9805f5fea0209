//! How much is done at once, and how long others have to themselves in between. Decides from what was
//! seen; knows no clock.

use std::time::Duration;

/// What one piece of work looked like.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// How long it took.
    pub took: Duration,
    /// How many pages it would have been with all of their rows.
    pub work: f64,
    /// How long a small question took right after it, as any client's would; nothing if none was
    /// asked.
    pub question: Option<Duration>,
    /// How far the slowest replica is behind, if there is one.
    pub lag: Option<Duration>,
}

/// The pace of a backfill.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Seconds that a page takes with all of its rows.
    page: f64,
    /// The share of time that is spent working, up to one.
    duty: f64,
    /// How long the small question takes where nothing is filled.
    usual: Duration,
}

/// How long a piece of work should take. Rows that it changes are locked as long.
const PIECE: Duration = Duration::from_millis(10);
/// Most pages in one piece.
const PAGES_MAX: u64 = 512;
/// How far what a page takes follows a piece that was faster, and one that was slower: that may have
/// waited for a processor, and smaller pieces would not have helped it.
const FASTER: f64 = 0.5;
const SLOWER: f64 = 0.25;
/// How many times slower one piece is believed to be, at most.
const SLOWER_MAX: f64 = 8.0;
/// Least share of time that is spent working.
const DUTY_MIN: f64 = 0.1;
/// What the share is multiplied by when others have to wait, and what is added when they do not.
const DUTY_DOWN: f64 = 0.7;
const DUTY_UP: f64 = 0.05;
/// A small question that takes this many times what is usual waits for something.
const SLOW: u32 = 8;
/// A question is not slow below this.
const SLOW_MIN: Duration = Duration::from_millis(10);
/// What is usual follows the questions after a pause by this part, and goes no further than this:
/// where others wait anyway, it is not because of us, but more than that they shall not wait.
const USUAL_PART: f64 = 0.1;
const USUAL_MAX: Duration = Duration::from_millis(8);
/// A replica that is further behind than this is waited for.
const LAG_MAX: Duration = Duration::from_secs(10);
/// How long a replica is given to catch up before it is looked at again.
const LAG_PAUSE: Duration = Duration::from_secs(1);

impl Pace {
    /// A pace, given how long a small question usually takes.
    pub fn new(usual: Duration) -> Self {
        Self { page: PIECE.as_secs_f64(), duty: 1.0, usual }
    }

    /// How many pages the next piece has, if this share of their rows is filled.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "pages are few, and not negative"
    )]
    pub fn pages(&self, share: f64) -> u64 {
        let pages = (PIECE.as_secs_f64() / self.page / share) as u64;
        pages.clamp(1, PAGES_MAX)
    }

    /// The share of time that is spent working.
    pub fn duty(&self) -> f64 {
        self.duty
    }

    /// What comes is another kind of work, which may take far longer.
    pub fn is_changed(&mut self) {
        self.page = (self.page * SLOWER_MAX).min(PIECE.as_secs_f64());
    }

    /// Learns from a small question after a pause.
    pub fn rested(&mut self, question: Duration) {
        let usual = self.usual.mul_f64(1.0 - USUAL_PART) + question.mul_f64(USUAL_PART);
        self.usual = usual.min(USUAL_MAX);
    }

    /// Learns from a piece of work, and says how long to leave the server to others.
    pub fn after(&mut self, seen: Seen) -> Duration {
        let page = seen.took.as_secs_f64().max(0.000_1) / seen.work.max(0.001);
        let page = page.min(self.page * SLOWER_MAX);
        let part = if page < self.page { FASTER } else { SLOWER };
        self.page += (page - self.page) * part;
        if seen.lag.is_some_and(|lag| lag > LAG_MAX) {
            return LAG_PAUSE;
        }
        if let Some(question) = seen.question {
            if question > (self.usual * SLOW).max(SLOW_MIN) {
                self.duty = (self.duty * DUTY_DOWN).max(DUTY_MIN);
            } else {
                self.duty = (self.duty + DUTY_UP).min(1.0);
            }
        }
        seen.took.mul_f64((1.0 - self.duty) / self.duty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(took: u64, question: u64) -> Seen {
        Seen {
            took: Duration::from_millis(took),
            work: 8.0,
            question: Some(Duration::from_millis(question)),
            lag: None,
        }
    }

    #[test]
    fn a_piece_grows_until_it_takes_its_time_and_follows_one_slow_piece_a_little() {
        let mut pace = Pace::new(Duration::from_millis(1));
        assert_eq!(pace.pages(1.0), 1);
        for _ in 0..20 {
            pace.after(seen(4, 1));
        }
        assert!((19..=20).contains(&pace.pages(1.0)), "{}", pace.pages(1.0));
        assert_eq!(pace.pages(0.01), PAGES_MAX);
        pace.after(seen(400, 1));
        assert_eq!(pace.pages(1.0), 7);
        pace.after(seen(4, 1));
        pace.after(seen(4, 1));
        assert!(pace.pages(1.0) > 12, "{}", pace.pages(1.0));
    }

    #[test]
    fn a_piece_shrinks_if_all_are_slow_and_before_other_work() {
        let mut pace = Pace::new(Duration::from_millis(1));
        for _ in 0..20 {
            pace.after(seen(4, 1));
        }
        pace.is_changed();
        assert!((2..=3).contains(&pace.pages(1.0)), "{}", pace.pages(1.0));
        for _ in 0..20 {
            pace.after(seen(80, 1));
        }
        assert_eq!(pace.pages(1.0), 1);
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
        let unasked = Seen { question: None, ..seen(20, 0) };
        assert_eq!(pace.after(unasked), Duration::from_millis(180));
        for _ in 0..50 {
            pace.after(seen(20, 1));
        }
        assert!((pace.duty() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn where_others_wait_anyway_it_is_not_because_of_us() {
        let mut pace = Pace::new(Duration::from_millis(1));
        for _ in 0..50 {
            pace.after(seen(20, 50));
            pace.rested(Duration::from_millis(50));
        }
        assert!((pace.duty() - 1.0).abs() < 1e-9);
        // But that much is too long, whatever is usual.
        pace.after(seen(20, 90));
        assert!(pace.duty() < 1.0);
    }

    #[test]
    fn a_replica_that_is_behind_is_waited_for() {
        let mut pace = Pace::new(Duration::from_millis(1));
        let behind = Seen { lag: Some(Duration::from_secs(11)), ..seen(20, 1) };
        assert_eq!(pace.after(behind), LAG_PAUSE);
    }
}
