//! The triggers that keep both shapes of a table in step.
//!
//! Who wrote a row is told by *which columns changed*, not by the session: only the new shape can
//! name a new column, only the old one a column that goes. Where a write names neither, a column that
//! both have was changed; then, and for a NULL that is written to a new row, the server is asked
//! whether the views of the new revision are on the `search_path`. It is the server's own reading of
//! that setting, so its spelling does not matter.
//!
//! The triggers run after all of the user's, whose changes they see: their names begin with `~`.

use super::layout::{Fresh, Group, Layout};
use super::{OWN, keep, put};
use crate::name::{Name, literal};
use crate::shape::{Column, Expression, Made};

/// The setting by which a backfill says that it fills both sides itself.
pub(super) const BACKFILL: &str = "evenkeel.backfill";

/// The functions that the triggers run, which nobody has to wait for.
pub(super) fn functions(layout: &Layout<'_>, views: &Name) -> Vec<String> {
    let groups = layout.groups();
    if groups.is_empty() {
        return Vec::new();
    }
    let mut all = vec![make_function(&function(layout), &body(layout, &groups, views))];
    if layout.touched {
        all.push(keep::function(layout));
    }
    for group in &groups {
        for it in group.fresh.iter().filter(|it| may_be_null(it)) {
            all.push(make_function(&null_function(layout, it), &null_body(layout, group, it)));
        }
    }
    all
}

/// The triggers.
pub(super) fn triggers(layout: &Layout<'_>) -> Vec<String> {
    let groups = layout.groups();
    if groups.is_empty() {
        return Vec::new();
    }
    let table = layout.table();
    let moved = groups.iter().flat_map(|group| conditions(layout, group)).collect::<Vec<_>>();
    let mut all = vec![format!(
        "CREATE TRIGGER {} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {}",
        trigger(layout, "insert"),
        function(layout),
    )];
    if !moved.is_empty() {
        all.push(format!(
            "CREATE TRIGGER {} BEFORE UPDATE ON {table} FOR EACH ROW WHEN \
             ({} AND ({})) \
             EXECUTE FUNCTION {}",
            trigger(layout, "update"),
            written(),
            moved.join(" OR "),
            function(layout),
        ));
    }
    for it in groups.iter().flat_map(|group| &group.fresh).filter(|it| may_be_null(it)) {
        let column = &it.physical;
        let unmarked =
            it.marker.as_ref().map(|it| format!(" AND NEW.{it} IS NULL")).unwrap_or_default();
        all.push(format!(
            "CREATE TRIGGER {} BEFORE UPDATE OF {column} ON {table} FOR EACH ROW WHEN \
             ({} AND NEW.{column} IS NULL \
             AND OLD.{column} IS NULL{unmarked}) EXECUTE FUNCTION {}",
            null_trigger(layout, it),
            written(),
            null_function(layout, it),
        ));
    }
    if layout.touched {
        all.extend(keep::trigger(layout));
    }
    all
}

/// Whether a row is written, and not filled: be it by a trigger of a table that is.
fn written() -> String {
    format!("(current_setting('{BACKFILL}', true) IS DISTINCT FROM 'on' OR pg_trigger_depth() > 0)")
}

fn make_function(function: &str, body: &str) -> String {
    format!("CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS {}", literal(body))
}

/// The statements that take the triggers away.
pub(super) fn remove(layout: &Layout<'_>) -> Vec<String> {
    if !layout.is_synced() {
        return Vec::new();
    }
    let table = layout.table();
    let mut all: Vec<String> = ["insert", "update"]
        .iter()
        .map(|word| format!("DROP TRIGGER IF EXISTS {} ON {table}", trigger(layout, word)))
        .collect();
    all.push(format!("DROP FUNCTION {}", function(layout)));
    if layout.touched {
        all.extend(keep::remove(layout));
    }
    for it in layout.groups().iter().flat_map(|group| &group.fresh) {
        if may_be_null(it) {
            all.push(format!("DROP TRIGGER {} ON {table}", null_trigger(layout, it)));
            all.push(format!("DROP FUNCTION {}", null_function(layout, it)));
        }
    }
    all
}

/// Which rows lack a value of this new column, with `row` before each column (`NEW.`, or nothing).
pub(super) fn lacking(it: &Fresh, row: &str) -> Option<String> {
    let up = it.up.as_ref()?;
    let mut all = vec![format!("{row}{} IS NULL", it.physical)];
    if let Some(marker) = &it.marker {
        all.push(format!("{row}{marker} IS NULL"));
    }
    if !it.column.not_null {
        all.push(format!("({}) IS NOT NULL", up.with(|name| format!("{row}{name}"))));
    }
    Some(all.join(" AND "))
}

/// When an update concerns a group at all.
fn conditions(layout: &Layout<'_>, group: &Group<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for it in &group.fresh {
        all.push(differs(&it.physical, &it.column));
        all.extend(it.marker.as_ref().map(|it| format!("NEW.{it} IS DISTINCT FROM OLD.{it}")));
        // What `up` comes to is not asked here: a query cannot stand in this place.
        if it.up.is_some() {
            let marked = it.marker.as_ref().map(|it| format!(" AND NEW.{it} IS NULL"));
            all.push(format!("(NEW.{} IS NULL{})", it.physical, marked.unwrap_or_default()));
        }
    }
    for source in sources(group) {
        all.extend(layout.old.column(source).map(|it| differs(source, it)));
    }
    all.extend(kept(layout, group));
    all
}

/// Whether columns that both shapes have have changed, from which columns that go are made.
fn kept(layout: &Layout<'_>, group: &Group<'_>) -> Vec<String> {
    let named: std::collections::BTreeSet<&Name> =
        group.back.iter().flat_map(|(_, down)| down.columns()).collect();
    named
        .into_iter()
        .filter(|name| !layout.is_fresh(name))
        .filter_map(|name| {
            let physical = layout.physical(name);
            layout.old.column(&physical).map(|it| differs(&physical, it))
        })
        .collect()
}

/// The old columns that new ones of a group are filled from.
fn sources<'a>(group: &'a Group<'_>) -> std::collections::BTreeSet<&'a Name> {
    group.fresh.iter().filter_map(|it| it.up.as_ref()).flat_map(Expression::columns).collect()
}

fn body(layout: &Layout<'_>, groups: &[Group<'_>], views: &Name) -> String {
    let mut out = String::from("\nBEGIN\n  IF TG_OP = 'INSERT' THEN\n");
    for group in groups {
        out.push_str(&insert(layout, group, views));
    }
    out.push_str("    RETURN NEW;\n  END IF;\n");
    for group in groups {
        out.push_str(&update(layout, group, views));
    }
    out.push_str("  RETURN NEW;\nEND\n");
    out
}

/// Whether the session that writes uses the new revision.
pub(super) fn by_new(views: &Name) -> String {
    format!("{} = ANY (current_schemas(false))", literal(views.as_str()))
}

/// Whether a row without any new value was written by the new shape. It names none of the columns
/// that go: one that is there, and not by a default, came from the table itself.
fn by_new_alone(layout: &Layout<'_>, group: &Group<'_>, views: &Name) -> String {
    let given = group.back.iter().map(|(old, _)| *old).chain(sources(group)).filter(|name| {
        let plain =
            |it: &Column| it.default.is_none() && it.sequence.is_none() && it.made == Made::Written;
        layout.new.gone.contains_key(*name) && layout.old.column(name).is_some_and(plain)
    });
    let given: std::collections::BTreeSet<String> =
        given.map(|name| format!("NEW.{name} IS NULL")).collect();
    let all: Vec<String> = given.into_iter().chain([by_new(views)]).collect();
    format!("({})", all.join(" AND "))
}

fn insert(layout: &Layout<'_>, group: &Group<'_>, views: &Name) -> String {
    let written = group.fresh.iter().map(|it| format!("NEW.{} IS NOT NULL", it.physical));
    let written: Vec<String> = written.chain([by_new_alone(layout, group, views)]).collect();
    let mut out = format!("    IF {} THEN\n", written.join(" OR "));
    for it in &group.fresh {
        if layout.goes_on(it) {
            put(&mut out, format_args!("      IF NEW.{} IS NULL THEN\n", it.physical));
            out.push_str(&fill(it, "        "));
            out.push_str("      END IF;\n");
        }
        if it.column.not_null {
            out.push_str(&refuse_null(layout, it));
        } else if let Some(marker) = &it.marker {
            put(
                &mut out,
                format_args!("      NEW.{marker} := NEW.{} IS NULL OR NULL;\n", it.physical),
            );
        }
    }
    out.push_str(&downs(layout, group, "      "));
    out.push_str("    ELSE\n");
    for it in &group.fresh {
        out.push_str(&fill(it, "      "));
    }
    out.push_str("      NULL;\n    END IF;\n");
    out
}

fn update(layout: &Layout<'_>, group: &Group<'_>, views: &Name) -> String {
    let mut by_new_shape: Vec<String> = Vec::new();
    for it in &group.fresh {
        by_new_shape.push(differs(&it.physical, &it.column));
        by_new_shape
            .extend(it.marker.as_ref().map(|it| format!("NEW.{it} IS DISTINCT FROM OLD.{it}")));
    }
    // Columns that go may be made from such that both shapes have.
    let kept = kept(layout, group);
    if !kept.is_empty() {
        by_new_shape.push(format!("(({}) AND {})", kept.join(" OR "), by_new(views)));
    }
    if by_new_shape.is_empty() {
        return String::new();
    }
    let mut out = format!("  IF {} THEN\n", by_new_shape.join(" OR "));
    for it in &group.fresh {
        if it.up.is_some() {
            let same = format!("NOT ({})", differs(&it.physical, &it.column));
            out.push_str(&fill_late(it, &format!("{same} AND ")));
        }
        if it.column.not_null {
            out.push_str(&refuse_null(layout, it));
        }
        if let Some(marker) = &it.marker {
            put(
                &mut out,
                format_args!("    NEW.{marker} := NEW.{} IS NULL OR NULL;\n", it.physical),
            );
        }
    }
    out.push_str(&downs(layout, group, "    "));

    // A column that both shapes have may have been changed by either.
    let (mut going, mut shared) = (Vec::new(), Vec::new());
    for source in sources(group) {
        let Some(column) = layout.old.column(source) else { continue };
        let side = if layout.new.gone.contains_key(source) { &mut going } else { &mut shared };
        side.push(differs(source, column));
    }
    let mut by_old_shape = going;
    if !shared.is_empty() {
        by_old_shape.push(format!("(({}) AND NOT {})", shared.join(" OR "), by_new(views)));
    }
    if !by_old_shape.is_empty() {
        put(&mut out, format_args!("  ELSIF {} THEN\n", by_old_shape.join(" OR ")));
        for it in &group.fresh {
            out.push_str(&fill(it, "    "));
        }
        out.push_str("    NULL;\n");
    }
    out.push_str("  ELSE\n");
    for it in &group.fresh {
        let late = fill_late(it, "");
        if !late.is_empty() {
            // Whoever changes something else need not know of a value that cannot be had; a backfill
            // says so.
            put(
                &mut out,
                format_args!(
                    "    BEGIN\n  {late}    EXCEPTION WHEN OTHERS THEN\n      NULL;\n    END;\n"
                ),
            );
        }
        // What the value is made from is no longer what it was; so it is NULL, and stays it.
        if let Some(marker) = &it.marker
            && !shared.is_empty()
        {
            put(
                &mut out,
                format_args!(
                    "    IF NEW.{} IS NULL AND ({}) THEN\n      NEW.{marker} := true;\n    END IF;\n",
                    it.physical,
                    shared.join(" OR ")
                ),
            );
        }
    }
    out.push_str("    NULL;\n  END IF;\n");
    out
}

/// Gives a row what a backfill would have given it before this update.
fn fill_late(it: &Fresh, also: &str) -> String {
    let (Some(up), Some(lacking)) = (&it.up, lacking(it, "OLD.")) else { return String::new() };
    let value = up.with(|name| format!("OLD.{name}"));
    let marked = it.marker.as_ref().map(|it| format!(" AND NEW.{it} IS NULL")).unwrap_or_default();
    format!(
        "    IF {also}{lacking}{marked} THEN\n      NEW.{} := ({value});\n    END IF;\n",
        it.physical
    )
}

/// Fills a new column as the old shape means it.
fn fill(it: &Fresh, indent: &str) -> String {
    let Some(up) = &it.up else { return String::new() };
    let value = up.with(|name| format!("NEW.{name}"));
    let mut out = format!("{indent}NEW.{} := ({value});\n", it.physical);
    if let Some(marker) = &it.marker {
        put(&mut out, format_args!("{indent}NEW.{marker} := NULL;\n"));
    }
    out
}

/// Fills the columns that go as the new shape means them.
fn downs(layout: &Layout<'_>, group: &Group<'_>, indent: &str) -> String {
    let one = |(old, down): &(&Name, &Expression)| {
        let value = down.with(|name| format!("NEW.{}", layout.physical(name)));
        format!("{indent}NEW.{old} := ({value});\n")
    };
    group.back.iter().map(one).collect()
}

/// Refuses NULL as the server will once the column has its own rule.
fn refuse_null(layout: &Layout<'_>, it: &Fresh) -> String {
    let table = &layout.new.table.name;
    let text = format!(
        "null value in column {} of relation {table} violates not-null constraint",
        it.name
    );
    format!(
        "    IF NEW.{} IS NULL THEN\n      RAISE EXCEPTION USING ERRCODE = 'not_null_violation', \
         MESSAGE = {}, TABLE = {}, COLUMN = {};\n    END IF;\n",
        it.physical,
        literal(&text),
        literal(table.as_str()),
        literal(it.name.as_str()),
    )
}

/// What is done for a NULL that is written where there was one: nothing changes by it, and yet it
/// says that the value is meant.
fn null_body(layout: &Layout<'_>, group: &Group<'_>, it: &Fresh) -> String {
    let meant = match &it.marker {
        Some(marker) => format!("  NEW.{marker} := true;\n"),
        None => downs(layout, group, "  "),
    };
    format!("\nBEGIN\n{meant}  RETURN NEW;\nEND\n")
}

fn may_be_null(it: &Fresh) -> bool {
    it.up.is_some() && !it.column.not_null
}

/// Whether a column has another value than before.
pub(super) fn differs(name: &Name, column: &Column) -> String {
    if column.kind.can_be_compared() {
        format!("NEW.{name} IS DISTINCT FROM OLD.{name}")
    } else {
        format!("NEW.{name}::text IS DISTINCT FROM OLD.{name}::text")
    }
}

fn function(layout: &Layout<'_>) -> String {
    let number = format!("r{}", layout.revision);
    let name = Name::made(&["sync", &number, layout.schema.as_str(), layout.old.name.as_str()]);
    format!("{}.{name}()", Name::new(OWN))
}

fn null_function(layout: &Layout<'_>, it: &Fresh) -> String {
    let number = format!("r{}", layout.revision);
    let table = layout.old.name.as_str();
    let name = Name::made(&["null", &number, layout.schema.as_str(), table, it.physical.as_str()]);
    format!("{}.{name}()", Name::new(OWN))
}

/// After all letters, so that it runs after the user's triggers.
fn trigger(layout: &Layout<'_>, word: &str) -> Name {
    Name::made(&["~evenkeel", &format!("r{}", layout.revision), word])
}

/// Before the other two of ours, after the user's.
fn null_trigger(layout: &Layout<'_>, it: &Fresh) -> Name {
    Name::made(&["~evenkeel", &format!("r{}", layout.revision), "null", it.physical.as_str()])
}
