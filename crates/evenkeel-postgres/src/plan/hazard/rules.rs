//! What people should know of rules that are new, or go.

use super::{Hazard, note, warning};
use crate::name::{Name, list};
use crate::plan::layout::Layout;
use crate::plan::tighten::{Fate, fate, not_nulls};
use crate::shape::Rule;

/// Everything to know about the rules of a table.
pub(super) fn hazards(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<Hazard> {
    let mut all = Vec::new();
    let table = &layout.old.name;
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
        let key = matches!(constraint.rule, Rule::Primary { .. } | Rule::Unique { .. });
        if key && layout.new.constraints.contains_key(&constraint.name) {
            all.push(note(
                None,
                format!(
                    "until contract {} of {table} is held twice: of two INSERT … ON CONFLICT of the \
                     new code at the same moment one may fail with a duplicate key",
                    constraint.name
                ),
            ));
        }
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
            && !layout.new.table.is_indexed_by(columns)
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
