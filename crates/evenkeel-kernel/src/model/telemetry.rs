//! What the edge lets be seen of the requests that it carries.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::service::{Weight, is_default};

/// What is shown, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Where metrics can be read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: Option<SocketAddr>,
    /// A line for requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub access_log: Option<AccessLog>,
    /// Spans of requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traces: Option<Traces>,
}

/// A line of JSON for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// The file, by absolute path; `None` is one below the home folder.
    pub file: Option<String>,
    /// Of how many. Those that failed are always told.
    pub sample: Weight,
    /// With the query of the target, which may be anybody's secret.
    pub query: bool,
    /// A file that is longer is put aside, in bytes.
    pub rotate: u64,
    /// Files that are put aside.
    pub keep: u32,
}

impl AccessLog {
    /// The preset of `rotate`.
    pub const ROTATE: u64 = 100 << 20;
    /// The preset of `keep`.
    pub const KEEP: u32 = 5;
}

/// Spans that are sent to a collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traces {
    /// Where the collector listens for OTLP over HTTP: `http://127.0.0.1:4318`.
    pub to: String,
    /// Of how many requests that come without a trace. One that comes with a trace says itself
    /// whether it is followed.
    pub sample: Weight,
}

impl Traces {
    /// The preset of `sample`: one in a hundred.
    pub const SAMPLE: Weight = Weight(100);
}
