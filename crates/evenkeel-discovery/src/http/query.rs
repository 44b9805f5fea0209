//! What a request asks for, beyond its path.

use std::time::Duration;

use http::HeaderMap;

use crate::registry::span;

/// How long somebody waits who does not say.
const WAIT: Duration = Duration::from_secs(300);
/// The longest that somebody may wait.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Parameters of one request at most; the rest is not looked at.
const PARAMETERS_MAX: usize = 64;

/// The parameters, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn read(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(key, true), decoded(value, true))
        };
        let parts = text.split('&').filter(|part| !part.is_empty());
        Self(parts.take(PARAMETERS_MAX).map(pair).collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(it, _)| it == key).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: `passing`, `passing=1`, `passing=true`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "0" | "false" | "f"))
    }

    /// Which index is known already, and how long another one is waited for; the wait is a little
    /// longer for some, so that not all who began together come back together.
    pub(crate) fn blocking(&self) -> Option<(u64, Duration)> {
        // Some clients begin with -1, which nobody has ever been told.
        let index = self.get("index")?.parse::<u64>().ok().filter(|index| *index > 0)?;
        let wait = self.get("wait").filter(|it| !it.is_empty());
        let wait = wait.map_or(Some(WAIT), span).unwrap_or(WAIT);
        let wait = if wait.is_zero() { WAIT } else { wait.min(WAIT_MAX) };
        Some((index, wait + wait.mul_f64(fastrand::f64() / 16.0)))
    }
}

/// The segments of a path, decoded.
pub(crate) fn segments(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|it| decoded(it, false)).collect()
}

/// Text without `%41`; what is no such thing stays as it is.
fn decoded(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |place: usize| char::from(*bytes.get(place)?).to_digit(16);
        let code = if byte == b'%' { hex(at + 1).zip(hex(at + 2)) } else { None };
        match (byte, code) {
            (_, Some((high, low))) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            (b'+', None) if plus => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a page is asked for as text for people.
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_read_as_clients_write_them() {
        let query =
            Query::read("tag=traefik.enable%3Dtrue&tag=a+b&passing&stale=&index=7&wait=10s&x=%4");
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["traefik.enable=true", "a b"]);
        assert!(query.flag("passing") && query.flag("stale") && !query.flag("cached"));
        assert!(!Query::read("passing=false").flag("passing"));
        assert_eq!(query.get("x"), Some("%4"));
        let (index, wait) = query.blocking().unwrap();
        assert!(index == 7 && (10_000..=10_625).contains(&wait.as_millis()), "{wait:?}");
        for at_once in ["", "index=0", "index=-1", "index=x", "wait=5s"] {
            assert!(Query::read(at_once).blocking().is_none(), "{at_once}");
        }
        let (_, most) = Query::read("index=1&wait=9h").blocking().unwrap();
        assert!(most <= WAIT_MAX.mul_f64(1.07));
        assert_eq!(segments("/v1/kv/a%2Fb"), ["v1", "kv", "a/b"]);
    }

    proptest! {
        #[test]
        fn any_request_is_read_without_panic(text in "[%0-9a-fé&=+ ]{0,60}") {
            let _ = Query::read(&text).blocking();
            drop(segments(&text));
        }
    }
}
