//! Tables that keep others in step: a column that moves to another table, and rows of a new table
//! that are made from those of an old one.
//!
//! What the old code writes goes to where the new one reads it, and the other way round. Which of the
//! two wrote is what the server says of the session's `search_path`, as here nothing else tells it;
//! so neither answers the other, and nothing goes round in a circle.

use std::collections::BTreeSet;

use super::OWN;
use super::layout::Layout;
use super::sync::{by_new, differs};
use crate::name::{Name, list, literal};
use crate::shape::{Expression, Lookup, Shape, Table};
use crate::wanted::{Copied, Wanted};

/// What one table does for another.
pub(super) struct Follow {
    /// The table that is written, as SQL names it.
    pub(super) on: String,
    /// Whether that is new, and so has no locks to be waited for.
    pub(super) on_new: bool,
    /// The function that is run.
    pub(super) function: String,
    /// The triggers that run it.
    pub(super) triggers: Vec<String>,
    /// What takes both away.
    pub(super) remove: Vec<String>,
}

/// What is run for a row, and when.
struct Work<'a> {
    /// What it is about, for its name.
    about: [&'a str; 2],
    on: String,
    on_new: bool,
    /// Columns, as they are called until contract, whose change it follows; as conditions.
    differs: Vec<String>,
    /// What is done with the row as it was, and as it is.
    old: String,
    new: String,
    /// Whether it follows the new code, or the old one.
    by_new: bool,
    /// Where the function looks for tables.
    path: Vec<&'a Name>,
    /// Whether a row that goes must be followed before it does, as others point at it.
    before_delete: bool,
}

/// All that follows from a change.
pub(super) fn all(
    now: &Shape,
    wanted: &Wanted,
    layouts: &[Layout<'_>],
    views: &Name,
) -> Vec<Follow> {
    let follows = Follows { now, wanted, layouts, views };
    let mut all = Vec::new();
    for layout in layouts {
        all.extend(follows.ups(layout));
        all.extend(follows.downs(layout));
    }
    for (name, table) in &wanted.tables {
        for copied in &table.copies {
            all.extend(follows.copied(name, &table.table, copied));
        }
    }
    all.into_iter().enumerate().map(|(at, work)| follows.made(at, &work)).collect()
}

/// Adds the tables that get triggers to those that nobody may use meanwhile.
pub(super) fn lock(follows: &[Follow], locks: &mut Vec<String>) {
    for it in follows.iter().filter(|it| !it.on_new) {
        if !locks.contains(&it.on) {
            locks.push(it.on.clone());
        }
    }
}

/// The new columns and the columns that go whose values are looked up in another table, and do not
/// follow it, as it is not said by which columns.
pub(super) fn astray<'a>(layout: &'a Layout<'_>) -> impl Iterator<Item = (&'a Name, &'a Name)> {
    let ups = layout.fresh.iter().filter_map(|it| Some((&it.name, it.up.as_ref()?)));
    let all = ups.chain(layout.downs());
    all.flat_map(|(name, value)| {
        let lost = value.lookups().iter().filter(|it| it.by.is_none());
        lost.map(move |it| (name, &it.table))
    })
}

/// Columns that follow another table, and that by a column which no index begins with; with both.
pub(super) fn scanned<'a>(
    layout: &'a Layout<'_>,
) -> impl Iterator<Item = (&'a Name, &'a Name, Name)> {
    let ups = layout.fresh.iter().filter_map(|it| Some((&it.name, it.up.as_ref()?, false)));
    let downs = layout.downs().map(|(name, down)| (name, down, true));
    ups.chain(downs).flat_map(move |(name, value, is_new)| {
        value.lookups().iter().filter_map(move |it| {
            let (_, own) = it.by.as_ref()?;
            // Until contract a column of the new shape lies under its old name.
            let own = if is_new { layout.physical(own) } else { own.clone() };
            (!layout.old.is_indexed_by(std::slice::from_ref(&own)))
                .then_some((name, &it.table, own))
        })
    })
}

struct Follows<'a> {
    now: &'a Shape,
    wanted: &'a Wanted,
    layouts: &'a [Layout<'a>],
    views: &'a Name,
}

impl<'a> Follows<'a> {
    /// New columns that are looked up in an old table.
    fn ups(&self, layout: &'a Layout<'a>) -> Vec<Work<'a>> {
        let mut all = Vec::new();
        for it in &layout.fresh {
            let Some(up) = &it.up else { continue };
            for lookup in up.lookups() {
                let Some((there, own)) = &lookup.by else { continue };
                let Some(other) = self.now.tables.get(&lookup.table) else { continue };
                if other.column(there).is_none() {
                    continue;
                }
                let value = up.with(|name| format!("{}.{name}", layout.old.name));
                let known = if it.column.not_null { Some(&value) } else { None };
                let set = |row: &str| {
                    update(layout, &it.physical, &value, own, &format!("{row}.{there}"), known)
                };
                all.push(Work {
                    about: [layout.old.name.as_str(), it.name.as_str()],
                    on: format!("{}.{}", self.now.schema, other.name),
                    on_new: false,
                    differs: read(other, lookup, |it| it.clone()),
                    old: set("OLD"),
                    new: if_moved(there, &set("NEW")),
                    by_new: false,
                    path: vec![&self.now.schema],
                    before_delete: false,
                });
            }
        }
        all
    }

    /// Columns that go, and are looked up in a table of the new shape.
    fn downs(&self, layout: &'a Layout<'a>) -> Vec<Work<'a>> {
        let mut all = Vec::new();
        for (old, down) in layout.downs() {
            for lookup in down.lookups() {
                let Some((there, own)) = &lookup.by else { continue };
                let Some(other) = self.wanted.tables.get(&lookup.table) else { continue };
                if other.table.column(there).is_none() {
                    continue;
                }
                let lying = self.layouts.iter().find(|it| it.new.table.name == lookup.table);
                let physical =
                    |name: &Name| lying.map_or_else(|| name.clone(), |it| it.physical(name));
                let value = down.with(|it| format!("{}.{}", layout.old.name, layout.physical(it)));
                let strict = layout.old.column(old).is_some_and(|it| it.not_null);
                let known = if strict { Some(&value) } else { None };
                let own = layout.physical(own);
                let set = |row: &str| {
                    let key = format!("{row}.{}", physical(there));
                    update(layout, old, &value, &own, &key, known)
                };
                let was = other.was.as_ref().unwrap_or(&other.table.name);
                all.push(Work {
                    about: [layout.old.name.as_str(), old.as_str()],
                    on: format!("{}.{was}", self.now.schema),
                    on_new: other.is_new(),
                    differs: read(&other.table, lookup, physical),
                    old: set("OLD"),
                    new: if_moved(&physical(there), &set("NEW")),
                    by_new: true,
                    path: vec![self.views, &self.now.schema],
                    before_delete: false,
                });
            }
        }
        all
    }

    /// Rows of a new table that are made from those of an old one.
    fn copied(&self, name: &'a Name, table: &'a Table, copied: &'a Copied) -> Option<Work<'a>> {
        let from = self.now.tables.get(&copied.from)?;
        let key = copied.key(table)?;
        let into = format!("{}.{name}", self.now.schema);
        let same: Vec<String> = key.iter().map(|(new, old)| format!("{new} = OLD.{old}")).collect();
        let gone = format!("DELETE FROM {into} WHERE {};", same.join(" AND "));
        let of = |it: &Expression| it.with(|name| format!("NEW.{name}"));
        let values: Vec<String> = copied.columns.iter().map(|(_, it)| of(it)).collect();
        let names: Vec<&Name> = copied.columns.iter().map(|(it, _)| it).collect();
        let keys: Vec<&Name> = key.iter().map(|(it, _)| *it).collect();
        let rest = names.iter().filter(|it| !keys.contains(it));
        let set: Vec<String> = rest.map(|it| format!("{it} = excluded.{it}")).collect();
        let set = match set.as_slice() {
            [] => "NOTHING".to_owned(),
            set => format!("UPDATE SET {}", set.join(", ")),
        };
        let put = format!(
            "INSERT INTO {into} ({}) VALUES ({}) ON CONFLICT ({}) DO {set};",
            list(names),
            values.join(", "),
            list(keys.iter().copied())
        );
        let moved: Vec<String> =
            key.iter().map(|(_, old)| format!("NEW.{old} IS DISTINCT FROM OLD.{old}")).collect();
        let (put, leaves) = match &copied.when {
            Some(when) => {
                let when = of(when);
                (format!("IF {when} THEN {put} END IF;"), format!("({when}) IS NOT TRUE"))
            }
            None => (put, "false".to_owned()),
        };
        let used: BTreeSet<&Name> = copied
            .columns
            .iter()
            .map(|(_, it)| it)
            .chain(&copied.when)
            .flat_map(|it| it.columns())
            .collect();
        let used = used.into_iter().filter_map(|it| from.column(it));
        Some(Work {
            about: [copied.from.as_str(), name.as_str()],
            on: format!("{}.{}", self.now.schema, from.name),
            on_new: false,
            differs: used.map(|it| differs(&it.name, it)).collect(),
            old: format!(
                "IF TG_OP = 'DELETE' THEN {gone} ELSIF {} OR {leaves} THEN {gone} END IF;",
                moved.join(" OR ")
            ),
            new: put,
            by_new: false,
            path: vec![&self.now.schema],
            before_delete: true,
        })
    }

    fn made(&self, at: usize, work: &Work<'_>) -> Follow {
        let revision = self.views.as_str();
        let [table, column] = work.about;
        let number = at.to_string();
        let function = Name::made(&["follow", revision, table, column, &number]);
        let function = format!("{}.{function}()", Name::new(OWN));
        let body = format!(
            "\nBEGIN\n  IF TG_OP <> 'INSERT' THEN {old} END IF;\n  \
             IF TG_OP <> 'DELETE' THEN {new} END IF;\n  \
             IF TG_WHEN = 'BEFORE' THEN RETURN OLD; END IF;\n  RETURN NULL;\nEND\n",
            old = work.old,
            new = work.new,
        );
        let new = by_new(self.views);
        let who = if work.by_new { new } else { format!("NOT {new}") };
        let on = &work.on;
        let trigger = |word: &str| Name::made(&["~evenkeel", revision, "follow", &number, word]);
        let make = |word: &str, when: &str, also: &str| {
            format!(
                "CREATE TRIGGER {} {when} ON {on} FOR EACH ROW WHEN ({who}{also}) \
                 EXECUTE FUNCTION {function}",
                trigger(word)
            )
        };
        let moved = match work.differs.as_slice() {
            [] => String::new(),
            all => format!(" AND ({})", all.join(" OR ")),
        };
        let delete = if work.before_delete { "BEFORE DELETE" } else { "AFTER DELETE" };
        Follow {
            on: on.clone(),
            on_new: work.on_new,
            triggers: vec![
                make("insert", "AFTER INSERT", ""),
                make("update", "AFTER UPDATE", &moved),
                make("delete", delete, ""),
            ],
            remove: ["insert", "update", "delete"]
                .iter()
                .map(|word| format!("DROP TRIGGER IF EXISTS {} ON {on}", trigger(word)))
                .chain([format!("DROP FUNCTION IF EXISTS {function}")])
                .collect(),
            // Whoever writes one of the tables need not be allowed to write the other.
            function: format!(
                "CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = {}, pg_temp AS {}",
                list(work.path.iter().copied()),
                literal(&body)
            ),
        }
    }
}

/// What is done for a row that was done for as it was already, unless its key was another.
fn if_moved(key: &Name, work: &str) -> String {
    format!("IF TG_OP = 'INSERT' OR NEW.{key} IS DISTINCT FROM OLD.{key} THEN {work} END IF;")
}

/// Gives the rows of a table that point at a key a new value.
fn update(
    layout: &Layout<'_>,
    column: &Name,
    value: &str,
    own: &Name,
    key: &str,
    known: Option<&String>,
) -> String {
    let name = &layout.old.name;
    let known = known.map(|it| format!(" AND ({it}) IS NOT NULL")).unwrap_or_default();
    format!(
        "UPDATE {} SET {column} = ({value}) WHERE {name}.{own} = {key} \
         AND {name}.{column} IS DISTINCT FROM ({value}){known};",
        layout.table()
    )
}

/// Whether what a lookup reads of a table has changed.
fn read(table: &Table, lookup: &Lookup, physical: impl Fn(&Name) -> Name) -> Vec<String> {
    let columns = table.columns.iter().filter(|it| lookup.columns.contains(&it.name));
    columns.map(|it| differs(&physical(&it.name), it)).collect()
}
