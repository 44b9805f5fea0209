//! What can be asked of the rows that are there before anything is run: whether they fit the new
//! shape. Only questions are made here; nobody is asked.
//!
//! A new column is told by what it would be filled with, over the old ones. What gives another value
//! each time is not asked for, and neither are rules of tables into which the change itself writes
//! rows before they are held to them.

use super::derive::layouts;
use super::expand::names;
use super::layout::{Fresh, Layout, is_volatile};
use super::tighten::{Fate, fate, index_fate, not_nulls};
use crate::name::{Name, list};
use crate::problem::Place;
use crate::shape::{Constraint, Rule, Shape};
use crate::wanted::{Source, Wanted, When};

/// A question about the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The table, as people name it.
    pub table: Name,
    /// How many bytes it has, as far as is known.
    pub bytes: u64,
    /// Where what is asked about comes from, if it stands somewhere.
    pub at: Option<Place>,
    /// What is wrong with the rows that are found: `have NULL in "region"`.
    pub wrong: String,
    /// Gives a row for each that is found, with the key of it as text. Fails where a value cannot be
    /// had at all.
    pub query: String,
}

/// The questions that tell whether the rows that are there fit the new shape.
pub fn probes(now: &Shape, wanted: &Wanted, revision: u32) -> Vec<Probe> {
    let layouts = layouts(now, wanted, revision);
    let mut all = Vec::new();
    for layout in &layouts {
        let asking = Asking { now, layouts: &layouts, layout };
        all.extend(layout.fresh.iter().filter_map(|it| asking.value_of(it)));
        all.extend(layout.fresh.iter().filter_map(|it| asking.too_long(it)));
        let written = wanted
            .carried
            .iter()
            .any(|it| matches!(it.when, When::Data { .. }) && names(&it.sql, &layout.old.name));
        if !written {
            all.extend(asking.nulls());
            all.extend(layout.new.table.constraints.iter().filter_map(|it| asking.rule(it)));
            all.extend(asking.unique_indexes());
        }
    }
    all
}

/// What the questions about one table are made of.
struct Asking<'a> {
    now: &'a Shape,
    layouts: &'a [Layout<'a>],
    layout: &'a Layout<'a>,
}

impl Asking<'_> {
    fn probe(&self, at: Option<&Place>, wrong: String, query: String) -> Probe {
        let old = self.layout.old;
        Probe { table: old.name.clone(), bytes: old.size.bytes, at: at.cloned(), wrong, query }
    }

    /// The rows of which something is true.
    fn rows(&self, which: &str) -> String {
        let table = self.layout.table();
        format!("SELECT {} FROM {table} AS it WHERE {which}", self.key())
    }

    /// How a row is called: by its key, or by its place.
    fn key(&self) -> String {
        let key = self.layout.old.key();
        if key.is_empty() {
            return "'ctid ' || it.ctid".to_owned();
        }
        let parts = key.iter().map(|it| {
            let name = crate::name::literal(&format!("{} ", it.as_str()));
            format!("{name} || it.{it}")
        });
        parts.collect::<Vec<_>>().join(" || ', ' || ")
    }

    /// Whether what a new column is filled with can be had, and fits.
    fn value_of(&self, it: &Fresh) -> Option<Probe> {
        let value = value(self.now, self.layout, &it.name, "it")?;
        it.up.as_ref()?;
        let table = self.layout.table();
        // This finds nothing, or fails.
        let count = format!("SELECT count(({value})) FROM {table} AS it");
        let query = format!("SELECT '' FROM ({count}) AS counted (rows) WHERE rows < 0");
        Some(self.probe(Some(&it.at), format!("lack a value for {}", it.name), query))
    }

    /// Whether a text is too long for the type that takes the place of its own.
    fn too_long(&self, it: &Fresh) -> Option<Probe> {
        let kind = it.column.kind.as_str();
        let long = kind.strip_prefix("character varying(").or(kind.strip_prefix("character("))?;
        let long = long.strip_suffix(')')?;
        let (old, _) = self.layout.new.twins.iter().find(|(_, new)| **new == it.name)?;
        let was = self.layout.old.column(old)?.kind.as_str();
        (was == "text" || was.starts_with("character")).then(|| {
            let query = self.rows(&format!("length(it.{old}) > {long}"));
            let wrong = format!("have more than {long} characters in {old}");
            self.probe(Some(&it.at), wrong, query)
        })
    }

    /// Whether a column is NULL that must not be.
    fn nulls(&self) -> Vec<Probe> {
        let columns = not_nulls(self.layout);
        let new = self.layout.new.table.columns.iter().map(|it| &it.name);
        let new =
            new.filter(|it| columns.iter().any(|(found, _)| *found == self.layout.physical(it)));
        new.filter_map(|column| {
            let value = value(self.now, self.layout, column, "it")?;
            let at = self.layout.fresh.iter().find(|it| it.name == *column).map(|it| &it.at);
            let query = self.rows(&format!("({value}) IS NULL"));
            Some(self.probe(at, format!("have NULL in {column}"), query))
        })
        .collect()
    }

    /// Whether a rule that is new is broken.
    fn rule(&self, constraint: &Constraint) -> Option<Probe> {
        let Fate::Built { .. } = fate(self.layouts, self.layout, constraint) else { return None };
        let query = match &constraint.rule {
            Rule::Check { expression } => {
                let value = |it: &Name| value(self.now, self.layout, it, "it");
                if expression.columns().any(|it| value(it).is_none()) {
                    return None;
                }
                let expression =
                    expression.with(|it| format!("({})", value(it).unwrap_or_default()));
                self.rows(&format!("NOT ({expression})"))
            }
            Rule::Primary { columns } => self.twice(columns, false)?,
            Rule::Unique { columns, rest, .. } => {
                self.twice(columns, rest.to_lowercase().contains("nulls not distinct"))?
            }
            Rule::Foreign { columns, table, to, .. } => self.pointless(columns, table, to)?,
            Rule::Other { .. } => return None,
        };
        Some(self.probe(None, format!("break {}", constraint.name), query))
    }

    /// Whether indexes that are new find doubles, as far as they are of columns and of all rows.
    fn unique_indexes(&self) -> Vec<Probe> {
        let indexes = self.layout.new.table.indexes.iter().filter(|it| it.unique);
        let built =
            indexes.filter(|it| matches!(index_fate(self.layout, &it.name), Fate::Built { .. }));
        built
            .filter_map(|index| {
                let columns: Vec<Name> = index.rest.columns().cloned().collect();
                let rest = index.rest.with(Name::to_string);
                let rest = rest.trim().strip_prefix("USING btree ").unwrap_or(rest.trim());
                let plain = rest == format!("({})", list(&columns));
                let query = self.twice(&columns, false).filter(|_| plain)?;
                Some(self.probe(None, format!("break {}", index.name), query))
            })
            .collect()
    }

    /// Rows that are like another one in these columns; one of each that are alike.
    fn twice(&self, columns: &[Name], nulls: bool) -> Option<String> {
        let values: Option<Vec<String>> =
            columns.iter().map(|it| value(self.now, self.layout, it, "it")).collect();
        let values = values?;
        let known: Vec<String> = values.iter().map(|it| format!("({it}) IS NOT NULL")).collect();
        let which = if nulls { "true".to_owned() } else { known.join(" AND ") };
        let numbered = values.iter().enumerate();
        let values: Vec<String> = numbered.map(|(at, it)| format!("({it}) AS c{at}")).collect();
        let names: Vec<String> = (0..values.len()).map(|at| format!("c{at}")).collect();
        Some(format!(
            "SELECT min(key) FROM (SELECT {} AS key, {} FROM {} AS it WHERE {which}) AS alike \
             GROUP BY {} HAVING count(*) > 1",
            self.key(),
            values.join(", "),
            self.layout.table(),
            names.join(", ")
        ))
    }

    /// Rows that point at none.
    fn pointless(&self, columns: &[Name], table: &Name, to: &[Name]) -> Option<String> {
        let there = self.layouts.iter().find(|it| it.new.table.name == *table)?;
        let to = if to.is_empty() { there.new.table.key() } else { to };
        let here: Option<Vec<String>> =
            columns.iter().map(|it| value(self.now, self.layout, it, "it")).collect();
        let there_are: Option<Vec<String>> =
            to.iter().map(|it| value(self.now, there, it, "there")).collect();
        let (here, there_are) = (here?, there_are?);
        let known: Vec<String> = here.iter().map(|it| format!("({it}) IS NOT NULL")).collect();
        let same: Vec<String> = here
            .iter()
            .zip(&there_are)
            .map(|(here, there)| format!("({there}) = ({here})"))
            .collect();
        Some(self.rows(&format!(
            "{} AND NOT EXISTS (SELECT FROM {} AS there WHERE {})",
            known.join(" AND "),
            there.table(),
            same.join(" AND ")
        )))
    }
}

/// What a column of the new shape holds for a row that is there; nothing if that cannot be told.
fn value(now: &Shape, layout: &Layout<'_>, column: &Name, row: &str) -> Option<String> {
    match layout.new.columns.get(column)? {
        Source::Kept { old } => Some(format!("{row}.{old}")),
        Source::New { .. } => {
            let fresh = layout.fresh.iter().find(|it| it.name == *column)?;
            let filled = fresh.up.as_ref().or(fresh.first.as_ref());
            match filled {
                Some(filled) if is_volatile(now, filled) => None,
                Some(filled) => Some(filled.with(|it| format!("{row}.{it}"))),
                None => Some("NULL".to_owned()),
            }
        }
    }
}
