//! A check: a question to something beside the requests themselves, whose answer speaks for or
//! against a new revision.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::human;

use super::names::{CheckName, ReleaseId, ServiceName};

/// One question about a new revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked, and of whom.
    pub ask: Ask,
    /// In which part of a release.
    pub when: When,
    /// Time from one answer to the next question.
    pub every: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Failures in a row that take the release back, at least 1.
    pub failures: u32,
    /// Questions in a row without an answer that hold the release, at least 1.
    pub errors: u32,
    /// It is asked and told, and decides nothing.
    pub dry_run: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = match self.when {
            When::During => format!(", every {}", human(self.every)),
            When::Before | When::After => String::new(),
        };
        let dry = if self.dry_run { ", dry run" } else { "" };
        write!(f, "{}: {}{every}{dry}", self.when, self.ask)
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query { server, query, expect } => {
                write!(f, "{query} at {server} is {expect}")
            }
            Self::Compare { server, total, bad } => {
                write!(f, "{bad} of {total} at {server} is not worse than before")
            }
            Self::Http { url, json, expect } => {
                let part = json.as_ref().map_or_else(String::new, |json| format!("{json} of "));
                match *expect == Expect::default() {
                    true => write!(f, "{url} answers"),
                    false => write!(f, "{part}{url} is {expect}"),
                }
            }
            Self::Counters { path, total, bad } => {
                write!(f, "{bad} of {total} at {path} is not worse than before")
            }
            Self::Command { run, .. } => write!(f, "{} succeeds", run.join(" ")),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// A number that PromQL comes to.
    Query {
        /// The address of the Prometheus server.
        server: String,
        /// The expression; one sample is its value.
        query: String,
        /// What the number must be.
        expect: Expect,
    },
    /// What PromQL counted of both revisions, compared as requests are.
    Compare {
        /// The address of the Prometheus server.
        server: String,
        /// An expression that only rises: everything that was done.
        total: String,
        /// An expression that only rises: what of it went wrong.
        bad: String,
    },
    /// A page.
    Http {
        /// An address, or a path that each new instance is asked for.
        url: String,
        /// Where in its JSON the value is: a JSON Pointer (RFC 6901). Without one the status
        /// is what counts.
        json: Option<String>,
        /// What the value must be.
        expect: Expect,
    },
    /// What the instances of both revisions counted themselves, in the text format of
    /// Prometheus, compared as requests are.
    Counters {
        /// The path that each instance is asked for.
        path: String,
        /// The metric of everything that was done.
        total: String,
        /// The metric of what of it went wrong.
        bad: String,
    },
    /// A program that ends with exit status 0.
    Command {
        /// Program and arguments; never given to a shell.
        run: Vec<String>,
        /// The absolute path of its working folder.
        dir: String,
    },
}

impl Ask {
    /// Whether both revisions are compared, so that there is no answer with only one of them.
    #[must_use]
    pub fn compares(&self) -> bool {
        match self {
            Self::Compare { .. } | Self::Counters { .. } => true,
            Self::Query { .. } | Self::Http { .. } | Self::Command { .. } => false,
        }
    }
}

/// What a value must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// No less than this.
    pub min: Option<Number>,
    /// No more than this.
    pub max: Option<Number>,
    /// Exactly this text.
    pub equals: Option<String>,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min = self.min.map(|min| format!("at least {min}"));
        let max = self.max.map(|max| format!("at most {max}"));
        let equals = self.equals.as_ref().map(|text| format!("{text:?}"));
        let all: Vec<String> = [min, max, equals].into_iter().flatten().collect();
        f.write_str(&all.join(" and "))
    }
}

/// A number in millionths, so that it is written down and read back exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(pub i64);

impl Number {
    /// The number as it is measured against.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a bound of more than 2^52 millionths is rough")]
    pub fn value(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

/// The part of a release in which a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Once the new instances are ready, before they get any traffic; until it passes.
    Before,
    /// Again and again from the first traffic to the end of the release. No step is left before
    /// it has passed in it.
    During,
    /// After all traffic has moved, before what was replaced is stopped; until it passes.
    After,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// Who is asked about one service in one release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId {
    /// The release.
    pub release: ReleaseId,
    /// The service.
    pub service: ServiceName,
    /// What is asked there.
    pub about: About,
}

/// What is asked about a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The check of that name.
    Check(CheckName),
    /// Whether a step may be left.
    Gate {
        /// Which one, from 0.
        step: usize,
    },
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(name) => write!(f, "check {name}"),
            Self::Gate { step } => write!(f, "gate {}", step + 1),
        }
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.release, self.service, self.about)
    }
}
