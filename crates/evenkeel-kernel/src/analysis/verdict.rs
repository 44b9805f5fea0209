//! Verdicts: what one look at a new revision comes to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What one look at a new revision comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as good as it must be.
    Pass,
    /// It is not.
    Fail,
    /// What was measured does not say: too little, or nothing.
    Inconclusive,
    /// It could not be measured.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        })
    }
}
