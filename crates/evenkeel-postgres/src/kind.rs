//! Types of columns, under the names that the server prints, and which of them may follow which
//! without anything being lost.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A type as `format_type` prints it: `integer`, `character varying(20)`, `text[]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(String);

/// Other names of types, and what the server prints for them.
const ALIASES: &[(&str, &str)] = &[
    ("int", "integer"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("int2", "smallint"),
    ("serial", "integer"),
    ("serial4", "integer"),
    ("bigserial", "bigint"),
    ("serial8", "bigint"),
    ("smallserial", "smallint"),
    ("serial2", "smallint"),
    ("bool", "boolean"),
    ("varchar", "character varying"),
    ("char varying", "character varying"),
    ("char", "character"),
    ("bpchar", "character"),
    ("decimal", "numeric"),
    ("dec", "numeric"),
    ("float", "double precision"),
    ("float8", "double precision"),
    ("float4", "real"),
    ("timestamptz", "timestamp with time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timetz", "time with time zone"),
    ("time", "time without time zone"),
    ("varbit", "bit varying"),
];

/// Whole numbers, from the narrowest.
const INTEGERS: &[&str] = &["smallint", "integer", "bigint"];

impl Kind {
    /// Reads a type as people write it: `VARCHAR(20)`, `int8[]`, `timestamptz(3)`.
    pub fn parse(text: &str) -> Self {
        let mut words = String::new();
        for (at, part) in text.split('"').enumerate() {
            // Between quotes nothing is folded: the name of a type of the user's.
            if at % 2 == 1 {
                words.push('"');
                words.push_str(part);
                words.push('"');
            } else {
                words.push_str(&part.to_lowercase());
            }
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = words
            .replace(" (", "(")
            .replace("( ", "(")
            .replace(" )", ")")
            .replace(", ", ",")
            .replace(" [", "[")
            .replace("[ ", "[");
        let words = words.strip_prefix("pg_catalog.").unwrap_or(&words);

        let (words, dimensions) = match words.find('[') {
            Some(at) => (&words[..at], words[at..].matches('[').count()),
            None => match words.strip_suffix(" array") {
                Some(element) => (element, 1),
                None => (words, 0),
            },
        };
        let (name, rest) = match (words.find('('), words.find(')')) {
            (Some(open), Some(close)) if open < close => {
                (format!("{}{}", &words[..open], &words[close + 1..]), &words[open..=close])
            }
            _ => (words.to_owned(), ""),
        };
        let full = ALIASES
            .iter()
            .find_map(|&(alias, full)| (alias == name).then_some(full))
            .unwrap_or(&name);
        // The server prints `timestamp(3) with time zone`, and the only dimension that it knows is
        // that there is one.
        let (head, tail) = match full.split_once(' ') {
            Some((head @ ("timestamp" | "time"), tail)) => (head, format!(" {tail}")),
            _ => (full, String::new()),
        };
        let rest = match (head, rest) {
            ("character" | "bit", "") => "(1)",
            ("double precision", _) => "",
            (_, rest) => rest,
        };
        let dimensions = if dimensions > 0 { "[]" } else { "" };
        Self(format!("{head}{rest}{tail}{dimensions}"))
    }

    /// A type under the name that the server printed.
    pub fn printed(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What a value is cast to before it is put into a column of this type: without the length, as a
    /// cast to one that is too short cuts the value, and the column refuses it.
    pub fn unbounded(&self) -> String {
        let dimensions = if self.0.ends_with("[]") { "[]" } else { "" };
        match self.0.split('(').next() {
            Some("character varying") => format!("character varying{dimensions}"),
            Some("character") => format!("bpchar{dimensions}"),
            _ => self.0.clone(),
        }
    }

    /// The name, fit to be put into SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every value of this type, as `to`, is the same value; so a cast there says what is
    /// meant. The way back may refuse values that only `to` has.
    pub fn widens_to(&self, to: &Self) -> bool {
        if self == to {
            return true;
        }
        let (head, size) = self.split();
        let (to_head, to_size) = to.split();
        let at = INTEGERS.iter().position(|it| *it == head);
        match (head, to_head) {
            _ if at.is_some() => {
                INTEGERS.iter().position(|it| *it == to_head) > at
                    || (to_head == "numeric" && to_size.is_empty())
                    || (to_head == "double precision" && head != "bigint")
            }
            ("character varying", "text") | ("real", "double precision") => true,
            ("character varying", "character varying") => wider(size, to_size),
            // Without a number, a varchar holds what a text holds.
            ("text", "character varying") => to_size.is_empty(),
            ("numeric", "numeric") => match (numbers(size), numbers(to_size)) {
                (_, None) => true,
                (Some((whole, scale)), Some((to_whole, to_scale))) => {
                    to_scale >= scale && to_whole - to_scale >= whole - scale
                }
                (None, Some(_)) => false,
            },
            ("json", "jsonb") | ("jsonb", "json") => true,
            ("date", "timestamp without time zone") => true,
            _ => false,
        }
    }

    /// Whether a foreign key of this type may point at a key of another, as far as it is known: there
    /// is an operator for both, or the server takes a value of this one for one of the other.
    pub fn may_point_at(&self, to: &Self) -> bool {
        let class = |it: &Self| match it.split().0 {
            "smallint" | "integer" | "bigint" => Some(("number", 0)),
            "numeric" => Some(("number", 1)),
            "real" | "double precision" => Some(("number", 2)),
            "text" | "character varying" | "character" => Some(("text", 0)),
            "uuid" => Some(("uuid", 0)),
            "boolean" => Some(("boolean", 0)),
            _ => None,
        };
        match (class(self), class(to)) {
            (Some((own, rank)), Some((other, over))) => own == other && rank <= over,
            (_, _) => true,
        }
    }

    /// Whether the type has an `=`, which most have.
    pub fn can_be_compared(&self) -> bool {
        !matches!(self.split().0, "json" | "xml" | "point" | "polygon" | "path" | "circle")
    }

    /// The name without the number in parentheses, and that number with them.
    fn split(&self) -> (&str, &str) {
        match (self.0.find('('), self.0.ends_with(')')) {
            (Some(at), true) => (&self.0[..at], &self.0[at..]),
            _ => (&self.0, ""),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `(20)` is no wider than `(30)`; none at all is the widest.
fn wider(size: &str, to: &str) -> bool {
    match (numbers(size), numbers(to)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some((size, _)), Some((to, _))) => to >= size,
    }
}

/// `(10,2)` as numbers; one alone has the scale nought.
fn numbers(size: &str) -> Option<(i32, i32)> {
    let inner = size.strip_prefix('(')?.strip_suffix(')')?;
    let (first, second) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_the_name_that_the_server_prints() {
        for (written, printed) in [
            ("INT", "integer"),
            ("int8", "bigint"),
            ("VARCHAR ( 20 )", "character varying(20)"),
            ("character varying(20)", "character varying(20)"),
            ("timestamptz", "timestamp with time zone"),
            ("timestamptz(3)", "timestamp(3) with time zone"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone"),
            ("TIMESTAMP", "timestamp without time zone"),
            ("numeric(10, 2)", "numeric(10,2)"),
            ("text [ ]", "text[]"),
            ("int[][]", "integer[]"),
            ("int array", "integer[]"),
            ("char", "character(1)"),
            ("double  precision", "double precision"),
            ("\"Mood\"", "\"Mood\""),
            ("pg_catalog.int4", "integer"),
        ] {
            assert_eq!(Kind::parse(written).as_str(), printed, "{written}");
        }
    }

    #[test]
    fn a_type_widens_to_one_that_holds_all_its_values() {
        for (from, to, holds) in [
            ("integer", "bigint", true),
            ("bigint", "integer", false),
            ("smallint", "numeric", true),
            ("bigint", "double precision", false),
            ("varchar(20)", "varchar(30)", true),
            ("varchar(30)", "varchar(20)", false),
            ("varchar(30)", "text", true),
            ("text", "varchar", true),
            ("text", "varchar(9)", false),
            ("numeric(8,2)", "numeric(10,2)", true),
            ("numeric(8,2)", "numeric(9,4)", false),
            ("timestamp", "timestamptz", false),
            ("text", "jsonb", false),
        ] {
            assert_eq!(Kind::parse(from).widens_to(&Kind::parse(to)), holds, "{from} to {to}");
        }
    }
}
