//! What the edge lets be seen of the requests that it carries.

use super::check::Fields;
use super::path;
use super::problem::{Mistake, Mistakes};
use super::quantity::size_text;
use super::schema::{Key, Kind, Table};
use crate::model::{AccessLog, Telemetry, Traces, Weight};

/// Files of an access log that can be put aside.
const KEEP_MAX: u64 = 1_000;

pub(super) const METRICS: Key = Key::new(
    "metrics",
    Kind::Address,
    "\"127.0.0.1:9090\"",
    "Where Prometheus reads metrics, at `/metrics`; also while control is down.",
)
.elsewhere(&["prometheus", "stats", "metrics_addr"]);

pub(super) const ACCESS_LOG: Key = Key::new(
    "access_log",
    Kind::FlagOr(&ACCESS_LOG_TABLE),
    "true",
    "A line of JSON for each request, or for some of them.",
)
.elsewhere(&["log", "accesslog", "access_logs"]);

pub(super) const TRACES: Key = Key::new(
    "traces",
    Kind::Table(&TRACES_TABLE),
    "\"http://127.0.0.1:4318\"",
    "Where spans of requests are sent.",
)
.elsewhere(&["tracing", "otlp", "opentelemetry"]);

/// `[edge.access_log]`
static ACCESS_LOG_TABLE: Table = Table {
    id: "access_log",
    header: "[edge.access_log]",
    doc: "A line of JSON for each request: when, what was asked, by which route, revision and \
          instance it was answered, how, and how long that took. Never a header, a cookie or a \
          body. `access_log = true` is all of it as preset.",
    short: None,
    keys: &[
        Key::new("file", Kind::Text, "\"/var/log/shop/access.log\"", "The file.")
            .otherwise("one below the home folder: `logs/access.log`")
            .elsewhere(&["path", "to", "output", "filename"]),
        Key::new(
            "sample",
            Kind::Part,
            "\"1%\"",
            "Of how many requests. One that failed (5xx, or no answer) is always told.",
        )
        .preset(|| "\"100%\"".to_owned())
        .elsewhere(&["rate", "sampling", "sample_rate"]),
        Key::new(
            "query",
            Kind::Flag,
            "true",
            "With the query of the target. It may hold secrets, so it is left out.",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["query_string", "with_query"]),
        Key::new(
            "rotate",
            Kind::Size { min: 1 << 16 },
            "\"1GiB\"",
            "A file that is longer is put aside as `access.log.1`, and what was so as `.2`.",
        )
        .preset(|| format!("\"{}\"", size_text(AccessLog::ROTATE)))
        .elsewhere(&["max_size", "rotate_size", "size"]),
        Key::new(
            "keep",
            Kind::Count { min: 1, max: KEEP_MAX },
            "10",
            "How many files are put aside before the oldest goes.",
        )
        .preset(|| AccessLog::KEEP.to_string())
        .elsewhere(&["max_files", "backups", "rotate_keep"]),
    ],
};

/// `[edge.traces]`
static TRACES_TABLE: Table = Table {
    id: "traces",
    header: "[edge.traces]",
    doc: "Where spans of requests are sent, as OTLP over HTTP (JSON). With it, a request that comes \
          without `traceparent` gets one, and the instance sees the edge's span as its parent. \
          Without it, `traceparent` and `tracestate` pass as they are. `traces = \"URL\"` is short \
          for `traces = { to = \"URL\" }`.",
    short: Some("to"),
    keys: &[
        Key::new(
            "to",
            Kind::Text,
            "\"http://127.0.0.1:4318\"",
            "Where a collector listens. `/v1/traces` is added if there is no path.",
        )
        .required()
        .elsewhere(&["url", "endpoint", "collector"]),
        Key::new(
            "sample",
            Kind::Part,
            "\"10%\"",
            "Of how many requests that come without a trace. One that comes with a trace says itself \
             whether it is followed.",
        )
        .preset(|| format!("\"{}\"", Traces::SAMPLE))
        .elsewhere(&["rate", "sampling", "sample_rate", "ratio"]),
    ],
};

/// Reads it from `[edge]`.
pub(super) fn telemetry(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> Telemetry {
    let metrics = fields.field("metrics").and(fields.addresses("metrics"));
    let access_log = match fields.flag_or_table("access_log") {
        Some(Ok(true)) => Some(access_log(None, base)),
        Some(Err(table)) => Some(access_log(Some(table), base)),
        Some(Ok(false)) | None => None,
    };
    Telemetry {
        metrics: metrics.and_then(|all| all.first()).map(|(addr, _)| *addr),
        access_log,
        traces: fields.table("traces").and_then(|table| traces(table, mistakes)),
    }
}

fn access_log(fields: Option<&Fields>, base: &str) -> AccessLog {
    let file = fields.and_then(|it| it.text("file")).map(|file| path::resolve(base, file));
    AccessLog {
        file,
        sample: fields.and_then(|it| it.weight("sample")).copied().unwrap_or(Weight::ALL),
        query: fields.and_then(|it| it.flag("query")).copied().unwrap_or(false),
        rotate: fields.and_then(|it| it.long("rotate")).copied().unwrap_or(AccessLog::ROTATE),
        keep: fields.and_then(|it| it.count("keep")).unwrap_or(AccessLog::KEEP),
    }
}

fn traces(fields: &Fields, mistakes: &mut Mistakes) -> Option<Traces> {
    let to = fields.text("to")?;
    let rest = to.strip_prefix("http://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let said = !host.is_empty() && !host.contains('@') && !rest.contains(['?', '#', ' ']);
    if !said {
        let wrong = "it is not where a collector listens";
        let mistake = Mistake::at(&fields.place("to"), &fields.at("to"), wrong);
        mistakes.add(mistake.expected("a URL such as `http://127.0.0.1:4318`"));
        return None;
    }
    let sample = fields.weight("sample").copied().unwrap_or(Traces::SAMPLE);
    Some(Traces { to: to.clone(), sample })
}
