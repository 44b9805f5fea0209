//! A piece of SQL in which it is known where columns are named, so that they can be given other
//! names without anything else being touched.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// SQL with the columns that it names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expression {
    text: String,
    /// Where columns are named; rising, never overlapping.
    columns: Vec<(Range<usize>, Name)>,
    /// The functions that it calls.
    calls: Vec<Name>,
    /// Whether it is a cast of a column, a column or a constant, and so NULL for NULL.
    strict: bool,
}

impl Expression {
    /// SQL that was read. `columns` says where which column is named, in bytes of `text`.
    pub(crate) fn read(
        text: String,
        mut columns: Vec<(Range<usize>, Name)>,
        calls: Vec<Name>,
        strict: bool,
    ) -> Self {
        columns.sort_by_key(|(range, _)| range.start);
        Self { text, columns, calls, strict }
    }

    /// SQL that names no columns.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), columns: Vec::new(), calls: Vec::new(), strict: false }
    }

    /// A column, cast to a type or as it is.
    pub fn cast(column: &Name, kind: Option<&str>) -> Self {
        let name = column.to_string();
        let columns = vec![(0..name.len(), column.clone())];
        let text = match kind {
            Some(kind) => format!("{name}::{kind}"),
            None => name,
        };
        Self { text, columns, calls: Vec::new(), strict: true }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns that it names, as often as it does.
    pub fn columns(&self) -> impl Iterator<Item = &Name> {
        self.columns.iter().map(|(_, name)| name)
    }

    /// The functions that it calls.
    pub fn calls(&self) -> impl Iterator<Item = &Name> {
        self.calls.iter()
    }

    /// Whether it is known to be NULL where a column that it names is.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The same with other words for the columns. `word` gives SQL, quoted where needed.
    pub fn with(&self, word: impl Fn(&Name) -> String) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for (range, name) in &self.columns {
            out.push_str(&self.text[at..range.start]);
            out.push_str(&word(name));
            at = range.end;
        }
        out.push_str(&self.text[at..]);
        out
    }

    /// The same with other names of columns, still knowing where they are.
    #[must_use]
    pub fn renamed(&self, other: impl Fn(&Name) -> Name) -> Self {
        let mut text = String::with_capacity(self.text.len());
        let mut columns = Vec::with_capacity(self.columns.len());
        let mut at = 0;
        for (range, name) in &self.columns {
            text.push_str(&self.text[at..range.start]);
            let name = other(name);
            let start = text.len();
            text.push_str(&name.to_string());
            columns.push((start..text.len(), name));
            at = range.end;
        }
        text.push_str(&self.text[at..]);
        Self { text, columns, calls: self.calls.clone(), strict: self.strict }
    }
}

/// Two are the same if they say the same; how that is known does not matter.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}
