//! One table that is there and stays, compared with what the file says of it.

use std::collections::BTreeMap;

use crate::name::Name;
use crate::problem::{Place, Problem};
use crate::shape::{Column, Constraint, Expression, Index, Made, Rule, Table};
use crate::sql::{Action, Answers, Change, Statement};

/// The constraints that a statement makes.
#[expect(clippy::wildcard_enum_match_arm, reason = "it looks for these alone")]
pub(super) fn constraints_in(statement: &Statement) -> &[Constraint] {
    match &statement.action {
        Action::CreateTable { table, .. } => &table.constraints,
        Action::Alter { change: Change::AddConstraint { constraint, .. }, .. } => {
            std::slice::from_ref(constraint)
        }
        Action::Alter { change: Change::AddColumn { constraints, .. }, .. } => constraints,
        _ => &[],
    }
}

/// The table that a constraint points to.
pub(super) fn target(constraint: &Constraint) -> Option<&Name> {
    match &constraint.rule {
        Rule::Foreign { table, .. } => Some(table),
        Rule::Primary { .. } | Rule::Unique { .. } | Rule::Check { .. } | Rule::Other { .. } => {
            None
        }
    }
}

/// A table with what the file says of it.
pub(super) struct Compared<'a> {
    /// As it is there, under its new names.
    pub(super) live: &'a Table,
    /// Its name so far.
    pub(super) was: &'a Name,
    /// As the file wants it, in the server's words.
    pub(super) desired: &'a Table,
    /// The file's `CREATE TABLE`.
    pub(super) statement: &'a Statement,
    /// The table in it, as it is written.
    pub(super) written: &'a Table,
    /// What comments beside its columns say.
    pub(super) answers: &'a BTreeMap<Name, Answers>,
    /// Where its columns stand.
    pub(super) places: &'a BTreeMap<Name, Place>,
    /// The new names of its columns that have another one, by the old ones.
    pub(super) renamed: &'a BTreeMap<Name, Name>,
}

/// The statements that bring a table to what is wanted, in the order in which they follow.
#[derive(Default)]
pub(super) struct Changes {
    /// Constraints and indexes that get other names or go.
    pub(super) first: Vec<Statement>,
    /// Columns.
    pub(super) columns: Vec<Statement>,
    /// Constraints and indexes that are new.
    pub(super) last: Vec<Statement>,
}

impl Compared<'_> {
    /// What tells the two apart.
    pub(super) fn changes(&self, problems: &mut Vec<Problem>) -> Changes {
        let mut changes = Changes::default();
        for column in &self.desired.columns {
            match self.live.column(&column.name) {
                Some(live) => self.column(live, column, &mut changes.columns, problems),
                None => changes.columns.push(self.new_column(column)),
            }
        }
        for column in &self.live.columns {
            if self.desired.column(&column.name).is_none() {
                match self.gone(column) {
                    Ok(statement) => changes.columns.push(statement),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        self.constraints(&mut changes);
        self.indexes(&mut changes);
        changes
    }

    fn at(&self, column: &Name) -> &Place {
        self.places.get(column).unwrap_or(&self.statement.at)
    }

    fn alter(&self, at: &Place, sql: &str, change: Change, answers: Answers) -> Statement {
        let table = self.live.name.clone();
        Statement {
            at: at.clone(),
            sql: format!("ALTER TABLE {} {sql}", table.plain()),
            action: Action::Alter { table, change, lenient: false },
            answers,
        }
    }

    /// What is said of a column. An expression may name old columns as they were.
    fn answers(&self, column: &Name) -> Answers {
        let mut answers = self.answers.get(column).cloned().unwrap_or_default();
        let now = |it: &Name| match self.renamed.get(it) {
            Some(new) if self.live.column(it).is_none() => new.clone(),
            _ => it.clone(),
        };
        answers.up = answers.up.map(|it| it.renamed(now));
        answers
    }

    fn new_column(&self, column: &Column) -> Statement {
        let name = &column.name;
        // A `serial` is one only as it is written; a dump makes its sequence apart.
        let written = self.written.column(name).unwrap_or(column).clone();
        let apart = column.sequence.is_some() && written.made == Made::Written;
        let column = if apart { Column { sequence: None, ..column.clone() } } else { written };
        let sql = format!("ADD COLUMN {}", column_sql(&column));
        let change = Change::AddColumn { column, constraints: Vec::new(), lenient: false };
        self.alter(self.at(name), &sql, change, self.answers(name))
    }

    fn gone(&self, column: &Column) -> Result<Statement, Problem> {
        let (table, name) = (&self.live.name, &column.name);
        let said = self.statement.answers.gone.iter().find(|(it, _)| it == name);
        let Some((_, down)) = said else {
            return Err(Problem::new(
                &self.statement.at,
                format!("{table} has a column {name} in the database, and not here"),
            )
            .hint(format!(
                "if it goes, add a line to the table: `-- gone: {0}`; if it is called otherwise \
                 now, add beside that column: `-- was: {0}`",
                name.plain()
            )));
        };
        if down.is_none() && column.not_null && column.default.is_none() {
            return Err(Problem::new(
                &self.statement.at,
                format!(
                    "{name} goes, and is NOT NULL without a default: what shall the old code find \
                     in rows that the new code writes?"
                ),
            )
            .hint(format!(
                "say it: `-- gone: {} = <expression over the columns that stay>`",
                name.plain()
            )));
        }
        let change = Change::DropColumn { column: name.clone(), lenient: false };
        let answers = Answers { down: down.clone(), ..Answers::default() };
        let sql = format!("DROP COLUMN {}", name.plain());
        Ok(self.alter(&self.statement.at, &sql, change, answers))
    }

    fn column(
        &self,
        live: &Column,
        desired: &Column,
        out: &mut Vec<Statement>,
        problems: &mut Vec<Problem>,
    ) {
        let name = &desired.name;
        let at = self.at(name);
        let column = name.clone();
        let computed =
            |it: &Column| it.default.as_ref().filter(|_| it.made == Made::Computed).map(quoted);
        let identity = |it: &Column| match it.made {
            Made::IdentityAlways => Some("ALWAYS"),
            Made::IdentityByDefault => Some("BY DEFAULT"),
            Made::Written | Made::Serial | Made::Computed => None,
        };
        let other = identity(live).zip(identity(desired)).filter(|(from, to)| from != to);
        if let Some((from, to)) = other {
            // It is run at once, where table and column have their old names.
            let column = self.renamed.iter().find(|(_, new)| *new == name);
            let column = column.map_or(name, |(old, _)| old).plain();
            let table = self.was.plain();
            let alter = |word: &str| {
                format!("ALTER TABLE {table} ALTER COLUMN {column} SET GENERATED {word}")
            };
            let answers = Answers { undo: Some(alter(from)), ..Answers::default() };
            out.push(Statement { at: at.clone(), sql: alter(to), action: Action::Raw, answers });
        }
        let in_another_way = live.made != desired.made && other.is_none();
        if in_another_way || computed(live) != computed(desired) {
            let table = &self.live.name;
            problems.push(
                Problem::new(at, format!("{table}.{name} would get its values in another way"))
                    .hint(format!(
                        "give it another name, with `-- up: {0}` beside it, and add `-- gone: {0}` \
                         to the table",
                        name.plain()
                    )),
            );
            return;
        }
        let mut push = |sql: String, change: Change, answers: Answers| {
            let sql = format!("ALTER COLUMN {} {sql}", name.plain());
            out.push(self.alter(at, &sql, change, answers));
        };
        let retyped = live.kind != desired.kind || live.collation != desired.collation;
        if retyped {
            let change = Change::Retype {
                column: column.clone(),
                kind: desired.kind.clone(),
                collation: desired.collation.clone(),
                using: None,
            };
            push(format!("TYPE {}", desired.kind), change, self.answers(name));
        }
        // What was said is about the new type, if there is one.
        let answers = if retyped { Answers::default() } else { self.answers(name) };
        match (live.not_null, desired.not_null) {
            (false, true) => {
                push(
                    "SET NOT NULL".to_owned(),
                    Change::SetNotNull { column: column.clone() },
                    answers,
                );
            }
            (true, false) => {
                push(
                    "DROP NOT NULL".to_owned(),
                    Change::DropNotNull { column: column.clone() },
                    answers,
                );
            }
            (true, true) | (false, false) => {}
        }
        let numbered = live.sequence.is_some() && desired.sequence.is_some();
        let default = |it: &Column| it.default.as_ref().map(quoted);
        if desired.made != Made::Computed && !numbered && default(live) != default(desired) {
            let sql = match &desired.default {
                Some(default) => format!("SET DEFAULT {}", default.text()),
                None => "DROP DEFAULT".to_owned(),
            };
            push(sql, Change::Default { column, to: desired.default.clone() }, Answers::default());
        }
    }

    fn constraints(&self, changes: &mut Changes) {
        let at = &self.statement.at;
        let apart = told_apart(&self.live.constraints, &self.desired.constraints);
        for (from, to) in apart.renamed {
            let (constraint, to) = (from.name.clone(), to.name.clone());
            let sql = format!("RENAME CONSTRAINT {} TO {}", constraint.plain(), to.plain());
            let change = Change::RenameConstraint { constraint, to };
            changes.first.push(self.alter(at, &sql, change, Answers::default()));
        }
        for it in apart.dropped {
            let sql = format!("DROP CONSTRAINT {}", it.name.plain());
            let change = Change::DropConstraint { constraint: it.name.clone(), lenient: true };
            changes.first.push(self.alter(at, &sql, change, Answers::default()));
        }
        for it in apart.added {
            let sql = format!("ADD CONSTRAINT {} {}", it.name.plain(), rule_sql(&it.rule));
            let change = Change::AddConstraint { constraint: it.clone(), using: None };
            changes.last.push(self.alter(at, &sql, change, Answers::default()));
        }
    }

    fn indexes(&self, changes: &mut Changes) {
        let at = &self.statement.at;
        let apart = told_apart(&self.live.indexes, &self.desired.indexes);
        let statement = |sql: String, action: Action| Statement {
            at: at.clone(),
            sql,
            action,
            answers: Answers::default(),
        };
        for (from, to) in apart.renamed {
            let (index, to) = (from.name.clone(), to.name.clone());
            let sql = format!("ALTER INDEX {} RENAME TO {}", index.plain(), to.plain());
            let action = Action::RenameIndex { index, to };
            changes.first.push(statement(sql, action));
        }
        for it in apart.dropped {
            let sql = format!("DROP INDEX {}", it.name.plain());
            let action = Action::DropIndex { index: it.name.clone(), lenient: true };
            changes.first.push(statement(sql, action));
        }
        for it in apart.added {
            let table = self.live.name.clone();
            let sql = index_sql(it, &table);
            let action = Action::CreateIndex { table, index: it.clone(), lenient: false };
            changes.last.push(statement(sql, action));
        }
    }
}

/// What a table has under names.
trait Part {
    fn name(&self) -> &Name;
    /// Whether it is the same but for its name.
    fn is_like(&self, other: &Self) -> bool;
}

impl Part for Constraint {
    fn name(&self) -> &Name {
        &self.name
    }

    fn is_like(&self, other: &Self) -> bool {
        match (&self.rule, &other.rule) {
            (Rule::Check { expression: one }, Rule::Check { expression: other }) => {
                quoted(one) == quoted(other)
            }
            (one, other) => one == other,
        }
    }
}

impl Part for Index {
    fn name(&self) -> &Name {
        &self.name
    }

    fn is_like(&self, other: &Self) -> bool {
        self.unique == other.unique && quoted(&self.rest) == quoted(&other.rest)
    }
}

/// What tells two lists of parts apart.
struct Apart<'a, T> {
    /// Those that get another name, with those that have it.
    renamed: Vec<(&'a T, &'a T)>,
    dropped: Vec<&'a T>,
    added: Vec<&'a T>,
}

fn told_apart<'a, T: Part>(live: &'a [T], desired: &'a [T]) -> Apart<'a, T> {
    let is_in =
        |it: &T, all: &[T]| all.iter().any(|other| it.name() == other.name() && it.is_like(other));
    let mut dropped: Vec<&T> = live.iter().filter(|it| !is_in(it, desired)).collect();
    let (mut renamed, mut added) = (Vec::new(), Vec::new());
    for it in desired.iter().filter(|it| !is_in(it, live)) {
        // A name that another has there is not free yet.
        let free = !live.iter().any(|other| other.name() == it.name());
        match dropped.iter().position(|other| other.is_like(it)).filter(|_| free) {
            Some(at) => renamed.push((dropped.remove(at), it)),
            None => added.push(it),
        }
    }
    Apart { renamed, dropped, added }
}

/// An expression with each column in quotes, as two that are the same may differ in that.
pub(super) fn quoted(expression: &Expression) -> String {
    expression.with(Name::to_string)
}

fn column_sql(column: &Column) -> String {
    let mut words = vec![column.name.plain(), column.kind.to_string()];
    words.extend(column.collation.iter().map(|it| format!("COLLATE {it}")));
    match column.made {
        Made::IdentityAlways => words.push("GENERATED ALWAYS AS IDENTITY".to_owned()),
        Made::IdentityByDefault => words.push("GENERATED BY DEFAULT AS IDENTITY".to_owned()),
        Made::Written | Made::Computed | Made::Serial => {}
    }
    if column.not_null {
        words.push("NOT NULL".to_owned());
    }
    words.extend(column.default.iter().map(|it| match column.made {
        Made::Computed => format!("GENERATED ALWAYS AS ({}) STORED", it.text()),
        Made::Written | Made::Serial | Made::IdentityAlways | Made::IdentityByDefault => {
            format!("DEFAULT {}", it.text())
        }
    }));
    words.join(" ")
}

fn rule_sql(rule: &Rule) -> String {
    match rule {
        Rule::Primary { columns } => format!("PRIMARY KEY ({})", plain(columns)),
        Rule::Unique { columns, include, rest } => {
            let include = match include.as_slice() {
                [] => String::new(),
                include => format!(" INCLUDE ({})", plain(include)),
            };
            format!("UNIQUE ({}){include} {rest}", plain(columns)).trim_end().to_owned()
        }
        Rule::Check { expression } => format!("CHECK ({})", expression.text()),
        Rule::Foreign { columns, table, to, rest } => {
            let to = if to.is_empty() { String::new() } else { format!(" ({})", plain(to)) };
            format!("FOREIGN KEY ({}) REFERENCES {}{to} {rest}", plain(columns), table.plain())
                .trim_end()
                .to_owned()
        }
        Rule::Other { definition, .. } => definition.clone(),
    }
}

fn index_sql(index: &Index, table: &Name) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    format!(
        "CREATE {unique}INDEX {} ON {} {}",
        index.name.plain(),
        table.plain(),
        index.rest.text()
    )
}

fn plain(names: &[Name]) -> String {
    names.iter().map(Name::plain).collect::<Vec<_>>().join(", ")
}
