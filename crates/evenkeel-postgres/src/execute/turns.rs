//! Which rows of a region are filled in which turn. Decides from what became of the turns before;
//! knows no table.
//!
//! The first turns are small, so that those rows which must leave their pages do it a few at a time:
//! an index takes as many into the room that its pages have. Each turn leaves behind what its rows
//! had before, less than they need now; so turns grow while rows leave, and get smaller afterwards.

/// The rows of a region are dealt out in so many parts, by a number that each of them has.
pub(super) const PARTS: u64 = 233;
/// What the number is multiplied by: numbers that follow one another fall into parts that lie far
/// apart, so a turn has its share of every page, however few rows a page has. Both are Fibonacci
/// numbers, whose ratio does that best; and one is a prime, as keys may have steps of ten.
const STEP: u64 = 144;
/// The parts that may leave their pages in one turn: 7 %, as the pages of an index are built with 10 %
/// of room.
const LEAVE: f64 = 0.07 * PARTS as f64;
/// The parts of a turn at least. A turn looks at every row of the region, whosever turn it is.
const LEAST: u64 = 6;
/// By how much rows grow, as a share of what they are then, until that was seen; and within what
/// it is believed.
const GROWTH: f64 = 0.15;
const GROWTH_MIN: f64 = 0.02;
const GROWTH_MAX: f64 = 0.6;
/// How far what is believed follows what was seen.
const FOLLOW: f64 = 0.25;
/// Where fewer rows leave than this share, pages had room that nobody needed.
const LEFT_MIN: f64 = 0.1;

/// One turn at the pages of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Its number, from nought.
    pub(super) number: u64,
    /// The first of its parts.
    pub(super) from: u64,
    /// The one after its last part.
    pub(super) to: u64,
}

/// What became of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Rows that were filled.
    pub(super) rows: u64,
    /// How many of them left their pages.
    pub(super) left: u64,
}

/// How the turns of a table go.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// Turns that a region has at most.
    most: u64,
    growth: f64,
    /// Rows of the turn before, if all of it was seen.
    before: Option<u64>,
    /// The turn that is under way, if its beginning was seen.
    seen: Option<Outcome>,
}

impl Turn {
    /// All rows that are left, from where this turn begins.
    #[must_use]
    pub(super) fn rest(self) -> Self {
        Self { to: PARTS, ..self }
    }

    /// Whether it takes every row that is left.
    pub(super) fn is_last(self) -> bool {
        self.to == PARTS
    }

    /// The share of all rows that it fills.
    #[expect(clippy::cast_precision_loss, reason = "parts are few")]
    pub(super) fn share(self) -> f64 {
        (self.to - self.from) as f64 / PARTS as f64
    }

    /// SQL for whether it is the turn of the row that has this number.
    pub(super) fn sql(self, number: &str) -> String {
        let (shift, size) = (PARTS - self.from, self.to - self.from);
        format!("(({number} & 2147483647) % {PARTS} * {STEP} + {shift}) % {PARTS} < {size}")
    }
}

impl Turns {
    /// As many turns as this at most, in each region.
    pub(super) fn new(most: u64) -> Self {
        Self { most: most.max(1), growth: GROWTH, before: None, seen: None }
    }

    /// Whether there is more than one.
    pub(super) fn are_several(&self) -> bool {
        self.most > 1
    }

    /// The first turn of a region.
    pub(super) fn first(&mut self) -> Turn {
        self.before = None;
        self.seen = Some(Outcome::default());
        let to = if self.most == 1 { PARTS } else { parts(LEAVE) };
        Turn { number: 0, from: 0, to }
    }

    /// The turn after one that is over, if rows are left.
    #[expect(clippy::cast_precision_loss, reason = "parts are few")]
    pub(super) fn after(&mut self, turn: Turn) -> Option<Turn> {
        self.learn();
        let rest = PARTS - turn.to;
        let number = turn.number + 1;
        let next = Turn { number, from: turn.to, to: PARTS };
        let turns = self.most.saturating_sub(number);
        if rest == 0 || turns <= 1 {
            return (rest > 0).then_some(next);
        }
        let kept = 1.0 - self.growth;
        let room = (turn.to - turn.from) as f64 * kept;
        // What a turn has room for is a geometric row, so this is what is needed for the rest.
        let turns = i32::try_from(turns).unwrap_or(i32::MAX);
        let needed = rest as f64 * self.growth / (1.0 - kept.powi(turns));
        let leave = (needed - room).clamp(0.0, LEAVE);
        Some(Turn { to: turn.to + parts(room + leave).clamp(LEAST.min(rest), rest), ..next })
    }

    /// Takes note of rows that were filled.
    pub(super) fn saw(&mut self, outcome: Outcome) {
        if let Some(seen) = &mut self.seen {
            seen.rows += outcome.rows;
            seen.left += outcome.left;
        }
    }

    /// What a turn left behind was room for as many rows as stayed in the next one, if not all did.
    #[expect(clippy::cast_precision_loss, reason = "rows of a region")]
    fn learn(&mut self) {
        let before = self.before.take();
        let Some(seen) = self.seen.replace(Outcome::default()) else { return };
        self.before = Some(seen.rows);
        if let Some(before) = before
            && before > 0
            && seen.left as f64 > seen.rows as f64 * LEFT_MIN
        {
            let stayed = seen.rows.saturating_sub(seen.left) as f64;
            let growth = (1.0 - stayed / before as f64).clamp(GROWTH_MIN, GROWTH_MAX);
            self.growth += (growth - self.growth) * FOLLOW;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts are few")]
fn parts(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of 100 rows, as full as they can be, whose rows get `growth` of their new size longer.
    /// Fills regions of them, and gives for the last one its turns, and how many rows of a page left.
    fn fill(turns: &mut Turns, growth: f64) -> (u64, f64) {
        let (mut number, mut left) = (0, 0.0);
        for _ in 0..8 {
            let mut room = 0.0_f64;
            left = 0.0;
            let mut turn = turns.first();
            loop {
                let rows = turn.share() * 100.0;
                let stays = room.min(rows);
                room += rows * (1.0 - growth) - stays;
                left += rows - stays;
                turns.saw(Outcome {
                    rows: parts(rows * 100.0),
                    left: parts((rows - stays) * 100.0),
                });
                number = turn.number + 1;
                let Some(next) = turns.after(turn) else { break };
                assert_eq!(next.from, turn.to);
                turn = next;
            }
            assert!(turn.is_last());
        }
        (number, left)
    }

    #[test]
    fn hardly_more_rows_leave_than_have_no_room() {
        for (growth, most) in [(0.02, 15.0), (0.08, 16.0), (0.16, 20.0), (0.3, 34.0), (0.5, 56.0)] {
            let (number, left) = fill(&mut Turns::new(12), growth);
            assert!(number <= 12 && left < most, "{growth}: {left:.1} in {number} turns");
        }
    }

    #[test]
    fn few_rows_leave_at_once_where_they_are_not_many() {
        let mut turns = Turns::new(12);
        fill(&mut turns, 0.16);
        let mut turn = turns.first();
        let mut all = vec![turn.to];
        while let Some(next) = turns.after(turn) {
            let room = parts((turn.to - turn.from) as f64 * (1.0 - turns.growth));
            assert!(next.is_last() || next.to - next.from <= room + parts(LEAVE) + 1, "{next:?}");
            all.push(next.to - next.from);
            turn = next;
        }
        assert_eq!(all, [16, 30, 36, 31, 26, 22, 18, 15, 13, 11, 9, 6]);
    }

    #[test]
    fn where_nothing_is_cleaned_up_it_comes_to_an_end_all_the_same() {
        let mut turns = Turns::new(12);
        let mut turn = turns.first();
        let mut number = 1;
        loop {
            turns.saw(Outcome { rows: 1000, left: 1000 });
            let Some(next) = turns.after(turn) else { break };
            turn = next;
            number += 1;
        }
        assert!(number <= 12 && turn.is_last(), "{number} turns");
    }

    #[test]
    fn a_turn_that_was_begun_by_another_process_teaches_nothing() {
        let mut turns = Turns::new(12);
        turns.saw(Outcome { rows: 10, left: 10 });
        turns.after(Turn { number: 0, from: 0, to: 16 });
        turns.saw(Outcome { rows: 1000, left: 1000 });
        assert_eq!((turns.growth, turns.before), (GROWTH, None));
    }

    #[test]
    fn one_turn_takes_all() {
        let mut turns = Turns::new(1);
        let turn = turns.first();
        assert!(turn.is_last() && !turns.are_several());
        assert_eq!(turns.after(turn), None);
    }

    /// The parts of numbers in a row, as the server works them out.
    #[test]
    fn rows_of_a_page_are_dealt_out_evenly() {
        for step in [1, 2, 8, 10] {
            for first in (0..2_000).step_by(97) {
                let turn = Turn { number: 0, from: 30, to: 60 };
                let (shift, size) = (PARTS - turn.from, turn.to - turn.from);
                let has = |number: u64| (number % PARTS * STEP + shift) % PARTS < size;
                let rows = (0..40).filter(|row| has((first + row) * step)).count();
                assert!((3..=8).contains(&rows), "{step}, {first}: {rows} of 40");
            }
        }
        let sql = Turn { number: 0, from: 30, to: 60 }.sql("id");
        assert_eq!(sql, "((id & 2147483647) % 233 * 144 + 203) % 233 < 30");
    }
}
