//! A job: what runs once per release, and ends.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::names::ServiceName;
use super::service::Workload;

/// One job of a stack. Its name is one that no service has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What runs, once ([`Workload::once`]).
    pub workload: Workload,
    /// Other jobs that must be done before it.
    pub follows: BTreeSet<ServiceName>,
    /// At which point of a release it runs.
    pub when: JobWhen,
    /// How long one attempt may take, from the decision to start it.
    pub timeout: Duration,
    /// How often it is tried again after an attempt that failed.
    pub retries: u32,
    /// It also runs in a release that leads back to earlier revisions.
    pub on_rollback: bool,
}

impl Job {
    /// How long one attempt may take when the file does not say.
    pub const TIMEOUT: Duration = Duration::from_secs(600);
}

/// At which point of a release a job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobWhen {
    /// Before any instance of a new revision starts. A program may refuse to start on data that
    /// are not migrated yet, and one that takes its work from a queue serves as soon as it starts.
    #[default]
    Before,
    /// After all traffic has moved, and before what was replaced is stopped.
    After,
}

impl fmt::Display for JobWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}
