//! Tighten: the rules of the new shape, built and checked while everybody works on.

use super::layout::Layout;
use super::{Step, put};
use crate::name::{Name, list};
use crate::shape::{Constraint, Rule};
use crate::wanted::Source;

/// What becomes of a rule of the new shape: it is an old one that stays, or it is built.
pub(super) enum Fate {
    /// It is there, under its old name.
    Stays { old: Name },
    /// It is built under this name, and gets its own at contract.
    Built { physical: Name },
}

/// All steps for all tables: indexes first, as foreign keys may need them.
pub(super) fn steps(layouts: &[Layout<'_>]) -> Vec<Step> {
    let mut all = Vec::new();
    for layout in layouts {
        all.extend(indexes(layout));
    }
    for layout in layouts {
        all.extend(constraints(layouts, layout));
    }
    all
}

fn indexes(layout: &Layout<'_>) -> Vec<Step> {
    let mut all = Vec::new();
    let mut push = |index: Name, unique: bool, rest: String| {
        let unique = if unique { "UNIQUE " } else { "" };
        let sql = format!("CREATE {unique}INDEX CONCURRENTLY {index} ON {} {rest}", layout.table());
        all.push(Step::Index { schema: layout.schema.clone(), index, sql });
    };
    for constraint in &layout.new.table.constraints {
        let (Rule::Primary { columns } | Rule::Unique { columns, .. }) = &constraint.rule else {
            continue;
        };
        if let Fate::Built { physical } = constraint_fate(layout, constraint) {
            let columns: Vec<Name> = columns.iter().map(|it| layout.physical(it)).collect();
            let mut rest = String::new();
            if let Rule::Unique { include, rest: said, .. } = &constraint.rule {
                if !include.is_empty() {
                    let include: Vec<Name> = include.iter().map(|it| layout.physical(it)).collect();
                    put(&mut rest, format_args!(" INCLUDE ({})", list(&include)));
                }
                if said.to_lowercase().contains("nulls not distinct") {
                    rest.push_str(" NULLS NOT DISTINCT");
                }
            }
            push(physical, true, format!("({}){rest}", list(&columns)));
        }
    }
    for index in &layout.new.table.indexes {
        if let Fate::Built { physical } = index_fate(layout, &index.name) {
            let rest = index.rest.with(|name| layout.physical(name).to_string());
            push(physical, index.unique, rest);
        }
    }
    all
}

fn constraints(layouts: &[Layout<'_>], layout: &Layout<'_>) -> Vec<Step> {
    let mut all = Vec::new();
    let table = layout.table();
    for (column, check) in not_nulls(layout) {
        all.push(Step::Constrain {
            table: table.clone(),
            constraint: check,
            rule: format!("CHECK ({column} IS NOT NULL)"),
        });
    }
    for constraint in &layout.new.table.constraints {
        let Fate::Built { physical } = fate(layouts, layout, constraint) else { continue };
        let rule = match &constraint.rule {
            Rule::Primary { .. } | Rule::Unique { .. } | Rule::Other { .. } => continue,
            Rule::Check { expression } => {
                format!("CHECK ({})", expression.with(|name| layout.physical(name).to_string()))
            }
            Rule::Foreign { columns, table, to, rest } => {
                let there = layouts.iter().find(|it| it.new.table.name == *table);
                let columns: Vec<Name> = columns.iter().map(|it| layout.physical(it)).collect();
                let to: Vec<Name> = match there {
                    Some(there) => {
                        let to = if to.is_empty() { there.new.table.key() } else { to };
                        to.iter().map(|it| there.physical(it)).collect()
                    }
                    None => to.clone(),
                };
                let target =
                    there.map_or_else(|| format!("{}.{table}", layout.schema), Layout::table);
                let to = if to.is_empty() { String::new() } else { format!(" ({})", list(&to)) };
                format!("FOREIGN KEY ({}) REFERENCES {target}{to} {rest}", list(&columns))
            }
        };
        let rule = rule.trim_end().to_owned();
        all.push(Step::Constrain { table: table.clone(), constraint: physical, rule });
    }
    all
}

/// Indexes and foreign keys that have to be built.
pub(super) fn built(layout: &Layout<'_>) -> Vec<Name> {
    let constraints = layout.new.table.constraints.iter().filter(|it| {
        !matches!(it.rule, Rule::Check { .. } | Rule::Other { .. })
            && matches!(constraint_fate(layout, it), Fate::Built { .. })
    });
    let indexes = layout.new.table.indexes.iter();
    let indexes = indexes.filter(|it| matches!(index_fate(layout, &it.name), Fate::Built { .. }));
    constraints.map(|it| it.name.clone()).chain(indexes.map(|it| it.name.clone())).collect()
}

/// Columns that refuse NULL in the new shape and not yet in the table, as they are called until
/// contract, and the check that stands in until then.
pub(super) fn not_nulls(layout: &Layout<'_>) -> Vec<(Name, Name)> {
    let mut all = Vec::new();
    for column in &layout.new.table.columns {
        if !column.not_null {
            continue;
        }
        let physical = layout.physical(&column.name);
        let has = match layout.new.columns.get(&column.name) {
            Some(Source::Kept { old }) => layout.old.column(old).is_some_and(|it| it.not_null),
            Some(Source::New { .. }) | None => {
                layout.plain().any(|it| it.name == column.name && it.first.is_some())
            }
        };
        if !has {
            let check = layout.own(&["nn", column.name.as_str()]);
            all.push((physical, check));
        }
    }
    all
}

/// What becomes of a constraint, given all tables: one that points at a column which is replaced is
/// built anew.
pub(super) fn fate(layouts: &[Layout<'_>], layout: &Layout<'_>, constraint: &Constraint) -> Fate {
    let own = constraint_fate(layout, constraint);
    let Fate::Stays { .. } = own else { return own };
    if let Rule::Foreign { table, to, .. } = &constraint.rule
        && let Some(there) = layouts.iter().find(|it| it.new.table.name == *table)
    {
        let to = if to.is_empty() { there.new.table.key() } else { to };
        if to.iter().any(|it| there.is_fresh(it)) {
            return Fate::Built { physical: layout.own(&[constraint.name.as_str()]) };
        }
    }
    own
}

/// What becomes of a constraint, by its own table alone.
fn constraint_fate(layout: &Layout<'_>, constraint: &Constraint) -> Fate {
    let replaced = constraint.rule.columns().iter().any(|it| layout.is_fresh(it));
    match layout.new.constraints.get(&constraint.name) {
        Some(old) if !replaced => Fate::Stays { old: old.clone() },
        _ => Fate::Built { physical: free(layout, &constraint.name) },
    }
}

/// What becomes of an index.
pub(super) fn index_fate(layout: &Layout<'_>, index: &Name) -> Fate {
    let replaced = layout
        .new
        .table
        .index(index)
        .is_some_and(|it| it.rest.columns().any(|it| layout.is_fresh(it)));
    match layout.new.indexes.get(index) {
        Some(old) if !replaced => Fate::Stays { old: old.clone() },
        _ => Fate::Built { physical: free(layout, index) },
    }
}

/// The name itself, unless the old shape has it.
fn free(layout: &Layout<'_>, name: &Name) -> Name {
    if layout.old.constraint(name).is_some() || layout.old.index(name).is_some() {
        layout.own(&[name.as_str()])
    } else {
        name.clone()
    }
}
