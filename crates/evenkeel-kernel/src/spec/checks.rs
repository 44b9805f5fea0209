//! Checks: what is asked, and which keys go with which question.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Fields, Named};
use super::path;
use super::problem::{Mistake, Mistakes};
use crate::model::{Ask, Check, CheckName, Expect, When};

/// Time from one answer to the next question when the file does not say: two looks of a Prometheus
/// server that scrapes every 15 seconds.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long an answer may take when the file does not say.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions in a row without an answer that hold a release when the file does not say.
pub(crate) const CHECK_ERRORS: u32 = 3;

/// The keys of which a check has exactly one.
const ASKED: [&str; 4] = ["prometheus", "http", "metrics", "command"];

/// Which further keys belong to which question.
const BELONGS: [(&str, &[&str]); 7] = [
    ("query", &["prometheus"]),
    ("total", &["prometheus", "metrics"]),
    ("bad", &["prometheus", "metrics"]),
    ("json", &["http"]),
    ("min", &["prometheus", "http"]),
    ("max", &["prometheus", "http"]),
    ("equals", &["http"]),
];

/// Builds the checks of one service.
pub(crate) fn build(
    named: Option<&Vec<Named>>,
    base: &str,
    mistakes: &mut Mistakes,
) -> BTreeMap<CheckName, Check> {
    let named = named.into_iter().flatten();
    let read = |named: &Named, mistakes: &mut Mistakes| {
        let fields = named.fields.as_ref()?;
        Some((named.name.parse().ok()?, check(fields, base, mistakes)?))
    };
    named.filter_map(|named| read(named, mistakes)).collect()
}

fn check(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> Option<Check> {
    let asked = asked(fields, mistakes)?;
    foreign_keys(fields, asked, mistakes);
    let ask = match asked {
        "prometheus" => prometheus(fields, mistakes),
        "http" => http(fields, mistakes),
        "metrics" => counters(fields, mistakes),
        _ => fields.texts("command").map(|words| Ask::Command {
            run: words.iter().map(|(word, _)| word.clone()).collect(),
            dir: path::resolve(base, "."),
        }),
    }?;
    let when = match fields.text("when").map(String::as_str) {
        Some("before") => When::Before,
        Some("after") => When::After,
        Some(_) | None => When::During,
    };
    if ask.compares() && when != When::During {
        let wrong = format!("there is nothing to compare `{when}` both revisions have traffic");
        mistakes.add(
            Mistake::at(&fields.place("when"), &fields.at("when"), wrong).expected("`during`"),
        );
    }
    Some(Check {
        ask,
        when,
        every: fields.span("every").copied().unwrap_or(CHECK_EVERY),
        timeout: fields.span("timeout").copied().unwrap_or(CHECK_TIMEOUT),
        failures: fields.count("failures").unwrap_or(1),
        errors: fields.count("errors").unwrap_or(CHECK_ERRORS),
        dry_run: fields.flag("dry_run").copied().unwrap_or(false),
    })
}

/// Where nothing may run beside the old, there is no new instance before traffic moves.
pub(crate) fn nothing_before(named: Option<&Vec<Named>>, mistakes: &mut Mistakes) {
    for fields in named.into_iter().flatten().filter_map(|named| named.fields.as_ref()) {
        if fields.text("when").is_some_and(|when| when == "before") {
            let wrong = "no new instance runs before an old one has made room for it";
            mistakes.add(
                Mistake::at(&fields.place("when"), &fields.at("when"), wrong)
                    .expected("`during` or `after`, or a `max_surge` of at least 1"),
            );
        }
    }
}

/// Which question it is.
fn asked(fields: &Fields, mistakes: &mut Mistakes) -> Option<&'static str> {
    let there: Vec<_> = ASKED.iter().filter_map(|key| fields.first(&[*key])).collect();
    let expected = "one of `prometheus`, `http`, `metrics` and `command`";
    match there.as_slice() {
        [(one, _)] => Some(one),
        [] => {
            let wrong = "this check asks nothing";
            mistakes
                .add(Mistake::at(&fields.span, &fields.path, wrong).expected(expected).absence());
            None
        }
        [(first, _), (second, field), ..] => {
            let wrong = format!("this check has both `{first}` and `{second}`");
            mistakes.add(Mistake::at(&field.key, &fields.at(second), wrong).expected(expected));
            None
        }
    }
}

/// Keys of another question would be without effect.
fn foreign_keys(fields: &Fields, asked: &str, mistakes: &mut Mistakes) {
    for (key, owners) in BELONGS {
        let Some(field) = fields.field(key).filter(|_| !owners.contains(&asked)) else { continue };
        let owners: Vec<String> = owners.iter().map(|owner| format!("`{owner}`")).collect();
        let wrong = format!("`{key}` goes with {}, this is `{asked}`", owners.join(" or "));
        mistakes.add(Mistake::at(&field.key, &fields.at(key), wrong));
    }
}

fn prometheus(fields: &Fields, mistakes: &mut Mistakes) -> Option<Ask> {
    let server = address(fields, "prometheus", mistakes)?.trim_end_matches('/').to_owned();
    if fields.field("query").is_none() {
        let (total, bad) = pair(fields, "an expression", mistakes)?;
        return Some(Ask::Compare { server, total, bad });
    }
    for key in ["total", "bad"] {
        if let Some(field) = fields.field(key) {
            let wrong = format!("`query` and `{key}` exclude each other");
            mistakes
                .add(Mistake::at(&field.key, &fields.at(key), wrong).expected("either of them"));
        }
    }
    let expect = expect(fields);
    if expect == Expect::default() {
        needs(fields, "query", "`min`, `max` or both", mistakes);
    }
    Some(Ask::Query { server, query: fields.text("query")?.clone(), expect })
}

fn http(fields: &Fields, mistakes: &mut Mistakes) -> Option<Ask> {
    let text = fields.text("http")?;
    let url = match text.starts_with('/') {
        true => text.clone(),
        false => address(fields, "http", mistakes)?.clone(),
    };
    let json = fields.text("json").cloned();
    if json.as_ref().is_some_and(|json| !json.starts_with('/')) {
        let wrong = "a JSON Pointer begins with `/`";
        mistakes.add(
            Mistake::at(&fields.place("json"), &fields.at("json"), wrong)
                .expected("a path such as \"/queue/failed\" or \"/items/0/state\""),
        );
    }
    let expect = expect(fields);
    if json.is_some() && expect == Expect::default() {
        needs(fields, "json", "`min`, `max` or `equals`", mistakes);
    }
    Some(Ask::Http { url, json, expect })
}

fn counters(fields: &Fields, mistakes: &mut Mistakes) -> Option<Ask> {
    let (total, bad) = pair(fields, "the name of a counter", mistakes)?;
    Some(Ask::Counters { path: fields.text("metrics")?.clone(), total, bad })
}

/// `total` and `bad`, which go together.
fn pair(fields: &Fields, what: &str, mistakes: &mut Mistakes) -> Option<(String, String)> {
    for key in ["total", "bad"].into_iter().filter(|key| fields.field(key).is_none()) {
        let wrong = format!("this check needs `{key}`");
        let mistake = Mistake::at(&fields.span, &fields.at(key), wrong);
        let or_query = match (key, fields.field("prometheus"), fields.field("bad")) {
            ("total", Some(_), None) => ", or a `query`",
            _ => "",
        };
        mistakes.add(mistake.expected(format!("{what}{or_query}")).absence());
    }
    Some((fields.text("total")?.clone(), fields.text("bad")?.clone()))
}

fn needs(fields: &Fields, key: &str, expected: &str, mistakes: &mut Mistakes) {
    let wrong = format!("`{key}` does not say what its value must be");
    mistakes.add(
        Mistake::at(&fields.place(key), &fields.at(key), wrong)
            .expected(format!("{expected} beside it"))
            .absence(),
    );
}

fn expect(fields: &Fields) -> Expect {
    Expect {
        min: fields.number("min").copied(),
        max: fields.number("max").copied(),
        equals: fields.text("equals").cloned(),
    }
}

/// The address of something that speaks HTTP.
fn address<'f>(fields: &'f Fields, key: &str, mistakes: &mut Mistakes) -> Option<&'f String> {
    let text = fields.text(key)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !host.is_empty() && !host.contains('@') && clean {
        return Some(text);
    }
    // What stands there may be a secret that was meant to be kept out of the file.
    let wrong = format!("`{key}` is not an address that can be asked");
    mistakes.add(
        Mistake::at(&fields.place(key), &fields.at(key), wrong)
            .expected("an address that begins with `http://` or `https://`, without a password"),
    );
    None
}
