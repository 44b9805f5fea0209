//! Views and functions: what is found by its name, so that each revision can have its own.

use super::Fold;
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::Index;
use crate::sql::Statement;
use crate::wanted::{Carried, When};

impl Fold<'_> {
    /// A view or a function. One that is new nobody can miss; one that is there has to be what the
    /// old code knows, until that is gone.
    pub(super) fn code(&mut self, statement: &Statement, what: &str, name: &str) {
        let bare = Name::written(name.split('(').next().unwrap_or(name).trim());
        let drop = Some(format!("{what} {name}"));
        let when = match what {
            "VIEW" => When::PerRevision { drop },
            "MATERIALIZED VIEW" if self.now.views.contains_key(&bare) => When::End,
            "FUNCTION" | "PROCEDURE" if self.now.functions.contains_key(&bare) => {
                When::PerRevision { drop }
            }
            _ => {
                let undo = format!("DROP {what} IF EXISTS {name}");
                let mut new = self.wanted.tables.values().filter(|it| it.is_new());
                if new.any(|it| statement.sql.contains(it.table.name.as_str())) {
                    self.wanted.made.push(statement.sql.clone());
                    When::Made { undo }
                } else {
                    When::Beginning { undo: Some(undo) }
                }
            }
        };
        self.carry(statement, when);
    }

    /// A function goes where it was made: one of an earlier statement at once, another at the end.
    pub(super) fn drop_code(&mut self, statement: &Statement, name: &Name) {
        let makes = |undo: &String| {
            let rest = undo.split("EXISTS ").nth(1).and_then(|it| it.split('(').next());
            rest.is_some_and(|it| it.trim_matches('"').eq_ignore_ascii_case(name.as_str()))
        };
        if self.now.functions.contains_key(name) {
            return self.carry(statement, When::Uncoded { function: name.clone() });
        }
        let made = |it: &Carried| matches!(&it.when, When::Made { undo } if makes(undo));
        if self.wanted.carried.iter().any(made) {
            self.wanted.made.push(statement.sql.clone());
        } else {
            self.carry(statement, When::Beginning { undo: None });
        }
    }

    /// Rights. On a view that is made anew they are given in each schema, once it is there.
    pub(super) fn rights(&mut self, statement: &Statement, taken: bool, on: &[Name]) {
        let made = |it: &Name| self.wanted.carried.iter().any(|made| makes_view(made, it));
        let anew = |it: &Name| self.wanted.dropped_views.contains(it);
        let when = if on.iter().any(made) {
            When::PerRevision { drop: None }
        } else if taken || on.iter().any(anew) {
            When::End
        } else {
            When::Granted
        };
        self.carry(statement, when);
    }

    /// An index on a materialized view: with that where it is made anew, otherwise at the beginning.
    pub(super) fn index_of_view(&mut self, statement: &Statement, view: &Name, index: &Index) {
        let unique = if index.unique { "UNIQUE " } else { "" };
        let sql = format!("CREATE {unique}INDEX {} ON {view} {}", index.name, index.rest.text());
        let when = if self.wanted.dropped_views.contains(view) {
            When::End
        } else {
            When::Beginning { undo: Some(format!("DROP INDEX IF EXISTS {}", index.name)) }
        };
        self.wanted.carried.push(Carried { at: statement.at.clone(), sql, when });
    }

    /// Whether a materialized view of that name is there, or made.
    pub(super) fn is_materialized(&self, name: &Name) -> bool {
        let makes = |it: &Carried| {
            let words: Vec<&str> = it.sql.split_whitespace().take(7).collect();
            let is = |at: usize, word: &str| {
                words.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word))
            };
            is(1, "materialized") && words.iter().skip(3).any(|it| Name::written(it) == *name)
        };
        self.now.views.get(name).is_some_and(|it| it.materialized)
            || self.wanted.carried.iter().any(makes)
    }

    pub(super) fn drop_view(
        &mut self,
        statement: &Statement,
        view: &Name,
        lenient: bool,
        cascade: bool,
    ) -> Result<(), Problem> {
        // One that an earlier statement makes is not made.
        let before = self.wanted.carried.len();
        self.wanted.carried.retain(|it| !makes_view(it, view));
        let made = self.wanted.carried.len() != before;
        if !self.now.views.contains_key(view) {
            if made || lenient {
                return Ok(());
            }
            return Err(Problem::new(&statement.at, format!("there is no view {view}")));
        }
        let mut going = vec![view.clone()];
        while let Some(it) = going.pop() {
            if cascade {
                let reading = self.now.views.values().filter(|other| other.reads.contains_key(&it));
                going.extend(reading.map(|it| it.name.clone()));
            }
            self.wanted.dropped_views.insert(it);
        }
        Ok(())
    }
}

/// Whether a statement makes that view, in each schema.
fn makes_view(it: &Carried, view: &Name) -> bool {
    let names = [format!("VIEW {view}"), format!("VIEW {}", view.as_str())];
    it.when.per_revision().is_some_and(|drop| names.iter().any(|name| name == drop))
}
