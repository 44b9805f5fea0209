//! How requests spread: over instances, and over revisions.

use std::time::Duration;

use super::check::Fields;
use super::problem::{Mistake, Mistakes};
use super::route;
use super::schema::{Key, Kind, Table, span_text};
use crate::model::{Balance, Exposed, HashKey, Hold, Mirror, Scale, Sticky, Traffic, Weight};

const MINUTE: u64 = 60 * 1_000;
/// The most requests that one instance can have at a time, or that wait for one.
const REQUESTS_MAX: u64 = 100_000;

fn preset(span: Duration) -> String {
    format!("\"{}\"", span_text(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// `[service.NAME.traffic]`
pub(super) static TRAFFIC: Table = Table {
    id: "traffic",
    header: "[service.NAME.traffic]",
    doc: "How requests spread over the instances of the service. A change of it makes no new \
          revision.",
    short: Some("balance"),
    keys: &[
        Key::new(
            "balance",
            Kind::Choice(Balance::NAMES),
            "\"least-request\"",
            "Which instance is picked: `peak-ewma`, of a few drawn by chance the one with the least \
             latency times requests under way; `least-request`, of a few the one with the fewest; \
             `round-robin`, one after the other; `hash`, the same for the same `hash_by` as long as \
             it is well and has room.",
        )
        .preset(|| format!("\"{}\"", Balance::default().as_str()))
        .elsewhere(&["algorithm", "lb_policy", "policy", "load_balancing"]),
        Key::new(
            "hash_by",
            Kind::Text,
            "\"header:x-user\"",
            "What `hash` looks at: `client` (its address), `path`, `header:NAME` or `cookie:NAME`.",
        )
        .otherwise("`\"client\"`")
        .elsewhere(&["hash", "key", "hash_on"]),
        Key::new(
            "slow_start",
            Kind::Span { min: 0, max: 60 * MINUTE },
            "\"30s\"",
            "Time in which the share of a new instance grows from a tenth to the whole, while older \
             ones are there.",
        )
        .preset(|| preset(Traffic::default().slow_start))
        .elsewhere(&["warm_up", "warmup", "ramp"]),
        Key::new(
            "in_flight_max",
            Kind::Count { min: 1, max: REQUESTS_MAX },
            "100",
            "Requests that one instance answers at a time; more go to others, or wait.",
        )
        .preset(|| Traffic::default().in_flight_max.to_string())
        .elsewhere(&["max_requests", "max_connections", "concurrency", "maxconn", "max_conns"]),
        Key::new(
            "queue_max",
            Kind::Count { min: 0, max: REQUESTS_MAX },
            "100",
            "Requests that wait while no instance can be tried; more are answered with 503.",
        )
        .preset(|| Traffic::default().queue_max.to_string())
        .elsewhere(&["max_pending", "pending", "queue", "maxqueue"]),
        Key::new(
            "queue_wait",
            Kind::Span { min: 0, max: 10 * MINUTE },
            "\"10s\"",
            "How long each of them waits. A service whose instances are replaced stop-first, or \
             that is started only now, is waited for as long. With `scale.min = 0` the preset is \
             \"10s\".",
        )
        .preset(|| preset(Traffic::default().queue_wait))
        .elsewhere(&["hold", "pause_timeout", "queue_timeout"]),
        Key::new(
            "eject_max",
            Kind::Part,
            "\"10%\"",
            "The most instances of a revision that are left out for a while because their answers \
             fail far more often than those of the others; `0%` is none.",
        )
        .preset(|| format!("\"{}\"", Traffic::default().eject_max))
        .elsewhere(&["outlier", "outlier_detection", "max_ejection_percent"]),
    ],
};

/// `[service.NAME.rollout.testers]`
pub(super) static TESTERS: Table = Table {
    id: "testers",
    header: "[service.NAME.rollout.testers]",
    doc: "Requests that go to the new revision as soon as it is ready, whatever its weight: those \
          with all of these headers and cookies.",
    short: None,
    keys: &[
        Key::new(
            "headers",
            Kind::Headers,
            "{ X-Beta = \"1\" }",
            "Headers; `\"*\"` is any value, a `*` at its end any end.",
        )
        .elsewhere(&["header"]),
        Key::new("cookies", Kind::Headers, "{ team = \"red\" }", "Cookies, with values alike.")
            .elsewhere(&["cookie"]),
    ],
};

/// `[service.NAME.rollout.mirror]`
pub(super) static MIRROR: Table = Table {
    id: "mirror",
    header: "[service.NAME.rollout.mirror]",
    doc: "Copies of requests that the new revision gets as well, from when it is ready until all \
          traffic is its own. Nobody waits for them or sees their answers, they are marked by the \
          header `x-evenkeel-mirror`, and none is made where too many are under way.",
    short: Some("share"),
    keys: &[
        Key::new("share", Kind::Part, "\"10%\"", "How many of the requests are copied.")
            .required()
            .elsewhere(&["percent", "weight", "percentage"]),
        Key::new(
            "methods",
            Kind::Texts,
            "[\"GET\"]",
            "Only requests with these methods. What has an effect has it twice.",
        )
        .otherwise("`[\"GET\", \"HEAD\", \"OPTIONS\"]`")
        .elsewhere(&["method", "verbs"]),
    ],
};

/// Builds `[service.NAME.traffic]`.
pub(super) fn build(
    fields: Option<&Fields>,
    scale: Option<&Scale>,
    mistakes: &mut Mistakes,
) -> Traffic {
    let preset = match scale.is_some_and(Scale::sleeps) {
        // Whoever wakes it waits for a whole start.
        true => Traffic { queue_wait: Hold::EACH, ..Traffic::default() },
        false => Traffic::default(),
    };
    let Some(fields) = fields else { return preset };
    Traffic {
        balance: balance(fields, mistakes),
        slow_start: fields.span("slow_start").copied().unwrap_or(preset.slow_start),
        in_flight_max: fields.count("in_flight_max").unwrap_or(preset.in_flight_max),
        queue_max: fields.count("queue_max").unwrap_or(preset.queue_max),
        queue_wait: fields.span("queue_wait").copied().unwrap_or(preset.queue_wait),
        eject_max: fields.weight("eject_max").copied().unwrap_or(preset.eject_max),
    }
}

fn balance(fields: &Fields, mistakes: &mut Mistakes) -> Balance {
    let name = fields.text("balance").map_or("", String::as_str);
    let by = fields.text("hash_by").map(|text| HashKey::parse(text));
    match (name, by) {
        ("hash", None) => Balance::Hash(HashKey::Client),
        ("hash", Some(Some(key))) => Balance::Hash(key),
        (_, Some(None)) => {
            let wrong = "`hash_by` names nothing that a request has";
            let mistake = Mistake::at(&fields.place("hash_by"), &fields.at("hash_by"), wrong);
            mistakes.add(mistake.expected("`client`, `path`, `header:NAME` or `cookie:NAME`"));
            Balance::default()
        }
        (_, Some(Some(_))) => {
            let wrong = "`hash_by` is of no use without `balance = \"hash\"`";
            let mistake = Mistake::at(&fields.place("hash_by"), &fields.at("hash_by"), wrong);
            mistakes.add(mistake.expected("no `hash_by`, or another `balance`"));
            Balance::default()
        }
        ("least-request", None) => Balance::LeastRequest,
        ("round-robin", None) => Balance::RoundRobin,
        (_, None) => Balance::default(),
    }
}

/// Builds what of a rollout concerns single requests.
pub(super) fn exposed(fields: &Fields, exclusive: bool, mistakes: &mut Mistakes) -> Exposed {
    let sticky = fields.text("sticky").and_then(|text| {
        let sticky = Sticky::parse(text);
        if sticky.is_none() {
            let wrong = "`sticky` names nothing that a person's requests have in common";
            let mistake = Mistake::at(&fields.place("sticky"), &fields.at("sticky"), wrong);
            mistakes.add(mistake.expected("`cookie`, `client`, `header:NAME` or `cookie:NAME`"));
        }
        sticky
    });
    let testers = fields.table("testers").map(|table| {
        let matches = route::matches(table, mistakes);
        if matches.count() == 0 {
            let wrong = "`testers` without a condition are everybody";
            let mistake = Mistake::at(&fields.place("testers"), &fields.at("testers"), wrong);
            mistakes.add(mistake.expected("`headers` or `cookies`"));
        }
        matches
    });
    let mirror = fields.table("mirror").and_then(|table| {
        let share = *table.weight("share")?;
        let methods = route::matches(table, mistakes).methods;
        let methods = if methods.is_empty() { Mirror::safe_methods() } else { methods };
        Some(Mirror { share, methods })
    });
    for key in ["sticky", "testers", "mirror"] {
        if let Some(field) = fields.field(key).filter(|_| exclusive) {
            let wrong = "both revisions of an exclusive service never run at the same time";
            let mistake = Mistake::at(&field.span, &fields.at(key), wrong);
            mistakes.add(mistake.expected(format!("no `{key}`, or no `exclusive`")));
        }
    }
    let nobody = Weight(0);
    Exposed {
        sticky,
        testers: testers.filter(|it| it.count() > 0),
        mirror: mirror.filter(|it| it.share > nobody),
    }
}
