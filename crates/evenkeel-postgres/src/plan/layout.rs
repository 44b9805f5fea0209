//! How one table lies in the database while both shapes are in use.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::problem::Place;
use crate::shape::{Column, Expression, Made, Shape, Table};
use crate::wanted::{Gone, Source, WantedTable};

/// A table between its two shapes. It has its old name, and its columns have their old names; what
/// is new stands beside them.
pub(super) struct Layout<'a> {
    pub(super) revision: u32,
    pub(super) schema: &'a Name,
    pub(super) old: &'a Table,
    pub(super) new: &'a WantedTable,
    /// The columns that are new.
    pub(super) fresh: Vec<Fresh>,
    /// Whether triggers of the user's may change rows that are filled.
    pub(super) touched: bool,
}

/// A new column.
pub(super) struct Fresh {
    /// Its name in the new shape.
    pub(super) name: Name,
    /// Its name until contract.
    pub(super) physical: Name,
    /// As it is wanted.
    pub(super) column: Column,
    /// What it is filled with for rows that the old shape writes, over old names.
    pub(super) up: Option<Expression>,
    /// A column that says of a NULL that it was written, where it could not be told from one that is
    /// not filled yet.
    pub(super) marker: Option<Name>,
    /// The sequence that is made for it, if it is numbered anew.
    pub(super) made: Option<String>,
    /// What rows have that know nothing of it: its default, or one that it had for a moment.
    pub(super) first: Option<Expression>,
    /// Where it was asked for.
    pub(super) at: Place,
}

impl<'a> Layout<'a> {
    pub(super) fn of(now: &'a Shape, old: &'a Table, new: &'a WantedTable, revision: u32) -> Self {
        let mut layout =
            Self { revision, schema: &now.schema, old, new, fresh: Vec::new(), touched: false };
        for column in &new.table.columns {
            let Some(Source::New { up, at }) = new.columns.get(&column.name) else { continue };
            // Under the views of the new revision a table may lack what it is looked up by.
            let has = |it: &Name| now.tables.contains_key(it) || now.views.contains_key(it);
            let up = up.as_ref().map(|it| it.reading(&now.schema, has));
            let taken = old.column(&column.name).is_some();
            let physical =
                if taken { layout.own(&[column.name.as_str()]) } else { column.name.clone() };
            layout.fresh.push(Fresh {
                name: column.name.clone(),
                physical,
                column: column.clone(),
                up,
                marker: None,
                made: None,
                first: new.passing.get(&column.name).or(column.default.as_ref()).cloned(),
                at: at.clone(),
            });
        }
        for at in 0..layout.fresh.len() {
            let it = &layout.fresh[at];
            // Its default is what it is filled with, if the server could not fill it by itself.
            let up = match (&it.up, &it.first) {
                (Some(up), _) => Some(up.clone()),
                (None, Some(default))
                    if layout.is_written_back(&it.name) || is_volatile(now, default) =>
                {
                    Some(default.clone())
                }
                (None, _) => layout.new_sequence(it).map(|it| Expression::plain(next_value(&it))),
            };
            let made = layout.new_sequence(it);
            let it = &layout.fresh[at];
            let ambiguous =
                up.is_some() && !it.column.not_null && !layout.is_faithful(it, up.as_ref());
            let marker = ambiguous.then(|| layout.own(&["set", it.name.as_str()]));
            layout.fresh[at].made = made;
            layout.fresh[at].up = up;
            layout.fresh[at].marker = marker;
        }
        layout
    }

    /// The sequence that a new column needs which is numbered and takes no other's place.
    fn new_sequence(&self, it: &Fresh) -> Option<String> {
        let numbered = match it.column.made {
            Made::Serial | Made::IdentityAlways | Made::IdentityByDefault => true,
            Made::Written | Made::Computed => false,
        };
        // A column that takes another's place takes its sequence too.
        (numbered && it.up.is_none() && it.column.sequence.is_none()).then(|| {
            let table = self.new.table.name.as_str();
            let name = Name::made(&[table, it.name.as_str(), "seq"]);
            format!("{}.{name}", self.schema)
        })
    }

    /// A name that nobody else has.
    pub(super) fn own(&self, parts: &[&str]) -> Name {
        let head = format!("_ek{}", self.revision);
        let mut all = vec![head.as_str()];
        all.extend(parts);
        Name::made(&all)
    }

    /// The table, as SQL names it.
    pub(super) fn table(&self) -> String {
        format!("{}.{}", self.schema, self.old.name)
    }

    /// What a column of the new shape is called until contract.
    pub(super) fn physical(&self, new: &Name) -> Name {
        match self.new.columns.get(new) {
            Some(Source::Kept { old }) => old.clone(),
            Some(Source::New { .. }) | None => self
                .fresh
                .iter()
                .find(|it| it.name == *new)
                .map_or_else(|| new.clone(), |it| it.physical.clone()),
        }
    }

    /// Whether a column of the new shape is new.
    pub(super) fn is_fresh(&self, new: &Name) -> bool {
        self.fresh.iter().any(|it| it.name == *new)
    }

    /// Whether a column that goes is filled from this new one.
    pub(super) fn is_written_back(&self, new: &Name) -> bool {
        self.downs().any(|(_, down)| down.columns().any(|it| it == new))
    }

    /// The columns that go, with what keeps them filled.
    pub(super) fn downs(&self) -> impl Iterator<Item = (&Name, &Expression)> {
        self.new.gone.iter().filter_map(|(old, Gone { down, .. })| Some((old, down.as_ref()?)))
    }

    /// Whether NULL in the new column is NULL in the old one, and the other way round: then a NULL
    /// needs no mark to be told from a value that is not there yet.
    fn is_faithful(&self, it: &Fresh, up: Option<&Expression>) -> bool {
        let Some(up) = up else { return true };
        let sources: BTreeSet<&Name> = up.columns().collect();
        let back: Vec<_> =
            self.downs().filter(|(_, down)| down.columns().any(|name| *name == it.name)).collect();
        match (sources.iter().next(), back.as_slice()) {
            (Some(source), [(old, down)]) => {
                sources.len() == 1
                    && source == old
                    && up.is_strict()
                    && down.is_strict()
                    && self.old.column(old).is_some_and(|it| !it.not_null)
            }
            _ => false,
        }
    }

    /// New columns and columns that go, as far as they depend on one another.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for it in &self.fresh {
            if it.up.is_some() || self.is_written_back(&it.name) {
                groups.push(Group { fresh: vec![it], back: Vec::new() });
            }
        }
        for (old, down) in self.downs() {
            let touches = |group: &Group<'_>| {
                group.fresh.iter().any(|it| {
                    down.columns().any(|name| *name == it.name)
                        || it.up.as_ref().is_some_and(|up| up.columns().any(|name| name == old))
                })
            };
            let (mut joined, mut rest) = (Group::default(), Vec::new());
            for group in groups {
                if touches(&group) {
                    joined.fresh.extend(group.fresh);
                    joined.back.extend(group.back);
                } else {
                    rest.push(group);
                }
            }
            joined.back.push((old, down));
            rest.push(joined);
            groups = rest;
        }
        groups
    }

    /// New columns that keep no other in step, and that the server fills by itself.
    pub(super) fn plain(&self) -> impl Iterator<Item = &Fresh> {
        self.fresh.iter().filter(|it| it.up.is_none() && !self.is_written_back(&it.name))
    }

    /// Whether a new column goes on with the numbers of the one whose place it takes, which the
    /// server gives out.
    pub(super) fn goes_on(&self, it: &Fresh) -> bool {
        let identity = matches!(it.column.made, Made::IdentityAlways | Made::IdentityByDefault);
        identity && it.column.sequence.is_some() && it.made.is_none()
    }

    /// Whether the table or a column has another name in the new shape.
    pub(super) fn is_renamed(&self) -> bool {
        self.old.name != self.new.table.name
            || self.new.twins.iter().any(|(old, new)| old != new)
            || self.new.columns.iter().any(|(new, source)| match source {
                Source::Kept { old } => old != new,
                Source::New { .. } => false,
            })
            // A column that goes beside one that is replaced is not in the new view.
            || self.new.gone.len() != self.new.twins.len()
    }

    /// Whether expand changes the table at all.
    pub(super) fn is_changed(&self) -> bool {
        !self.fresh.is_empty() || self.is_synced()
    }

    /// Whether triggers are needed.
    pub(super) fn is_synced(&self) -> bool {
        !self.groups().is_empty()
    }

    /// The names that columns have in the new shape, by what they are called until contract, where
    /// the two differ.
    pub(super) fn renames(&self) -> BTreeMap<Name, Name> {
        self.new
            .table
            .columns
            .iter()
            .map(|it| (self.physical(&it.name), it.name.clone()))
            .filter(|(physical, name)| physical != name)
            .collect()
    }
}

/// Columns of both shapes that depend on one another.
#[derive(Default)]
pub(super) struct Group<'a> {
    pub(super) fresh: Vec<&'a Fresh>,
    pub(super) back: Vec<(&'a Name, &'a Expression)>,
}

/// Whether an expression gives another value each time.
pub(super) fn is_volatile(now: &Shape, expression: &Expression) -> bool {
    const KNOWN: &[&str] = &[
        "random",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v4",
        "clock_timestamp",
        "timeofday",
        "nextval",
        "setval",
        "currval",
        "lastval",
    ];
    expression.calls().any(|it| KNOWN.contains(&it.as_str()) || now.volatile.contains(it))
}

/// The next number of a sequence.
pub(super) fn next_value(sequence: &str) -> String {
    format!("nextval({}::regclass)", crate::name::literal(sequence))
}
