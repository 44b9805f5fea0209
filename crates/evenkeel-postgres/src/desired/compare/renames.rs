//! What has another name from now on.

use std::collections::BTreeMap;

use super::Sides;
use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::sql::{Action, Answers, Change, Statement};

/// What has another name from now on.
#[derive(Default)]
pub(super) struct Renames {
    pub(super) statements: Vec<Statement>,
    /// The old names of tables, by their new ones.
    pub(super) tables: BTreeMap<Name, Name>,
    /// The new names of columns by their old ones, by the new names of their tables.
    pub(super) columns: BTreeMap<Name, BTreeMap<Name, Name>>,
}

/// What `-- was:` tells. One whose old name is not there any more has done its work.
pub(super) fn told(sides: &Sides<'_>, file: &[Statement], problems: &mut Vec<Problem>) -> Renames {
    let mut all = Renames::default();
    let still = |at: &Place, was: &Name, name: &Name| {
        let what = format!("{name} is said to have been {was}, which is still in the file");
        Problem::new(at, what).hint(format!("take out `-- was: {}`, or {0}", was.plain()))
    };
    for statement in file {
        let Action::CreateTable { table, answers, places, .. } = &statement.action else {
            continue;
        };
        let name = &table.name;
        let mut push = |at: &Place, of: &Name, sql: String, change: Change| {
            let action = Action::Alter { table: of.clone(), change, lenient: false };
            let sql = format!("ALTER TABLE {} {sql}", of.plain());
            all.statements.push(Statement {
                at: at.clone(),
                sql,
                action,
                answers: Answers::default(),
            });
        };
        let mut live = sides.now.tables.get(name);
        let was = statement.answers.was.as_ref().filter(|_| live.is_none());
        if let Some((was, table)) = was.and_then(|was| sides.now.tables.get_key_value(was)) {
            if sides.desired.shape.tables.contains_key(was) {
                problems.push(still(&statement.at, was, name));
                continue;
            }
            let change = Change::Rename { to: name.clone() };
            push(&statement.at, was, format!("RENAME TO {}", name.plain()), change);
            all.tables.insert(name.clone(), was.clone());
            live = Some(table);
        }
        let Some(live) = live else { continue };
        for (column, said) in answers {
            let Some(was) = &said.was else { continue };
            if live.column(column).is_some() || live.column(was).is_none() {
                continue;
            }
            let at = places.get(column).unwrap_or(&statement.at);
            if table.column(was).is_some() {
                problems.push(still(at, was, column));
                continue;
            }
            let change = Change::RenameColumn { column: was.clone(), to: column.clone() };
            push(at, name, format!("RENAME COLUMN {} TO {}", was.plain(), column.plain()), change);
            all.columns.entry(name.clone()).or_default().insert(was.clone(), column.clone());
        }
    }
    all
}
