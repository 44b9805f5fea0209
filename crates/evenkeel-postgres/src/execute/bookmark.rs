//! Where the work on the rows of a table is written down, so that it goes on there.

use super::{Failed, Session};
use crate::name::{Name, literal};
use crate::plan::OWN;

/// Bytes of a page, as nearly every server is built.
const PAGE: u64 = 8192;

/// Whose work it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bookmark<'a> {
    pub(super) schema: &'a Name,
    pub(super) revision: u32,
    /// Which of the tables of a plan it is.
    pub(super) position: usize,
}

impl Bookmark<'_> {
    /// Which row of the ledger it is.
    pub(super) fn key(&self) -> String {
        format!(
            "schema = {} AND number = {} AND position = {}",
            literal(self.schema.as_str()),
            self.revision,
            self.position
        )
    }

    /// Reads numbers of where it was left, or begins: with the pages that the table has then.
    pub(super) fn read<const N: usize>(
        &self,
        session: &mut Session,
        table: &str,
        columns: [&str; N],
    ) -> Result<[u64; N], Failed> {
        let pages = pages(session, table)?;
        let own = Name::new(OWN);
        session.run(&format!(
            "INSERT INTO {own}.backfill (schema, number, position, pages) \
             VALUES ({}, {}, {}, {pages}) ON CONFLICT DO NOTHING",
            literal(self.schema.as_str()),
            self.revision,
            self.position,
        ))?;
        let row = session.rows(&format!(
            "SELECT {} FROM {own}.backfill WHERE {}",
            columns.join(", "),
            self.key()
        ))?;
        let number = |at: usize| -> u64 {
            let text = row.first().and_then(|row| row.get(at)).cloned().flatten();
            text.and_then(|it| it.parse().ok()).unwrap_or_default()
        };
        Ok(std::array::from_fn(number))
    }
}

/// How many pages a table has.
pub(super) fn pages(session: &mut Session, table: &str) -> Result<u64, Failed> {
    let bytes =
        session.number(&format!("SELECT pg_relation_size({}::regclass)", literal(table)))?;
    Ok(u64::try_from(bytes).unwrap_or_default().div_ceil(PAGE))
}
