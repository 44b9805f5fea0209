//! Fills rows that are there already, region by region, in turns.
//!
//! What makes a backfill dear is not the new value but that a row which does not fit on its page any
//! more has to be entered into every index again. So a region of the table is gone through several
//! times, and each time only some of its rows are changed: the first ones leave their pages, and
//! what they leave behind is room for the others, once nobody can see it any more. Between two turns
//! at one page lie the turns at all other pages of its region.
//!
//! Where an old snapshot keeps what is left behind from being cleaned up, turns are of no use, and
//! the rest of the region is filled in one.
//!
//! A region that is filled has room on its pages, for those who left them. Now and then the table is
//! vacuumed, so that the rows of later regions move there, and their entries into the room that the
//! indexes have; and neither grows more than it has to.

use std::thread;
use std::time::{Duration, Instant};

use super::attempt::{Patience, again};
use super::others::{self, Horizon};
use super::pace::{Pace, Seen};
use super::{Failed, Session};
use crate::name::{Name, list, literal};
use crate::plan::{Backfill, OWN};

/// How rows are filled.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Pages of a region.
    pub region: u64,
    /// Turns that each region is filled in.
    pub turns: u64,
    /// Tables of fewer pages are filled in one turn.
    pub small: u64,
    /// How often a table is vacuumed until it is filled, at most.
    pub vacuums: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        // A prime, as keys that are numbers may well have steps of a power of two or ten.
        Self { region: 2048, turns: 17, small: 256, vacuums: 8 }
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
    /// How far all backfills are, of which this is the one at `position`; those before it have
    /// filled `before` rows.
    #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
    pub(super) fn of_all(&self, all: &[Backfill], position: usize, before: u64) -> Self {
        let bytes = |some: &[Backfill]| some.iter().map(|it| it.bytes.max(1)).sum::<u64>() as f64;
        let this = all.get(position).map_or(0.0, |it| it.bytes.max(1) as f64);
        Self {
            rows: before + self.rows,
            of: all.iter().map(|it| it.rows).sum(),
            part: (bytes(all.get(..position).unwrap_or_default()) + this * self.part) / bytes(all),
            ..self.clone()
        }
    }
}

/// Bytes of a page, as nearly every server is built.
const PAGE: u64 = 8192;
/// How long a statement of ours waits for a row that somebody else has.
const ROW_LOCK: Duration = Duration::from_millis(50);
/// How often replicas are looked at.
const LAG_LOOK: Duration = Duration::from_secs(1);
/// How often it is asked how long others wait.
const ASK: Duration = Duration::from_millis(50);
/// A pause after which a question says how long others wait where nothing is filled.
const RESTED: Duration = Duration::from_millis(5);
/// How many times a table is gone through at most, if rows still lack a value afterwards.
const ROUNDS: usize = 3;
/// Pages in which rows are counted that lack a value, at once.
const CHECK: u64 = 16_384;

/// One backfill under way.
pub(super) struct Filling<'a> {
    pub(super) session: &'a mut Session,
    pub(super) schema: &'a Name,
    pub(super) revision: u32,
    pub(super) position: usize,
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
    pass: u64,
    page: u64,
    rows: u64,
}

/// What goes with one run.
struct Run {
    pace: Pace,
    began: Instant,
    filled: u64,
    replica: bool,
    lag: Option<Duration>,
    looked: Instant,
    asked: Instant,
    horizon: Horizon,
}

impl Filling<'_> {
    /// Fills all rows; gives whether it was not told to stop.
    pub(super) fn run(&mut self, told: &mut dyn FnMut(&Filled) -> bool) -> Result<bool, Failed> {
        let usual = others::usual(self.session, &self.backfill.table)?;
        let mut run = Run {
            pace: Pace::new(usual),
            began: Instant::now(),
            filled: 0,
            replica: self.may_skip_triggers(),
            lag: None,
            looked: Instant::now(),
            asked: Instant::now(),
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
            let pages = self.pages()?;
            let again = format!(
                "UPDATE {}.backfill SET region = 0, pass = 0, page = 0, pages = {pages} WHERE {}",
                Name::new(OWN),
                self.key()
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
        run: &mut Run,
        told: &mut dyn FnMut(&Filled) -> bool,
    ) -> Result<bool, Failed> {
        let mut cursor = self.cursor()?;
        while let Some(piece) = self.piece(&cursor, run)? {
            let began = Instant::now();
            let rows = self.fill(&piece, run.replica)?;
            let took = began.elapsed();
            run.filled += rows;
            let before = cursor;
            cursor = Cursor { rows: cursor.rows + rows, ..piece.after };
            let question = self.question(run)?;
            if run.looked.elapsed() > LAG_LOOK {
                run.looked = Instant::now();
                run.lag = others::lag(self.session)?;
            }
            let pause = run.pace.after(Seen { took, work: piece.work(), question, lag: run.lag });
            if !told(&self.filled(&cursor, run)) {
                return Ok(false);
            }
            thread::sleep(pause);
            if question.is_some() && pause > RESTED {
                run.pace.rested(others::question(self.session, &self.backfill.table)?);
            }
            if self.is_time_to_vacuum(&before, &cursor) {
                self.vacuum()?;
            }
        }
        Ok(true)
    }

    /// Asks how long others wait, unless that was asked a moment ago.
    fn question(&mut self, run: &mut Run) -> Result<Option<Duration>, Failed> {
        if run.asked.elapsed() < ASK {
            return Ok(None);
        }
        run.asked = Instant::now();
        others::question(self.session, &self.backfill.table).map(Some)
    }

    /// Whether enough regions were filled since the last time; never at the end, when no row moves
    /// any more.
    fn is_time_to_vacuum(&self, before: &Cursor, now: &Cursor) -> bool {
        let regions = now.pages.div_ceil(self.tuning.region.max(1)).max(1);
        let part = |it: &Cursor| it.region * self.tuning.vacuums / regions;
        self.turns(now) > 1 && now.region < regions && part(now) > part(before)
    }

    /// Makes the room that is free by now known to rows that move. It runs beside everybody, in one
    /// process and with pauses, and is left out where somebody else does it already.
    fn vacuum(&mut self) -> Result<(), Failed> {
        let table = &self.backfill.table;
        self.session.run("SET vacuum_cost_delay = '2ms'; SET vacuum_cost_limit = 2000")?;
        let vacuum =
            format!("VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE OFF, PARALLEL 0) {table}");
        match self.session.run(&vacuum) {
            // Rows are filled without it as well.
            Err(error) if error.code().is_some() => Ok(()),
            done => done,
        }
    }

    fn turns(&self, cursor: &Cursor) -> u64 {
        if cursor.pages < self.tuning.small { 1 } else { self.tuning.turns.max(1) }
    }

    /// What is to be done next; nothing at the end of the table.
    fn piece(&mut self, cursor: &Cursor, run: &mut Run) -> Result<Option<Piece>, Failed> {
        let turns = self.turns(cursor);
        let region = self.tuning.region.max(1);
        let start = cursor.region * region;
        if start >= cursor.pages {
            return Ok(None);
        }
        let end = (start + region).min(cursor.pages);
        let from = cursor.page.max(start);
        let mut pass = cursor.pass;
        if from == start && pass > 0 && pass < turns && run.horizon.is_held(self.session)? {
            pass = turns;
        }
        // `turns` as a pass stands for all rows that are left.
        let turn = (turns > 1 && pass < turns).then_some((pass, turns));
        if from == start && (pass == 0 || turn.is_none()) {
            // Rows that leave their pages take far longer than those before them.
            run.pace.is_changed();
        }
        let of = turn.map_or(1, |(_, turns)| turns);
        let to = (from + run.pace.pages(of)).min(end);
        let after = if to < end {
            Cursor { pass, page: to, ..*cursor }
        } else if pass + 1 < turns {
            run.horizon.turned = self.session.one("SELECT txid_current()")?;
            Cursor { pass: pass + 1, page: start, ..*cursor }
        } else {
            run.horizon.turned = None;
            Cursor { region: cursor.region + 1, pass: 0, page: end, ..*cursor }
        };
        Ok(Some(Piece { from, to, turn, after }))
    }

    /// Fills one piece and writes down that it is done, in one transaction.
    fn fill(&mut self, piece: &Piece, replica: bool) -> Result<u64, Failed> {
        let Backfill { table, set, lacking, turn, .. } = self.backfill;
        // Whose turn it is comes first: it is cheaper to see than what a row holds.
        let filled = match piece.turn {
            Some((pass, turns)) => format!(
                "CASE WHEN ({turn} & 2147483647) % {turns} = {pass} THEN {lacking} ELSE false END"
            ),
            None => format!("({lacking})"),
        };
        let replica = if replica { "SET LOCAL session_replication_role = replica; " } else { "" };
        let own = Name::new(OWN);
        let statement = format!(
            "{begin}; SET LOCAL lock_timeout = '{}ms'; SET LOCAL synchronous_commit = off; \
             SET LOCAL search_path = {schema}; SET LOCAL evenkeel.backfill = 'on'; {replica}\
             WITH filled AS ( \
                 UPDATE ONLY {table} SET {set} WHERE ctid >= '({from},0)' AND ctid < '({to},0)' \
                 AND {filled} RETURNING 1 \
             ), counted AS (SELECT count(*) AS rows FROM filled) \
             UPDATE {own}.backfill AS it SET region = {region}, pass = {pass}, page = {page}, \
                 rows = it.rows + counted.rows \
             FROM counted WHERE {key} RETURNING counted.rows; \
             COMMIT",
            ROW_LOCK.as_millis(),
            begin = self.session.begin(),
            schema = self.schema,
            from = piece.from,
            to = piece.to,
            region = piece.after.region,
            pass = piece.after.pass,
            page = piece.after.page,
            key = self.key(),
        );
        let rows = again(self.session, std::slice::from_ref(table), self.patience, |session| {
            let done = session.number(&statement);
            if done.is_err() {
                drop(session.run("ROLLBACK"));
            }
            done.map_err(|error| error.while_filling(table))
        })?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// Reads where it was left, or begins.
    fn cursor(&mut self) -> Result<Cursor, Failed> {
        let pages = self.pages()?;
        let own = Name::new(OWN);
        self.session.run(&format!(
            "INSERT INTO {own}.backfill (schema, number, position, pages) \
             VALUES ({}, {}, {}, {pages}) ON CONFLICT DO NOTHING",
            literal(self.schema.as_str()),
            self.revision,
            self.position,
        ))?;
        let row = self.session.rows(&format!(
            "SELECT pages, region, pass, page, rows FROM {own}.backfill WHERE {}",
            self.key()
        ))?;
        let number = |at: usize| -> u64 {
            let text = row.first().and_then(|row| row.get(at)).cloned().flatten();
            text.and_then(|it| it.parse().ok()).unwrap_or_default()
        };
        Ok(Cursor {
            pages: number(0),
            region: number(1),
            pass: number(2),
            page: number(3),
            rows: number(4),
        })
    }

    fn key(&self) -> String {
        format!(
            "schema = {} AND number = {} AND position = {}",
            literal(self.schema.as_str()),
            self.revision,
            self.position
        )
    }

    fn pages(&mut self) -> Result<u64, Failed> {
        let bytes = self.session.number(&format!(
            "SELECT pg_relation_size({}::regclass)",
            literal(&self.backfill.table)
        ))?;
        Ok(u64::try_from(bytes).unwrap_or_default().div_ceil(PAGE))
    }

    /// Rows that lack a value, counted in pieces, so that no snapshot gets old by it.
    fn lacking(&mut self) -> Result<i64, Failed> {
        let pages = self.pages()?;
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
    fn filled(&self, cursor: &Cursor, run: &Run) -> Filled {
        let turns = self.turns(cursor);
        let region = self.tuning.region.max(1);
        let within = cursor.page.saturating_sub(cursor.region * region).min(region);
        let steps = (cursor.region * turns + cursor.pass.min(turns)) * region + within;
        let all = cursor.pages.div_ceil(region) * region * turns;
        let part = if all == 0 { 1.0 } else { (steps as f64 / all as f64).min(1.0) };
        Filled {
            table: self.backfill.table.clone(),
            rows: cursor.rows,
            of: self.backfill.rows,
            part,
            rate: run.filled as f64 / run.began.elapsed().as_secs_f64().max(0.001),
            duty: run.pace.duty(),
        }
    }
}

/// One piece of work.
struct Piece {
    from: u64,
    to: u64,
    /// Which turn of how many; none stands for every row that lacks a value.
    turn: Option<(u64, u64)>,
    /// Where the cursor is when it is done.
    after: Cursor,
}

impl Piece {
    /// How many pages it would be if all of their rows were filled.
    #[expect(clippy::cast_precision_loss, reason = "pages of a piece are few")]
    fn work(&self) -> f64 {
        let of = self.turn.map_or(1, |(_, turns)| turns);
        (self.to - self.from) as f64 / of as f64
    }
}
