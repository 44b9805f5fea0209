//! Traces as W3C's Trace Context describes them: who a request belongs to, and the edge's own part
//! of it.

use std::time::{Duration, SystemTime};

use super::text::put;
use http::{HeaderMap, HeaderName, HeaderValue};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace: u128,
    /// The span of whoever asked; `None`: nobody said.
    pub(crate) parent: Option<u64>,
    pub(crate) span: u64,
    /// It is followed.
    pub(crate) sampled: bool,
}

impl Trace {
    /// The one that the headers name; else a new one, which is followed if `draw` says so.
    pub(super) fn of(headers: &HeaderMap, draw: impl FnOnce() -> bool) -> Self {
        let mut named = headers.get_all(PARENT).iter();
        let first = named.next().and_then(|it| it.to_str().ok()).and_then(parse);
        // Two of them are none.
        match (first, named.next()) {
            (Some((trace, parent, sampled)), None) => {
                Self { trace, parent: Some(parent), span: fastrand::u64(1..), sampled }
            }
            (_, _) => Self {
                trace: fastrand::u128(1..),
                parent: None,
                span: fastrand::u64(1..),
                sampled: draw(),
            },
        }
    }

    /// Writes it where the instance looks for it.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        if self.parent.is_none() {
            // It belonged to a trace that nobody can read.
            headers.remove(STATE);
        }
        let flags = u8::from(self.sampled);
        let text = format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(PARENT, value);
        }
    }

    /// Its name, for people and logs.
    pub(super) fn write_id(&self, out: &mut String) {
        put(out, format_args!("{:032x}", self.trace));
    }
}

/// Reads `version-trace-parent-flags`. A later version may say more after that.
fn parse(text: &str) -> Option<(u128, u64, bool)> {
    let mut parts = text.trim().split('-');
    let mut part = |length: usize| {
        let part = parts.next().filter(|it| it.len() == length)?;
        let lower = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        lower.then_some(part)
    };
    let (version, trace, parent, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|it| *it != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|it| *it != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace, parent, flags & 1 == 1))
}

/// The edge's part of one request.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) trace: Trace,
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) protocol: &'static str,
    pub(crate) status: u16,
    pub(crate) failed: bool,
    pub(crate) route: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) retries: u32,
    pub(crate) cause: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(PARENT, HeaderValue::from_str(parent).unwrap());
        }
        headers.insert(STATE, HeaderValue::from_static("a=1"));
        headers
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_on_with_a_span_of_its_own() {
        let mut all = headers(&[GOOD]);
        let trace = Trace::of(&all, || panic!("it says so itself"));
        assert_eq!(trace.parent, Some(0xb7ad_6b71_6920_3331));
        assert!(trace.sampled);
        trace.put(&mut all);
        let text = all[PARENT].to_str().unwrap();
        assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{text}");
        assert!(!text.contains("b7ad6b7169203331"), "{text}");
        assert_eq!(all[STATE], "a=1");
    }

    #[test]
    fn what_cannot_be_read_begins_anew_and_later_versions_can() {
        let of = |parents: &[&str]| {
            let mut all = headers(parents);
            let trace = Trace::of(&all, || true);
            trace.put(&mut all);
            (trace.parent.is_some(), all.contains_key(STATE))
        };
        for parents in [
            &[][..],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"],
            &[GOOD, GOOD],
        ] {
            assert_eq!(of(parents), (false, false), "{parents:?}");
        }
        assert_eq!(
            of(&["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more"]),
            (true, true)
        );
    }
}
