//! The trigger that keeps a row as it was, but for what it is filled with, where triggers of the
//! user's change rows that are updated (`updated_at`).
//!
//! A backfill may leave those triggers out only where its role may set `session_replication_role`. It
//! is no change of the row, so what they make of it is taken back.

use super::expand::names;
use super::layout::Layout;
use super::sync::BACKFILL;
use super::{OWN, put};
use crate::name::{Name, literal};
use crate::shape::{Column, Made};
use crate::wanted::{Wanted, When};

/// Whether the user's triggers, or such that the migration makes, may change rows that are filled.
pub(super) fn is_needed(wanted: &Wanted, layout: &Layout<'_>) -> bool {
    let filled = layout.fresh.iter().any(|it| it.up.is_some());
    let made = wanted.carried.iter().any(|it| {
        let says = |word: &Name| names(&it.sql, word);
        matches!(it.when, When::Expanded { .. })
            && says(&Name::new("trigger"))
            && (says(&layout.old.name) || says(&layout.new.table.name))
    });
    filled && (made || layout.old.triggers.iter().any(|it| it.before && it.on_update))
}

/// The function that the trigger runs.
pub(super) fn function(layout: &Layout<'_>) -> String {
    let mut body = String::from("\nBEGIN\n");
    let written = |it: &&Column| it.made != Made::Computed;
    let old = layout.old.columns.iter().filter(written).map(|it| &it.name);
    let fresh = layout.fresh.iter().filter(|it| it.up.is_none() && written(&&it.column));
    for column in old.chain(fresh.map(|it| &it.physical)) {
        put(&mut body, format_args!("  NEW.{column} := OLD.{column};\n"));
    }
    body.push_str("  RETURN NEW;\nEND\n");
    format!(
        "CREATE FUNCTION {} RETURNS trigger LANGUAGE plpgsql AS {}",
        name(layout),
        literal(&body)
    )
}

/// The trigger. What triggers of another table that is filled write here is no filling; and it runs
/// whenever one of the user's might, also such as are `ENABLE ALWAYS`.
pub(super) fn trigger(layout: &Layout<'_>) -> [String; 2] {
    let (table, trigger) = (layout.table(), called(layout));
    [
        format!(
            "CREATE TRIGGER {trigger} BEFORE UPDATE ON {table} FOR EACH ROW WHEN \
             (current_setting('{BACKFILL}', true) = 'on' AND pg_trigger_depth() = 0) \
             EXECUTE FUNCTION {}",
            name(layout)
        ),
        format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"),
    ]
}

/// What takes both away.
pub(super) fn remove(layout: &Layout<'_>) -> [String; 2] {
    [
        format!("DROP TRIGGER IF EXISTS {} ON {}", called(layout), layout.table()),
        format!("DROP FUNCTION {}", name(layout)),
    ]
}

fn name(layout: &Layout<'_>) -> String {
    let number = format!("r{}", layout.revision);
    let name = Name::made(&["keep", &number, layout.schema.as_str(), layout.old.name.as_str()]);
    format!("{}.{name}()", Name::new(OWN))
}

/// After all letters, as all triggers of ours.
fn called(layout: &Layout<'_>) -> Name {
    Name::made(&["~evenkeel", &format!("r{}", layout.revision), "keep"])
}
