//! Names of things in PostgreSQL, as the server holds them: folded, without quotes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The most bytes that the server keeps of a name (`NAMEDATALEN - 1`).
pub const LONGEST: usize = 63;

/// A name of a table, column, constraint or the like. Shown with quotes, so that it can be put into
/// SQL as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// A name that is held as `text`: `Name::new("Order")` is `"Order"` in SQL, not `order`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A name as it is written in SQL: folded, but between quotes.
    pub fn written(text: &str) -> Self {
        match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) => Self(inner.replace("\"\"", "\"")),
            None => Self(text.to_lowercase()),
        }
    }

    /// The name as people write it: with quotes only where SQL would fold it.
    pub fn plain(&self) -> String {
        let first = |it: char| it.is_ascii_lowercase() || it == '_';
        let other = |it: char| first(it) || it.is_ascii_digit();
        if self.0.starts_with(first) && self.0.chars().all(other) {
            self.0.clone()
        } else {
            self.to_string()
        }
    }

    /// The name without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made from parts, which the server will not cut: where it would be longer than
    /// [`LONGEST`], its end is a digest of the whole.
    pub fn made(parts: &[&str]) -> Self {
        let whole = parts.join("_");
        if whole.len() <= LONGEST {
            return Self(whole);
        }
        let digest = Sha256::digest(whole.as_bytes());
        let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut kept = LONGEST - digest.len() - 1;
        while !whole.is_char_boundary(kept) {
            kept -= 1;
        }
        Self(format!("{}_{digest}", &whole[..kept]))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Names as a list in SQL: `"a", "b"`.
pub fn list<'a>(names: impl IntoIterator<Item = &'a Name>) -> String {
    names.into_iter().map(Name::to_string).collect::<Vec<_>>().join(", ")
}

/// A text as a literal in SQL, safe whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_and_a_long_one_ends_in_a_digest_of_all_of_it() {
        assert_eq!(Name::new("or\"der").to_string(), "\"or\"\"der\"");
        let one = Name::made(&["sync", &"ä".repeat(40), "1"]);
        let two = Name::made(&["sync", &"ä".repeat(40), "2"]);
        assert!(one.as_str().len() <= LONGEST && two.as_str().len() <= LONGEST);
        assert_ne!(one, two);
        assert_eq!(Name::made(&["a", "b"]).as_str(), "a_b");
    }

    #[test]
    fn a_literal_keeps_what_it_holds() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }
}
