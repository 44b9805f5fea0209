//! Makes the rows of a new table from those of an old one, a piece at a time, while both are used.
//!
//! What the old code writes meanwhile triggers bring there; a row that is there already is left as it
//! is. Each row is held while its copy is made, so that none is made of one that goes.

use std::time::Instant;

use super::attempt::{Patience, again};
use super::backfill::{Filled, ROW_LOCK};
use super::bookmark::Bookmark;
use super::others;
use super::pace::Pace;
use super::watch::Watch;
use super::{Failed, Session};
use crate::name::Name;
use crate::plan::{Copied, OWN};

/// Rows of one table under way.
pub(super) struct Copying<'a> {
    pub(super) session: &'a mut Session,
    pub(super) mark: Bookmark<'a>,
    pub(super) copied: &'a Copied,
    pub(super) patience: Patience,
}

/// Where it is: what is written down.
struct Cursor {
    /// Pages that the old table had when it was begun. Rows beyond were brought by the triggers.
    pages: u64,
    page: u64,
    rows: u64,
}

impl Copying<'_> {
    /// Makes all rows; gives whether it was not told to stop.
    pub(super) fn run(&mut self, told: &mut dyn FnMut(&Filled) -> bool) -> Result<bool, Failed> {
        let from = &self.copied.from;
        let mut pace = Pace::new(others::usual(self.session, from)?);
        let mut watch = Watch::over(from);
        let mut cursor = self.cursor()?;
        let (began, first) = (Instant::now(), cursor.rows);
        while cursor.page < cursor.pages {
            let to = (cursor.page + pace.pages(1.0)).min(cursor.pages);
            let piece = Instant::now();
            cursor.rows += self.piece(cursor.page, to)?;
            let took = piece.elapsed();
            let work = pages(to - cursor.page);
            cursor.page = to;
            let seen = watch.seen(self.session, took, work)?;
            let pause = pace.after(seen);
            let filled = Filled {
                table: self.copied.into.clone(),
                rows: cursor.rows,
                of: self.copied.rows,
                part: pages(cursor.page) / pages(cursor.pages),
                rate: pages(cursor.rows - first) / began.elapsed().as_secs_f64().max(0.001),
                duty: pace.duty(),
            };
            if !told(&filled) {
                return Ok(false);
            }
            watch.rest(self.session, &mut pace, &seen, pause)?;
        }
        self.session.run(&format!("ANALYZE {}", self.copied.into))?;
        Ok(true)
    }

    /// Makes the rows of some pages and writes down that it is done, in one transaction.
    fn piece(&mut self, from: u64, to: u64) -> Result<u64, Failed> {
        let Copied { into, from: table, columns, values, when, .. } = self.copied;
        let statement = format!(
            "{begin}; SET LOCAL lock_timeout = '{}ms'; SET LOCAL synchronous_commit = off; \
             SET LOCAL search_path = {schema}; \
             WITH made AS ( \
                 INSERT INTO {into} ({columns}) SELECT {values} FROM ONLY {table} \
                 WHERE ctid >= '({from},0)' AND ctid < '({to},0)' AND ({when}) FOR KEY SHARE \
                 ON CONFLICT DO NOTHING RETURNING 1 \
             ), counted AS (SELECT count(*) AS rows FROM made) \
             UPDATE {own}.backfill AS it SET page = {to}, rows = it.rows + counted.rows \
             FROM counted WHERE {key} RETURNING counted.rows; \
             COMMIT",
            ROW_LOCK.as_millis(),
            begin = self.session.begin(),
            schema = self.mark.schema,
            own = Name::new(OWN),
            key = self.mark.key(),
        );
        let rows = again(self.session, std::slice::from_ref(table), self.patience, |session| {
            let done = session.number(&statement);
            if done.is_err() {
                drop(session.run("ROLLBACK"));
            }
            done.map_err(|error| error.while_filling(into))
        })?;
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// Reads where it was left, or begins.
    fn cursor(&mut self) -> Result<Cursor, Failed> {
        let columns = ["pages", "page", "rows"];
        let [pages, page, rows] = self.mark.read(self.session, &self.copied.from, columns)?;
        Ok(Cursor { pages, page, rows })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share and a rate, for people")]
fn pages(count: u64) -> f64 {
    count as f64
}
