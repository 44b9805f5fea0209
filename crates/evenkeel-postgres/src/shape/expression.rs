//! A piece of SQL in which it is known where columns are named, so that they can be given other
//! names without anything else being touched.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// A query within an expression that looks a value up in another table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The other table.
    pub table: Name,
    /// What it names of that, as far as they are columns.
    pub columns: BTreeSet<Name>,
    /// The column there that must be the same as the one here, if there are such.
    pub by: Option<(Name, Name)>,
}

/// SQL with the columns that it names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expression {
    text: String,
    /// Where columns and tables are named; rising, never overlapping.
    named: Vec<Named>,
    /// The functions that it calls.
    calls: Vec<Name>,
    /// Whether it is a cast of a column, a column or a constant, and so NULL for NULL.
    strict: bool,
    /// The queries within it that read other tables.
    lookups: Vec<Lookup>,
}

/// A place where something is named.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Where, in bytes of the text.
    pub(crate) at: Range<usize>,
    /// What it is called.
    pub(crate) name: Name,
    /// Whether it is a table that a query within reads; otherwise it is a column.
    pub(crate) is_table: bool,
}

impl Expression {
    /// SQL that was read.
    pub(crate) fn read(
        text: String,
        mut named: Vec<Named>,
        calls: Vec<Name>,
        strict: bool,
    ) -> Self {
        named.sort_by_key(|it| it.at.start);
        Self { text, named, calls, strict, lookups: Vec::new() }
    }

    /// The same, with the queries that are within it.
    pub(crate) fn looking_up(self, lookups: Vec<Lookup>) -> Self {
        Self { lookups, ..self }
    }

    /// SQL that names no columns.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::read(text.into(), Vec::new(), Vec::new(), false)
    }

    /// A column, cast to a type or as it is.
    pub fn cast(column: &Name, kind: Option<&str>) -> Self {
        let name = column.to_string();
        let named = vec![Named { at: 0..name.len(), name: column.clone(), is_table: false }];
        let text = match kind {
            Some(kind) => format!("{name}::{kind}"),
            None => name,
        };
        Self::read(text, named, Vec::new(), true)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns that it names, as often as it does.
    pub fn columns(&self) -> impl Iterator<Item = &Name> {
        self.named.iter().filter(|it| !it.is_table).map(|it| &it.name)
    }

    /// The functions that it calls.
    pub fn calls(&self) -> impl Iterator<Item = &Name> {
        self.calls.iter()
    }

    /// The queries within it that read other tables.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Whether it is known to be NULL where a column that it names is.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The same with other words for the columns. `word` gives SQL, quoted where needed.
    pub fn with(&self, word: impl Fn(&Name) -> String) -> String {
        self.replaced(|it| (!it.is_table).then(|| word(&it.name))).0
    }

    /// The same, with the tables that queries within it read looked for in one schema, as far as that
    /// has them, whoever runs it.
    #[must_use]
    pub fn reading(&self, schema: &Name, has: impl Fn(&Name) -> bool) -> Self {
        let table =
            |it: &Named| (it.is_table && has(&it.name)).then(|| format!("{schema}.{}", it.name));
        let (text, named) = self.replaced(table);
        Self { text, named, ..self.clone() }
    }

    /// The same with other names of columns, still knowing where they are.
    #[must_use]
    pub fn renamed(&self, other: impl Fn(&Name) -> Name) -> Self {
        let (text, mut named) =
            self.replaced(|it| (!it.is_table).then(|| other(&it.name).to_string()));
        for it in named.iter_mut().filter(|it| !it.is_table) {
            it.name = other(&it.name);
        }
        let mut lookups = self.lookups.clone();
        for (_, own) in lookups.iter_mut().filter_map(|it| it.by.as_mut()) {
            *own = other(own);
        }
        Self { text, named, calls: self.calls.clone(), strict: self.strict, lookups }
    }

    /// The text with other words where there are some, and where each name stands then.
    fn replaced(&self, word: impl Fn(&Named) -> Option<String>) -> (String, Vec<Named>) {
        let mut text = String::with_capacity(self.text.len());
        let mut named = Vec::with_capacity(self.named.len());
        let mut at = 0;
        for it in &self.named {
            text.push_str(&self.text[at..it.at.start]);
            let start = text.len();
            match word(it) {
                Some(word) => text.push_str(&word),
                None => text.push_str(&self.text[it.at.clone()]),
            }
            named.push(Named { at: start..text.len(), ..it.clone() });
            at = it.at.end;
        }
        text.push_str(&self.text[at..]);
        (text, named)
    }
}

/// Two are the same if they say the same; how that is known does not matter.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}
