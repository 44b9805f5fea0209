//! Registrations as clients send them: Consul's, whose keys clients write in several ways.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::entry::{External, Kind, Status, Test, Weights};

/// Tests of one service at most.
const TESTS_MAX: usize = 16;
/// Bytes of a name, an id or a tag at most.
const NAME_MAX: usize = 128;
/// Tags and entries of metadata at most, as with Consul.
const TAGS_MAX: usize = 64;
/// Bytes of a text at most, as with Consul.
const TEXT_MAX: usize = 512;
/// The shortest time between two tests.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long one may take if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time after which somebody is no longer registered, as with Consul.
const GONE_MIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    id: String,
    name: String,
    address: String,
    port: u16,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    weights: Option<Weighed>,
    check: Option<Check>,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
struct Weighed {
    #[serde(default = "one")]
    passing: u16,
    #[serde(default = "one")]
    warning: u16,
}

fn one() -> u16 {
    1
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Check {
    checkid: String,
    id: String,
    name: String,
    notes: String,
    status: String,
    ttl: String,
    http: String,
    tcp: String,
    method: String,
    interval: String,
    timeout: String,
    deregistercriticalserviceafter: String,
    args: Option<Value>,
    script: Option<Value>,
    grpc: String,
    alias_service: Option<Value>,
}

/// Reads a registration; the error is for whoever sent it.
pub(crate) fn read(body: &[u8]) -> Result<External, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let service: Service =
        serde_json::from_value(plain(value)).map_err(|error| format!("it says {error}"))?;
    let name = service.name;
    let is_plain = |text: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(letter)
    };
    if !is_plain(&name) {
        return Err("`Name` is 1 to 128 letters, digits, dashes, dots and underscores".to_owned());
    }
    let id = if service.id.is_empty() { name.clone() } else { service.id };
    if id.len() > NAME_MAX || id.chars().any(char::is_control) {
        return Err("`ID` has at most 128 bytes".to_owned());
    }
    let (tags, meta) = (service.tags.unwrap_or_default(), service.meta.unwrap_or_default());
    let texts = tags.iter().chain(meta.keys()).chain(meta.values()).chain([&service.address]);
    if tags.len() > TAGS_MAX
        || meta.len() > TAGS_MAX
        || texts.into_iter().any(|it| it.len() > TEXT_MAX)
    {
        return Err(format!("there are at most {TAGS_MAX} tags and values, of {TEXT_MAX} bytes"));
    }
    let checks: Vec<Check> =
        service.check.into_iter().chain(service.checks.into_iter().flatten()).collect();
    if checks.len() > TESTS_MAX {
        return Err(format!("there are at most {TESTS_MAX} checks"));
    }
    let count = checks.len();
    let tests = (1..).zip(checks).map(|(number, it)| test(it, &id, &name, number, count));
    let weights = service.weights.map_or(Weights { passing: 1, warning: 1 }, |it| Weights {
        passing: it.passing,
        warning: it.warning,
    });
    Ok(External {
        tests: tests.collect::<Result<_, _>>()?,
        id,
        name,
        address: service.address,
        port: service.port,
        tags,
        meta,
        weights,
    })
}

fn test(it: Check, id: &str, name: &str, number: usize, count: usize) -> Result<Test, String> {
    if it.args.is_some() || it.script.is_some() || !it.grpc.is_empty() || it.alias_service.is_some()
    {
        return Err("of checks there are `TTL`, `HTTP` and `TCP`".to_owned());
    }
    let span = |key: &str, text: &str, preset: Option<Duration>| match (text, preset) {
        ("", Some(preset)) => Ok(preset),
        _ => span(text).ok_or_else(|| format!("`{key}` is a duration such as \"10s\"")),
    };
    let interval = || span("Interval", &it.interval, None).map(|it| it.max(INTERVAL_MIN));
    let timeout = || span("Timeout", &it.timeout, Some(TIMEOUT)).map(|it| it.min(TIMEOUT * 6));
    let kind = match (it.ttl.as_str(), it.http.as_str(), it.tcp.as_str()) {
        (ttl, "", "") if !ttl.is_empty() => Kind::Ttl(span("TTL", ttl, None)?),
        ("", url, "") if url.starts_with("http://") => Kind::Http {
            url: url.to_owned(),
            method: if it.method.is_empty() { "GET".to_owned() } else { it.method.clone() },
            interval: interval()?,
            timeout: timeout()?,
        },
        ("", url, "") if !url.is_empty() => {
            return Err("a check's `HTTP` begins with `http://`".to_owned());
        }
        ("", "", addr) if !addr.is_empty() => {
            Kind::Tcp { addr: addr.to_owned(), interval: interval()?, timeout: timeout()? }
        }
        _ => return Err("a check has one of `TTL`, `HTTP` and `TCP`".to_owned()),
    };
    let own = if it.checkid.is_empty() { it.id } else { it.checkid };
    let id = match (own.is_empty(), count) {
        (false, _) => own,
        (true, 1) => format!("service:{id}"),
        (true, _) => format!("service:{id}:{number}"),
    };
    let gone_after = match it.deregistercriticalserviceafter.as_str() {
        "" => None,
        text => Some(span("DeregisterCriticalServiceAfter", text, None)?.max(GONE_MIN)),
    };
    Ok(Test {
        id,
        name: if it.name.is_empty() { format!("Service '{name}' check") } else { it.name },
        notes: it.notes,
        kind,
        gone_after,
        first: Status::read(&it.status).unwrap_or_default(),
    })
}

/// The same with keys in lower case and in one word, but for those that are the sender's own.
fn plain(value: Value) -> Value {
    let entry = |(key, value): (String, Value)| {
        let key = key.to_ascii_lowercase().replace('_', "");
        let value = if matches!(key.as_str(), "meta" | "header") { value } else { plain(value) };
        (key, value)
    };
    match value {
        Value::Object(map) => Value::Object(map.into_iter().map(entry).collect::<Map<_, _>>()),
        Value::Array(list) => Value::Array(list.into_iter().map(plain).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// A duration as Go writes it: `10s`, `1m30s`, `500ms`. At most a day.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let units = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(units);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        sum += Duration::try_from_secs_f64((number * seconds).min(86_400.0)).ok()?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum.min(Duration::from_secs(86_400)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let ms = |text: &str| span(text).map(|it| it.as_millis());
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1.5h"), Some(5_400_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("9999999h"), Some(86_400_000));
        for bad in ["", "10", "s", "10x", "-1s", "1..5s"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_read_however_they_are_written() {
        let upper = r#"{"ID":"db-1","Name":"db","Port":5432,"Tags":["a"],"Meta":{"Some_Key":"v"},
            "Check":{"TTL":"15s","DeregisterCriticalServiceAfter":"90m"}}"#;
        let lower = r#"{"id":"db-1","name":"db","port":5432,"tags":["a"],"meta":{"Some_Key":"v"},
            "checks":[{"ttl":"15s","deregister_critical_service_after":"90m"}]}"#;
        let read = |text: &str| read(text.as_bytes()).unwrap();
        assert_eq!(read(upper), read(lower));
        assert_eq!(read(upper).tests[0].id, "service:db-1");
        assert_eq!(read(upper).meta["Some_Key"], "v");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (text, because) in [
            ("", "no JSON"),
            (r#"{"Name":""}"#, "`Name`"),
            (r#"{"Name":"a b"}"#, "`Name`"),
            (r#"{"Name":"a","Port":70000}"#, "70000"),
            (r#"{"Name":"a","Check":{"Args":["x"],"Interval":"1s"}}"#, "of checks"),
            (r#"{"Name":"a","Check":{"HTTP":"https://x/","Interval":"1s"}}"#, "`http://`"),
            (r#"{"Name":"a","Check":{"HTTP":"http://x/"}}"#, "`Interval`"),
            (r#"{"Name":"a","Check":{}}"#, "one of"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(because), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_registration_is_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in "[{}\\[\\]\":,a-zA-Z0-9 ]{0,80}",
        ) {
            drop(read(&bytes));
            drop(read(text.as_bytes()));
            let _ = span(&text);
        }
    }
}
