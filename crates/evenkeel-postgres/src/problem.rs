//! What is wrong with what people wrote, or cannot be told from it: always with its place, and with
//! what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place in a file of SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line, from one.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub at: Place,
    /// What it is: a fragment in lower case.
    pub what: String,
    /// What to do; where an answer is missing, the line to add.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(at: &Place, what: impl Into<String>) -> Self {
        Self { at: at.clone(), what: what.into(), hint: None }
    }

    /// The same problem, with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}
