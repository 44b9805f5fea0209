//! Fills rows that are there already, region by region, in turns.
//!
//! What makes a backfill dear is not the new value but that a row which does not fit on its page any
//! more has to be entered into every index again. So a region of the table is gone through several
//! times, and each time only some of its rows are changed: the first ones leave their pages, and
//! what they leave behind is room for the others, once nobody can see it any more. Between two turns
//! at one page lie the turns at all other pages of its region. Whose turn it is, `turns` says.
//!
//! Where an old snapshot keeps what is left behind from being cleaned up, turns are of no use, and
//! the rest of the region is filled in one.
//!
//! A region that is filled has room on its pages, for those who left them. Now and then the table is
//! vacuumed, so that the rows of later regions move there, and their entries into the room that the
//! indexes have; and neither grows more than it has to.

use std::time::{Duration, Instant};

use super::attempt::{Patience, again};
use super::bookmark::{Bookmark, pages};
use super::others::{self, Horizon};
use super::pace::Pace;
use super::turns::{Outcome, Turn, Turns};
use super::watch::Watch;
use super::{Failed, Session};
use crate::name::{Name, list, literal};
use crate::plan::{Backfill, OWN, Rows};

/// How rows are filled.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Pages of a region.
    pub region: u64,
    /// Turns that each region is filled in, at most.
    pub turns: u64,
    /// Tables of fewer pages are filled in one turn.
    pub small: u64,
    /// How often a table is vacuumed until it is filled, at most.
    pub vacuums: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { region: 2048, turns: 12, small: 256, vacuums: 8 }
    }
}

/// How far a backfill is.
#[derive(Debug, Clone)]
pub struct Filled {
    /// The table, as SQL names it.
    pub table: String,
    /// Rows that were filled.
    pub rows: u64,
    /// How many rows there are thought to be.
    pub of: u64,
    /// The part of the work that is done, up to one.
    pub part: f64,
    /// Rows filled per second, since this process began.
    pub rate: f64,
    /// The share of time that is spent working.
    pub duty: f64,
}

impl Filled {
    /// How far all of a plan's rows are, of which these are those at `position` of [`Plan::rows`](crate::plan::Plan::rows);
    /// `before` rows are of those before.
    #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
    pub(super) fn of_all(&self, all: &[Rows], position: usize, before: u64) -> Self {
        let bytes = |some: &[Rows]| some.iter().map(|it| it.bytes.max(1)).sum::<u64>() as f64;
        let this = all.get(position).map_or(0.0, |it| it.bytes.max(1) as f64);
        Self {
            rows: before + self.rows,
            of: all.iter().map(|it| it.count).sum(),
            part: (bytes(all.get(..position).unwrap_or_default()) + this * self.part) / bytes(all),
            ..self.clone()
        }
    }
}

/// How long a statement of ours waits for a row that somebody else has.
pub(super) const ROW_LOCK: Duration = Duration::from_millis(50);
/// How many times a table is gone through at most, if rows still lack a value afterwards.
const ROUNDS: usize = 3;
/// Pages in which rows are counted that lack a value, at once.
const CHECK: u64 = 16_384;

/// One backfill under way.
pub(super) struct Filling<'a> {
    pub(super) session: &'a mut Session,
    pub(super) mark: Bookmark<'a>,
    pub(super) backfill: &'a Backfill,
    pub(super) tuning: &'a Tuning,
    pub(super) patience: Patience,
}

/// Where a backfill is: what is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// Pages that the table had when it was begun. Rows beyond have their values from the triggers.
    pages: u64,
    region: u64,
    /// The turn that is under way, or over; none of the region's rows if it was not begun.
    turn: Turn,
    /// The next page of the turn; the end of the region when it is over.
    page: u64,
    rows: u64,
}

/// What goes with one run.
struct Run<'a> {
    pace: Pace,
    turns: Turns,
    began: Instant,
    filled: u64,
    replica: bool,
    watch: Watch<'a>,
    horizon: Horizon,
}

impl Filling<'_> {
    /// Fills all rows; gives whether it was not told to stop.
    pub(super) fn run(&mut self, told: &mut dyn FnMut(&Filled) -> bool) -> Result<bool, Failed> {
        let usual = others::usual(self.session, &self.backfill.table)?;
        let mut run = Run {
            pace: Pace::new(usual),
            turns: Turns::new(self.turns()?),
            began: Instant::now(),
            filled: 0,
            replica: self.may_skip_triggers(),
            watch: Watch::over(&self.backfill.table),
            horizon: Horizon::default(),
        };
        for round in 1.. {
            if !self.round(&mut run, told)? {
                return Ok(false);
            }
            let lacking = self.lacking()?;
            if lacking == 0 {
                break;
            }
            if round == ROUNDS {
                return Err(Failed::Lacking { table: self.backfill.table.clone(), rows: lacking });
            }
            let pages = pages(self.session, &self.backfill.table)?;
            let again = format!(
                "UPDATE {}.backfill SET region = 0, turn = 0, part = 0, until = 0, \
                 page = 0, pages = {pages} WHERE {}",
                Name::new(OWN),
                self.mark.key()
            );
            self.session.run(&again)?;
        }
        // Whoever asks for the new columns is to be planned for by what is in them.
        let Backfill { table, columns, .. } = self.backfill;
        let columns =
            if columns.is_empty() { String::new() } else { format!(" ({})", list(columns)) };
        self.session.run(&format!("ANALYZE {table}{columns}"))?;
        Ok(true)
    }

    /// Goes through the table once, from where it was left.
    fn round(
        &mut self,
        run: &mut Run<'_>,
        told: &mut dyn FnMut(&Filled) -> bool,
    ) -> Result<bool, Failed> {
        let mut cursor = self.cursor()?;
        while let Some(piece) = self.piece(&cursor, run)? {
            if self.is_time_to_vacuum(&cursor, &piece.after, run) {
                self.vacuum()?;
            }
            let began = Instant::now();
            let outcome = self.fill(&piece, run.replica)?;
            let took = began.elapsed();
            run.filled += outcome.rows;
            run.turns.saw(outcome);
            cursor = Cursor { rows: cursor.rows + outcome.rows, ..piece.after };
            let seen = run.watch.seen(self.session, took, piece.work())?;
            let pause = run.pace.after(seen);
            if !told(&self.filled(&cursor, run)) {
                return Ok(false);
            }
            run.watch.rest(self.session, &mut run.pace, &seen, pause)?;
        }
        Ok(true)
    }

    /// Whether enough regions were filled since the last time, before the next one is begun.
    fn is_time_to_vacuum(&self, before: &Cursor, next: &Cursor, run: &Run<'_>) -> bool {
        let regions = next.pages.div_ceil(self.tuning.region.max(1)).max(1);
        let part = |it: &Cursor| it.region * self.tuning.vacuums / regions;
        run.turns.are_several() && part(next) > part(before)
    }

    /// Makes the room that is free by now known to rows that move. It runs beside everybody, in one
    /// process and with pauses, and is left out where somebody else does it already.
    fn vacuum(&mut self) -> Result<(), Failed> {
        let table = &self.backfill.table;
        self.session.run("SET vacuum_cost_delay = '2ms'; SET vacuum_cost_limit = 500")?;
        let vacuum =
            format!("VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE OFF, PARALLEL 0) {table}");
        match self.session.run(&vacuum) {
            // Rows are filled without it as well.
            Err(error) if error.code().is_some() => Ok(()),
            done => done,
        }
    }

    /// How many turns a region has. A small table is not worth any.
    fn turns(&mut self) -> Result<u64, Failed> {
        Ok(if pages(self.session, &self.backfill.table)? < self.tuning.small {
            1
        } else {
            self.tuning.turns
        })
    }

    /// What is to be done next; nothing at the end of the table.
    fn piece(&mut self, cursor: &Cursor, run: &mut Run<'_>) -> Result<Option<Piece>, Failed> {
        let size = self.tuning.region.max(1);
        let mut it = *cursor;
        let end = |it: &Cursor| ((it.region + 1) * size).min(it.pages);
        let mut begins = it.turn.to == 0;
        if begins {
            it.turn = run.turns.first();
        } else if it.page >= end(&it) {
            begins = true;
            if let Some(turn) = run.turns.after(it.turn) {
                it = Cursor { turn, page: it.region * size, ..it };
            } else {
                let region = it.region + 1;
                it = Cursor { region, turn: run.turns.first(), page: region * size, ..it };
                run.horizon.turned = None;
            }
        }
        if it.page >= it.pages {
            return Ok(None);
        }
        if begins {
            let held = !it.turn.is_last() && run.horizon.is_held(self.session)?;
            if held {
                it.turn = it.turn.rest();
            }
            if it.turn.number == 0 || held {
                // Rows that leave their pages take far longer than those before them.
                run.pace.is_changed();
            }
        }
        let from = it.page;
        it.page = (from + run.pace.pages(it.turn.share())).min(end(&it));
        if it.page == end(&it) {
            run.horizon.turned = self.session.one("SELECT txid_current()")?;
        }
        Ok(Some(Piece { from, after: it }))
    }

    /// Fills one piece and writes down that it is done, in one transaction.
    fn fill(&mut self, piece: &Piece, replica: bool) -> Result<Outcome, Failed> {
        let Backfill { table, set, lacking, turn: number, .. } = self.backfill;
        let turn = piece.after.turn;
        // Whose turn it is comes first: it is cheaper to see than what a row holds. The last one is
        // everybody's who was missed.
        let filled = if turn.is_last() {
            format!("({lacking})")
        } else {
            format!("CASE WHEN {} THEN {lacking} ELSE false END", turn.sql(number))
        };
        let replica = if replica { "SET LOCAL session_replication_role = replica; " } else { "" };
        let (from, to) = (piece.from, piece.after.page);
        // Rows that stay on their pages are what the server counts as updates that no index sees.
        let stayed =
            format!("SELECT pg_stat_get_xact_tuples_hot_updated({}::regclass)", literal(table));
        let fill = format!(
            "{}; SET LOCAL lock_timeout = '{}ms'; SET LOCAL synchronous_commit = off; \
             SET LOCAL search_path = {}; SET LOCAL evenkeel.backfill = 'on'; {replica}{stayed}; \
             UPDATE ONLY {table} SET {set} \
             WHERE ctid >= '({from},0)' AND ctid < '({to},0)' AND {filled}",
            self.session.begin(),
            ROW_LOCK.as_millis(),
            self.mark.schema,
        );
        let (region, key) = (piece.after.region, self.mark.key());
        again(self.session, std::slice::from_ref(table), self.patience, |session| {
            let done = session.change(&fill).and_then(|(rows, before)| {
                let written = format!(
                    "{stayed}; UPDATE {}.backfill SET region = {region}, turn = {}, part = {}, \
                     until = {}, page = {to}, rows = rows + {rows} WHERE {key}; COMMIT",
                    Name::new(OWN),
                    turn.number,
                    turn.from,
                    turn.to,
                );
                let stayed = session.number(&written)? - before;
                Ok(Outcome { rows, left: rows.saturating_sub(u64::try_from(stayed).unwrap_or(0)) })
            });
            if done.is_err() {
                drop(session.run("ROLLBACK"));
            }
            done.map_err(|error| error.while_filling(table))
        })
    }

    /// Reads where it was left, or begins.
    fn cursor(&mut self) -> Result<Cursor, Failed> {
        let columns = ["pages", "region", "turn", "part", "until", "page", "rows"];
        let [pages, region, number, from, to, page, rows] =
            self.mark.read(self.session, &self.backfill.table, columns)?;
        Ok(Cursor { pages, region, turn: Turn { number, from, to }, page, rows })
    }

    /// Rows that lack a value, counted in pieces, so that no snapshot gets old by it.
    fn lacking(&mut self) -> Result<i64, Failed> {
        let pages = pages(self.session, &self.backfill.table)?;
        let mut lacking = 0;
        let mut from = 0;
        while from < pages {
            let to = from + CHECK;
            lacking += self.session.number(&format!(
                "SELECT count(*) FROM ONLY {} WHERE ctid >= '({from},0)' AND ctid < '({to},0)' \
                 AND ({})",
                self.backfill.table, self.backfill.lacking
            ))?;
            from = to;
        }
        Ok(lacking)
    }

    /// Whether triggers can be left out: whoever set `updated_at` by one did not mean a backfill.
    fn may_skip_triggers(&mut self) -> bool {
        let tried =
            self.session.run("BEGIN; SET LOCAL session_replication_role = replica; COMMIT").is_ok();
        if !tried {
            drop(self.session.run("ROLLBACK"));
        }
        tried
    }

    #[expect(clippy::cast_precision_loss, reason = "a share and a rate, for people")]
    fn filled(&self, cursor: &Cursor, run: &Run<'_>) -> Filled {
        let size = self.tuning.region.max(1);
        let start = cursor.region * size;
        let pages = (cursor.pages - start.min(cursor.pages)).clamp(1, size) as f64;
        let within = (cursor.page - start) as f64 / pages * cursor.turn.share();
        let region = Turn { from: 0, to: cursor.turn.from, ..cursor.turn }.share() + within;
        Filled {
            table: self.backfill.table.clone(),
            rows: cursor.rows,
            of: self.backfill.rows,
            part: ((start as f64 + region * pages) / cursor.pages.max(1) as f64).min(1.0),
            rate: run.filled as f64 / run.began.elapsed().as_secs_f64().max(0.001),
            duty: run.pace.duty(),
        }
    }
}

/// One piece of work.
struct Piece {
    /// Its first page.
    from: u64,
    /// Where the cursor is when it is done: its turn, and the page after its last.
    after: Cursor,
}

impl Piece {
    /// How many pages it would be if all of their rows were filled.
    #[expect(clippy::cast_precision_loss, reason = "pages of a piece are few")]
    fn work(&self) -> f64 {
        (self.after.page - self.from) as f64 * self.after.turn.share()
    }
}
