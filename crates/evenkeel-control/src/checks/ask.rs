//! One question to its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use evenkeel_kernel::analysis::{Batch, Tally};
use evenkeel_kernel::model::{About, Ask, Expect};
use evenkeel_kernel::time::human;
use evenkeel_kernel::want::{Check, Question, Side};
use evenkeel_kernel::world::{Measured, Reading};
use evenkeel_local::hook::{self, Hook, How};

use super::{Means, counters, gate, prometheus};
use crate::outbound::{self, Method, Request};

/// The exit status by which a command says that it could not tell: EX_TEMPFAIL of sysexits.h.
const COULD_NOT_TELL: i32 = 75;

/// Asks, and says what was found out. Blocks up to the question's timeout.
pub(super) fn ask(check: &Check, means: &Means, wanted: &dyn Fn() -> bool) -> Reading {
    match &check.ask {
        Question::Check(ask) => measure(check, ask, means, wanted),
        Question::Gate { webhook, .. } => gate::ask(check, webhook, &means.home),
    }
}

fn measure(check: &Check, ask: &Ask, means: &Means, wanted: &dyn Fn() -> bool) -> Reading {
    match ask {
        Ask::Query { server, query, .. } => {
            let query = filled(query, check, &check.canary);
            match prometheus::query(server, &query, check.timeout) {
                Ok(Some(value)) => Reading::Values(vec![(String::new(), Measured::Number(value))]),
                Ok(None) => Reading::Nothing(prometheus::NO_SAMPLE.to_owned()),
                Err(why) => Reading::Error(why),
            }
        }
        Ask::Compare { server, total, bad } => both(check, |side| {
            let ask = |query| {
                let query = filled(query, check, side);
                prometheus::query(server, &query, check.timeout)
            };
            Ok(match (ask(total)?, ask(bad)?) {
                (Some(total), bad) => Some((total, bad.unwrap_or(0.0))),
                (None, _) => None,
            })
        }),
        Ask::Counters { path, total, bad } => both(check, |side| {
            let pages = pages(check, side, path)?;
            let mut sum = (0.0, 0.0);
            for (_, page) in &pages {
                // A counter that has not counted yet is often not told at all.
                sum.0 += counters::sum(page, total).unwrap_or(0.0);
                sum.1 += counters::sum(page, bad).unwrap_or(0.0);
            }
            Ok(Some(sum))
        }),
        Ask::Http { url, json, expect } => {
            let reading = http(check, url, json.as_deref());
            // Where nothing is said of the answer, it is enough that there is one.
            let anything = json.is_none() && *expect == Expect::default();
            if anything && matches!(reading, Reading::Values(_)) { Reading::Done } else { reading }
        }
        Ask::Command { run, dir } => command(check, run, dir, means, wanted),
    }
}

/// Asks the same of both revisions.
fn both(check: &Check, count: impl Fn(&Side) -> Result<Option<(f64, f64)>, String>) -> Reading {
    let Some(stable) = &check.stable else {
        return Reading::Nothing("there is no revision to compare with".to_owned());
    };
    let tally = |side: &Side| {
        Ok::<_, String>(count(side)?.map(|(total, bad)| {
            let requests = whole(total);
            Tally { requests, bad: whole(bad).min(requests) }
        }))
    };
    match (tally(&check.canary), tally(stable)) {
        (Ok(canary), Ok(stable)) => Reading::Counts(Batch {
            canary: canary.unwrap_or_default(),
            stable: stable.unwrap_or_default(),
        }),
        (Err(why), _) | (_, Err(why)) => Reading::Error(why),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of things; a cast saturates, and makes nothing of what is no number"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

fn get(check: &Check, url: String) -> Result<outbound::Answer, String> {
    let (headers, body) = (Vec::new(), None);
    let request = Request { method: Method::Get, url, headers, body, timeout: check.timeout };
    outbound::send(&request).map_err(|failed| failed.to_string())
}

/// The pages that the instances of one side answer. One that does not answer is just being started
/// or stopped, as long as others do.
fn pages(check: &Check, side: &Side, path: &str) -> Result<Vec<(SocketAddr, Vec<u8>)>, String> {
    let mut pages = Vec::with_capacity(side.instances.len());
    let mut trouble = None;
    for addr in &side.instances {
        match get(check, format!("http://{addr}{path}")) {
            Ok(answer) if (200..300).contains(&answer.status) => pages.push((*addr, answer.body)),
            Ok(answer) => trouble = Some(format!("{addr} answered {}", answer.status)),
            Err(why) => trouble = Some(why),
        }
    }
    match trouble {
        Some(why) if pages.is_empty() => Err(why),
        None if pages.is_empty() => Err(format!("{} has no instances", side.revision)),
        Some(_) | None => Ok(pages),
    }
}

/// Asks one page, or the same page of every new instance.
fn http(check: &Check, url: &str, json: Option<&str>) -> Reading {
    let url = filled(url, check, &check.canary);
    let asked: Vec<(String, String)> = match url.starts_with('/') {
        true => {
            let instances = check.canary.instances.iter();
            instances.map(|addr| (addr.to_string(), format!("http://{addr}{url}"))).collect()
        }
        false => vec![(String::new(), url)],
    };
    let mut values = Vec::with_capacity(asked.len());
    let mut trouble = None;
    for (of, url) in asked {
        let answer = match get(check, url) {
            Ok(answer) => answer,
            Err(why) => {
                trouble = Some(why);
                continue;
            }
        };
        if !(200..300).contains(&answer.status) {
            let of = if of.is_empty() { "it" } else { &of };
            return Reading::Failed(format!("{of} answered {}", answer.status));
        }
        match value(&answer.body, json) {
            Ok(value) => values.push((of, value)),
            Err(why) => return Reading::Error(why),
        }
    }
    match trouble {
        Some(why) if values.is_empty() => Reading::Error(why),
        None if values.is_empty() => Reading::Error("there is no new instance to ask".to_owned()),
        Some(_) | None => Reading::Values(values),
    }
}

/// The value in an answer: the part that a pointer names, or all of it.
fn value(body: &[u8], json: Option<&str>) -> Result<Measured, String> {
    let Some(pointer) = json else {
        let text = String::from_utf8_lossy(body).trim().to_owned();
        return Ok(match text.parse::<f64>() {
            Ok(number) => Measured::Number(number),
            Err(_) => Measured::Text(text),
        });
    };
    let whole: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    match whole.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Ok(Measured::Text(text.clone())),
        Some(part) => Ok(part.as_f64().map_or(Measured::Text(part.to_string()), Measured::Number)),
        None => Err(format!("there is nothing at {pointer} in the answer")),
    }
}

fn command(
    check: &Check,
    run: &[String],
    dir: &str,
    means: &Means,
    wanted: &dyn Fn() -> bool,
) -> Reading {
    let hook = Hook {
        run: run.iter().map(|word| filled(word, check, &check.canary)).collect(),
        dir: PathBuf::from(dir),
        env: environment(check),
        stdin: Vec::new(),
        timeout: check.timeout,
    };
    let ended = match hook::run(&means.holder, &hook, wanted) {
        Ok(ended) => ended,
        Err(error) => {
            let program = run.first().map_or("", String::as_str);
            return Reading::Error(format!("{program} could not be run: {error}"));
        }
    };
    let said = ended.said();
    match ended.how {
        How::Exited(0) => Reading::Done,
        How::Exited(COULD_NOT_TELL) => Reading::Error(format!("it could not tell{said}")),
        How::Exited(status) => Reading::Failed(format!("exit status {status}{said}")),
        How::Signalled(signal) => Reading::Failed(format!("ended by signal {signal}{said}")),
        How::TookTooLong => {
            Reading::Failed(format!("it took longer than {}{said}", human(check.timeout)))
        }
        How::Unwanted => Reading::Error("it was not wanted any more".to_owned()),
    }
}

/// What a command finds in its environment.
fn environment(check: &Check) -> BTreeMap<String, String> {
    let list = |side: &Side| {
        let instances: Vec<String> = side.instances.iter().map(ToString::to_string).collect();
        instances.join(" ")
    };
    let first = check.canary.instances.first().map(|addr| format!("http://{addr}"));
    let stable = check.stable.as_ref();
    let name = match &check.id.about {
        About::Check(name) => Some(name.to_string()),
        About::Gate { .. } => None,
    };
    let variables = [
        ("EVENKEEL_STACK", Some(check.stack.to_string())),
        ("EVENKEEL_RELEASE", Some(check.id.release.0.to_string())),
        ("EVENKEEL_SERVICE", Some(check.id.service.to_string())),
        ("EVENKEEL_CHECK", name),
        ("EVENKEEL_REVISION", Some(check.canary.revision.to_string())),
        ("EVENKEEL_INSTANCES", Some(list(&check.canary))),
        ("EVENKEEL_URL", first),
        ("EVENKEEL_STABLE_REVISION", stable.map(|side| side.revision.to_string())),
        ("EVENKEEL_STABLE_INSTANCES", stable.map(list)),
    ];
    let there = variables.into_iter();
    there.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A text with what it asks about put in.
fn filled(text: &str, check: &Check, side: &Side) -> String {
    let instances: Vec<String> =
        side.instances.iter().map(|addr| addr.to_string().replace('.', "\\\\.")).collect();
    let stable = check.stable.as_ref().map_or_else(String::new, |side| side.revision.to_string());
    text.replace("$STABLE_REVISION", &stable)
        .replace("$REVISION", &side.revision.to_string())
        .replace("$SERVICE", check.id.service.as_str())
        .replace("$INSTANCES", &instances.join("|"))
}
