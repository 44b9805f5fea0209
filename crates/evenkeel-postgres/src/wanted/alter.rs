//! One change of one table, applied to what is wanted of it.

use super::{Gone, Source, WantedTable};
use crate::kind::Kind;
use crate::name::Name;
use crate::problem::Problem;
use crate::shape::{Column, Constraint, Expression, Made, Rule, Table};
use crate::sql::{Change, Grammar, Statement};

/// Applies a change.
pub(super) fn alter(
    table: &mut WantedTable,
    grammar: &dyn Grammar,
    statement: &Statement,
    change: &Change,
) -> Result<(), Problem> {
    Alter { table, grammar, statement }.apply(change)
}

struct Alter<'a> {
    table: &'a mut WantedTable,
    grammar: &'a dyn Grammar,
    statement: &'a Statement,
}

impl Alter<'_> {
    fn apply(&mut self, change: &Change) -> Result<(), Problem> {
        match change {
            Change::Rename { .. } | Change::Validate | Change::Later => Ok(()),
            Change::AddColumn { column, constraints, lenient } => {
                self.add_column(column, constraints, *lenient)
            }
            Change::DropColumn { column, lenient } => self.drop_column(column, *lenient),
            Change::RenameColumn { column, to } => self.rename_column(column, to),
            Change::Retype { column, kind, collation, using } => {
                self.retype(column, kind, collation.as_ref(), using.as_ref())
            }
            Change::SetNotNull { column } => self.set_not_null(column),
            Change::DropNotNull { column } => self.drop_not_null(column),
            Change::Default { column, to } => self.default(column, to.as_ref()),
            Change::AddConstraint { constraint, using } => {
                self.add_constraint(constraint, using.as_ref())
            }
            Change::DropConstraint { constraint, lenient } => {
                self.drop_constraint(constraint, *lenient)
            }
            Change::RenameConstraint { constraint, to } => self.rename_constraint(constraint, to),
            // Of a table that is there it is run as it is, by what is said of it.
            Change::Other => Ok(()),
        }
    }

    fn problem(&self, what: String) -> Problem {
        Problem::new(&self.statement.at, what)
    }

    /// An answer that is missing, with the line to add.
    fn missing(&self, word: &str, example: &str, why: &str) -> Problem {
        self.problem(why.to_owned()).hint(format!("add beside it: `-- {word}: {example}`"))
    }

    fn column(&self, name: &Name) -> Result<Column, Problem> {
        self.table.table.column(name).cloned().ok_or_else(|| {
            let known = crate::name::list(self.table.table.columns.iter().map(|it| &it.name));
            self.problem(format!("{} has no column {name}", self.table.table.name))
                .hint(format!("it has {known}"))
        })
    }

    fn add_column(
        &mut self,
        column: &Column,
        constraints: &[Constraint],
        lenient: bool,
    ) -> Result<(), Problem> {
        let name = &column.name;
        if self.table.table.column(name).is_some() {
            if lenient {
                return Ok(());
            }
            let table = &self.table.table.name;
            return Err(self.problem(format!("{table} has a column {name} already")));
        }
        if column.made == Made::Computed && !self.table.is_new() {
            return Err(self
                .problem(format!("adding {name}, which is computed, would rewrite the whole table"))
                .hint("add it without GENERATED, with `-- up: <expression>` beside it"));
        }
        let up = match &self.statement.answers.up {
            Some(up) => {
                must_know(&self.table.table, up, self.statement)?;
                Some(from_old(self.table, up, self.statement, self.grammar)?)
            }
            None => None,
        };
        self.table.table.columns.push(column.clone());
        let at = self.statement.at.clone();
        self.table.columns.insert(name.clone(), Source::New { up, at });
        for constraint in constraints {
            self.add_constraint(constraint, None)?;
        }
        Ok(())
    }

    fn drop_column(&mut self, name: &Name, lenient: bool) -> Result<(), Problem> {
        if lenient && self.table.table.column(name).is_none() {
            return Ok(());
        }
        let column = self.column(name)?;
        let source = self.table.columns.remove(name);
        self.table.passing.remove(name);
        self.table.twins.retain(|_, new| new != name);
        self.table.table.columns.retain(|it| it.name != *name);
        let touches = |columns: &std::collections::BTreeSet<&Name>| columns.contains(name);
        self.table.table.constraints.retain(|it| !touches(&it.rule.columns()));
        self.table.table.indexes.retain(|it| !touches(&it.rest.columns().collect()));
        if let Some(Source::Kept { old }) = source {
            let down = self.statement.answers.down.clone();
            if let Some(down) = &down {
                must_know(&self.table.table, down, self.statement)?;
            }
            if down.is_none() && column.not_null && column.default.is_none() {
                return Err(self.missing(
                    "down",
                    "<expression over the columns that stay>",
                    &format!(
                        "{name} is NOT NULL without a default: what shall the old code find in \
                         rows that the new code writes?"
                    ),
                ));
            }
            self.table.gone.insert(old, Gone { down, at: self.statement.at.clone() });
        }
        Ok(())
    }

    fn rename_column(&mut self, name: &Name, to: &Name) -> Result<(), Problem> {
        self.column(name)?;
        if self.table.table.column(to).is_some() {
            let table = &self.table.table.name;
            return Err(self.problem(format!("{table} has a column {to} already")));
        }
        let other = |it: &Name| if it == name { to.clone() } else { it.clone() };
        let swap = |names: &mut Vec<Name>| names.iter_mut().for_each(|it| *it = other(it));
        let table = &mut self.table.table;
        for column in &mut table.columns {
            column.name = other(&column.name);
            if column.made == Made::Computed {
                column.default = column.default.as_ref().map(|it| it.renamed(other));
            }
        }
        for constraint in &mut table.constraints {
            match &mut constraint.rule {
                Rule::Unique { columns, include, .. } => {
                    swap(columns);
                    swap(include);
                }
                Rule::Primary { columns }
                | Rule::Foreign { columns, .. }
                | Rule::Other { columns, .. } => swap(columns),
                Rule::Check { expression } => *expression = expression.renamed(other),
            }
        }
        for index in &mut table.indexes {
            index.rest = index.rest.renamed(other);
        }
        for gone in self.table.gone.values_mut() {
            gone.down = gone.down.as_ref().map(|it| it.renamed(other));
        }
        for new in self.table.twins.values_mut().filter(|it| *it == name) {
            new.clone_from(to);
        }
        if let Some(source) = self.table.columns.remove(name) {
            self.table.columns.insert(to.clone(), source);
        }
        if let Some(first) = self.table.passing.remove(name) {
            self.table.passing.insert(to.clone(), first);
        }
        Ok(())
    }

    fn retype(
        &mut self,
        name: &Name,
        kind: &Kind,
        collation: Option<&String>,
        using: Option<&Expression>,
    ) -> Result<(), Problem> {
        let column = self.column(name)?;
        let same = column.kind == *kind && collation == column.collation.as_ref();
        if self.table.is_new() || (same && using.is_none()) {
            if let Some(it) = self.table.table.column_mut(name) {
                it.kind = kind.clone();
                it.collation = collation.cloned();
            }
            return Ok(());
        }
        let answers = &self.statement.answers;
        // Without USING, SQL itself casts; and a cast has a way back, if any.
        let cast = using.is_none_or(|it| it.is_strict() && it.columns().all(|it| it == name));
        let up = match answers.up.as_ref().or(using) {
            Some(up) => up.clone(),
            None => Expression::cast(name, Some(&kind.unbounded())),
        };
        let down = match &answers.down {
            Some(down) => down.clone(),
            None if cast && answers.up.is_none() => {
                Expression::cast(name, Some(&column.kind.unbounded()))
            }
            None => {
                return Err(self.missing(
                    "down",
                    &format!("{name}::{}", column.kind),
                    &format!(
                        "{name} becomes {kind}: how does a value of it become {} again, for the \
                         old code?",
                        column.kind
                    ),
                ));
            }
        };
        must_know(&self.table.table, &up, self.statement)?;
        must_know(&self.table.table, &down, self.statement)?;
        self.twin(name, &up, down)?;
        if let Some(it) = self.table.table.column_mut(name) {
            it.kind = kind.clone();
            it.collation = collation.cloned();
        }
        Ok(())
    }

    /// Lets a column have another twin in each shape: `up` fills the new one, `down` the old one.
    fn twin(&mut self, name: &Name, up: &Expression, down: Expression) -> Result<(), Problem> {
        let filled = from_old(self.table, up, self.statement, self.grammar)?;
        let at = self.statement.at.clone();
        let source = Source::New { up: Some(filled), at: at.clone() };
        let before = self.table.columns.insert(name.clone(), source);
        if let Some(Source::Kept { old }) = before {
            self.table.twins.insert(old.clone(), name.clone());
            self.table.gone.insert(old, Gone { down: Some(down), at });
        }
        Ok(())
    }

    fn default(&mut self, name: &Name, to: Option<&Expression>) -> Result<(), Problem> {
        let column = self.column(name)?;
        // `ADD COLUMN … DEFAULT …; ALTER COLUMN … DROP DEFAULT` says what rows have that know nothing
        // of it.
        if let (Some(Source::New { up: None, .. }), Some(first)) =
            (self.table.columns.get(name), column.default)
        {
            self.table.passing.entry(name.clone()).or_insert(first);
        }
        if let Some(it) = self.table.table.column_mut(name) {
            it.default = to.cloned();
        }
        Ok(())
    }

    fn set_not_null(&mut self, name: &Name) -> Result<(), Problem> {
        self.column(name)?;
        if let Some(up) = self.statement.answers.up.clone() {
            must_know(&self.table.table, &up, self.statement)?;
            let down =
                self.statement.answers.down.clone().unwrap_or_else(|| Expression::cast(name, None));
            self.twin(name, &up, down)?;
        }
        if let Some(it) = self.table.table.column_mut(name) {
            it.not_null = true;
        }
        Ok(())
    }

    fn drop_not_null(&mut self, name: &Name) -> Result<(), Problem> {
        let column = self.column(name)?;
        let kept = matches!(self.table.columns.get(name), Some(Source::Kept { .. }));
        if column.not_null && kept {
            let Some(down) = self.statement.answers.down.clone() else {
                return Err(self.missing(
                    "down",
                    &format!("coalesce({name}, <what stands for NULL>)"),
                    &format!("{name} may be NULL from now on: what shall the old code find then?"),
                ));
            };
            must_know(&self.table.table, &down, self.statement)?;
            self.twin(name, &Expression::cast(name, None), down)?;
        }
        if let Some(it) = self.table.table.column_mut(name) {
            it.not_null = false;
        }
        Ok(())
    }

    fn add_constraint(
        &mut self,
        constraint: &Constraint,
        using: Option<&Name>,
    ) -> Result<(), Problem> {
        let mut constraint = constraint.clone();
        if self.table.table.constraint(&constraint.name).is_some() {
            let (table, name) = (&self.table.table.name, &constraint.name);
            return Err(self.problem(format!("{table} has a constraint {name} already")));
        }
        if let Some(index) = using {
            let Some(it) = self.table.table.index(index) else {
                return Err(self.problem(format!("there is no index {index}")));
            };
            let columns: Vec<Name> = it.rest.columns().cloned().collect();
            match &mut constraint.rule {
                Rule::Primary { columns: of } | Rule::Unique { columns: of, .. } => *of = columns,
                Rule::Check { .. } | Rule::Foreign { .. } | Rule::Other { .. } => {}
            }
            self.table.table.indexes.retain(|it| it.name != *index);
        }
        for column in constraint.rule.columns() {
            self.column(column)?;
        }
        if let Rule::Primary { columns } = &constraint.rule {
            for column in columns {
                if let Some(it) = self.table.table.column_mut(column) {
                    it.not_null = true;
                }
            }
        }
        self.table.table.constraints.push(constraint);
        Ok(())
    }

    fn drop_constraint(&mut self, name: &Name, lenient: bool) -> Result<(), Problem> {
        if self.table.table.constraint(name).is_none() {
            if lenient {
                return Ok(());
            }
            let table = &self.table.table.name;
            return Err(self.problem(format!("{table} has no constraint {name}")));
        }
        self.table.table.constraints.retain(|it| it.name != *name);
        self.table.constraints.remove(name);
        Ok(())
    }

    fn rename_constraint(&mut self, name: &Name, to: &Name) -> Result<(), Problem> {
        let constraints = &mut self.table.table.constraints;
        let Some(it) = constraints.iter_mut().find(|it| it.name == *name) else {
            let table = &self.table.table.name;
            return Err(self.problem(format!("{table} has no constraint {name}")));
        };
        it.name = to.clone();
        if let Some(was) = self.table.constraints.remove(name) {
            self.table.constraints.insert(to.clone(), was);
        }
        Ok(())
    }
}

/// An expression may name columns of its table only.
pub(super) fn must_know(
    table: &Table,
    expression: &Expression,
    statement: &Statement,
) -> Result<(), Problem> {
    let unknown = expression.columns().find(|it| table.column(it).is_none());
    match unknown {
        None => Ok(()),
        Some(name) => {
            let known = crate::name::list(table.columns.iter().map(|it| &it.name));
            Err(Problem::new(
                &statement.at,
                format!(
                    "`{}` names {name}, and {} has no such column",
                    expression.text(),
                    table.name
                ),
            )
            .hint(format!("it has {known}")))
        }
    }
}

/// The expression over the columns of the old shape, given one over those that there are at this
/// point: a column that is itself new stands for what it is filled with.
pub(super) fn from_old(
    table: &WantedTable,
    expression: &Expression,
    statement: &Statement,
    grammar: &dyn Grammar,
) -> Result<Expression, Problem> {
    let Some(was) = &table.was else { return Ok(expression.clone()) };
    let kept = |name: &Name| match table.columns.get(name) {
        Some(Source::Kept { old }) => Some(old.clone()),
        Some(Source::New { .. }) | None => None,
    };
    if expression.columns().all(|name| kept(name).is_some()) {
        return Ok(expression.renamed(|name| kept(name).unwrap_or_else(|| name.clone())));
    }
    let text = expression.with(|name| match table.columns.get(name) {
        Some(Source::Kept { old }) => old.to_string(),
        Some(Source::New { up: Some(up), .. }) => format!("({})", up.text()),
        Some(Source::New { up: None, .. }) | None => "NULL".to_owned(),
    });
    grammar.expression(&text, was).map_err(|why| {
        Problem::new(&statement.at, format!("could not follow `{}`: {why}", expression.text()))
    })
}
