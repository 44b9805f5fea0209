//! What people should know of a plan before it is run.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::tighten::{Fate, fate, not_nulls};
use crate::name::{Name, list};
use crate::problem::Place;
use crate::shape::Rule;
use crate::wanted::Wanted;

/// Something to know about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// How much it matters.
    pub weight: Weight,
    /// Where it comes from, if it stands somewhere.
    pub at: Option<Place>,
    /// What it is: a fragment in lower case.
    pub what: String,
}

/// How much a hazard matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Good to know.
    Note,
    /// It may fail writes, or lose what cannot be had again.
    Warning,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            Weight::Note => f.write_str("note: ")?,
            Weight::Warning => f.write_str("warning: ")?,
        }
        f.write_str(&self.what)?;
        match &self.at {
            Some(at) => write!(f, " ({at})"),
            None => Ok(()),
        }
    }
}

/// Everything to know about the change.
pub(super) fn hazards(wanted: &Wanted, layouts: &[Layout<'_>]) -> Vec<Hazard> {
    let mut all = Vec::new();
    for (table, at) in &wanted.dropped {
        all.push(warning(Some(at), format!("{table} and its rows are gone after contract")));
    }
    for layout in layouts {
        all.extend(of_table(layouts, layout));
    }
    all
}

fn of_table(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<Hazard> {
    let mut all = Vec::new();
    let table = &layout.old.name;
    for (column, gone) in &layout.new.gone {
        let replaced = layout
            .fresh
            .iter()
            .any(|it| it.up.as_ref().is_some_and(|up| up.columns().any(|name| name == column)));
        if !replaced {
            all.push(warning(
                Some(&gone.at),
                format!("what is in {table}.{column} is gone after contract"),
            ));
        }
    }
    for it in &layout.fresh {
        let Some(up) = &it.up else { continue };
        for (old, down) in layout.downs() {
            let narrows = down.columns().any(|name| *name == it.name)
                && layout.old.column(old).is_some_and(|before| {
                    up.columns().any(|name| name == old) && !it.column.kind.widens_to(&before.kind)
                });
            if narrows {
                all.push(note(
                    Some(&it.at),
                    format!(
                        "until contract a value of {table}.{} must fit the old column too",
                        it.name
                    ),
                ));
            }
        }
    }
    let filled = layout.fresh.iter().any(|it| it.up.is_some());
    if filled && !layout.old.triggers.is_empty() {
        all.push(note(
            None,
            format!(
                "triggers of {table} run for every row that is filled, unless the role may set \
                 session_replication_role: {}",
                list(&layout.old.triggers)
            ),
        ));
    }
    for (column, _) in not_nulls(layout) {
        if layout.old.column(&column).is_some() {
            all.push(warning(
                None,
                format!(
                    "old code that writes NULL to {table}.{column} fails once the rule is checked, \
                     before the new code gets traffic; `-- up: <expression>` keeps both right"
                ),
            ));
        }
    }
    for constraint in &layout.new.table.constraints {
        let Fate::Built { .. } = fate(layouts, layout, constraint) else { continue };
        let on_old = constraint.rule.columns().iter().all(|name| !layout.is_fresh(name));
        let new = !layout.new.constraints.contains_key(&constraint.name);
        if on_old && new {
            all.push(warning(
                None,
                format!(
                    "old code that breaks {} of {table} fails once it is checked, before the new \
                     code gets traffic",
                    constraint.name
                ),
            ));
        }
        if let Rule::Foreign { columns, .. } = &constraint.rule
            && new
            && !is_indexed(layout, columns)
        {
            all.push(note(
                None,
                format!(
                    "{} has no index on {}: deleting what it points at reads all of {table}",
                    constraint.name,
                    list(columns)
                ),
            ));
        }
        all.extend(width(layouts, layout, &constraint.name, &constraint.rule));
    }
    for constraint in &layout.old.constraints {
        let dropped = !layout.new.constraints.values().any(|it| *it == constraint.name);
        if dropped && constraint.rule.columns().iter().all(|it| layout.new.kept_as(it).is_some()) {
            all.push(note(
                None,
                format!("{} of {table} holds the new code too, until contract", constraint.name),
            ));
        }
    }
    all
}

/// A key that points with fewer digits than what it points at has.
fn width(layouts: &[Layout<'_>], layout: &Layout<'_>, name: &Name, rule: &Rule) -> Option<Hazard> {
    let Rule::Foreign { columns, table, to, .. } = rule else { return None };
    let there = layouts.iter().find(|it| it.new.table.name == *table)?;
    let to = if to.is_empty() { there.new.table.key() } else { to };
    let narrow = columns.iter().zip(to).find(|(from, to)| {
        let from = layout.new.table.column(from).map(|it| it.kind.as_str());
        let to = there.new.table.column(to).map(|it| it.kind.as_str());
        from == Some("integer") && to == Some("bigint")
    });
    narrow.map(|(from, to)| {
        warning(
            None,
            format!("{name}: {from} is an integer and points at {to}, a bigint, which outgrows it"),
        )
    })
}

fn is_indexed(layout: &Layout<'_>, columns: &[Name]) -> bool {
    let table = &layout.new.table;
    let starts = |names: Vec<&Name>| names.iter().zip(columns).all(|(a, b)| *a == b);
    table.indexes.iter().any(|it| {
        let names: Vec<&Name> = it.rest.columns().collect();
        names.len() >= columns.len() && starts(names)
    }) || table.constraints.iter().any(|it| match &it.rule {
        Rule::Primary { columns: of } | Rule::Unique { columns: of, .. } => {
            of.len() >= columns.len() && starts(of.iter().collect())
        }
        Rule::Check { .. } | Rule::Foreign { .. } | Rule::Other { .. } => false,
    })
}

fn note(at: Option<&Place>, what: String) -> Hazard {
    Hazard { weight: Weight::Note, at: at.cloned(), what }
}

fn warning(at: Option<&Place>, what: String) -> Hazard {
    Hazard { weight: Weight::Warning, at: at.cloned(), what }
}
