//! Statements that write rows.

use super::Fold;
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::Expression;
use crate::sql::Statement;
use crate::wanted::{Copied, Source, When, alter};

impl Fold<'_> {
    /// Rows of a new table that are made from those of an old one. They are kept in step, if it can
    /// be told which belongs to which.
    pub(super) fn copy(
        &mut self,
        statement: &Statement,
        table: &Name,
        from: &Name,
        columns: &[(Name, Expression)],
        when: Option<&Expression>,
    ) -> Result<(), Problem> {
        let (source, grammar) = self.table(statement, from)?;
        let Some(was) = source.was.clone() else { return Ok(()) };
        let old = |it: &Expression| {
            alter::must_know(&source.table, it, statement)?;
            alter::from_old(source, it, statement, grammar)
        };
        let copied = Copied {
            from: was,
            columns: columns
                .iter()
                .map(|(name, value)| Ok((name.clone(), old(value)?)))
                .collect::<Result<_, Problem>>()?,
            when: when.map(old).transpose()?,
        };
        let (new, _) = self.table(statement, table)?;
        if new.is_new() && copied.key(&new.table).is_some() {
            new.copies.push(copied);
        } else {
            self.data(statement);
        }
        Ok(())
    }

    /// Rows are written; what they held before only whoever wrote it knows.
    pub(super) fn data(&mut self, statement: &Statement) {
        let said = statement.answers.undo.as_ref();
        let undo = said.filter(|it| !it.eq_ignore_ascii_case("nothing")).cloned();
        self.carry(statement, When::Data { undo, said: said.is_some() });
    }

    /// `UPDATE t SET a = f(b)`: how a new column is filled. Of an old one it is a change of data,
    /// which is not modelled.
    pub(super) fn fill(
        &mut self,
        statement: &Statement,
        name: &Name,
        columns: &[(Name, Expression)],
    ) -> Result<(), Problem> {
        let (table, grammar) = self.table(statement, name)?;
        if table.is_new() {
            return Ok(());
        }
        let all_new = columns.iter().all(|(column, _)| {
            matches!(table.columns.get(column), Some(Source::New { up: None, .. }))
        });
        if !all_new {
            self.data(statement);
            return Ok(());
        }
        for (column, value) in columns {
            alter::must_know(&table.table, value, statement)?;
            let filled = alter::from_old(table, value, statement, grammar)?;
            if let Some(Source::New { up, .. }) = table.columns.get_mut(column) {
                *up = Some(filled);
            }
        }
        Ok(())
    }
}
