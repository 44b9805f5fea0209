//! What the edge answers itself because a route says so.

use std::net::IpAddr;

use evenkeel_kernel::model::{Leads, Redirect};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::Cause;
use crate::clock::now_us;
use crate::route::{Asked, Target};
use crate::shared::Shared;
use crate::table::Table;

/// What becomes of a request that is not passed on.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is refused.
    Refused(Cause),
    /// Something of the route's own: a status, headers, a text.
    Told(StatusCode, HeaderMap, String),
}

impl From<Cause> for Verdict {
    fn from(cause: Cause) -> Self {
        Self::Refused(cause)
    }
}

/// What a route says of a request before anybody is asked.
pub(crate) fn of(target: &Target, asked: &Asked<'_>, client: IpAddr) -> Option<Verdict> {
    let policy = &target.source.route.policy;
    if let Some(text) = &policy.maintenance {
        return Some(maintenance(text));
    }
    if let Some(meter) = &target.meter
        && let Err(wait) = meter.pass(client, now_us())
    {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut headers = plain();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        let text = "too many requests\n".to_owned();
        return Some(Verdict::Told(StatusCode::TOO_MANY_REQUESTS, headers, text));
    }
    if let Leads::Redirect(to) = &target.source.route.leads {
        return Some(redirect(to, asked.target));
    }
    let length = (asked.header)("content-length").and_then(|it| it.parse().ok());
    let too_large = |most: u64| length.is_some_and(|length: u64| length > most);
    policy.body_max.is_some_and(too_large).then_some(Verdict::Refused(Cause::BodyTooLarge))
}

/// The same request with TLS, where its host has a certificate.
pub(crate) fn to_https(shared: &Shared, table: &Table, asked: &Asked<'_>) -> Option<Verdict> {
    let port = table.source.shown.https_port?;
    if asked.host.is_empty() || !shared.certificates.has(asked.host) {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let to = Redirect { to: format!("https://{}{port}", asked.host), status: 308 };
    Some(redirect(&to, asked.target))
}

/// What an issuer of certificates is answered (RFC 8555, 8.3).
pub(crate) fn challenge(answer: String) -> Verdict {
    let kind = HeaderValue::from_static("application/octet-stream");
    Verdict::Told(StatusCode::OK, HeaderMap::from_iter([(CONTENT_TYPE, kind)]), answer)
}

fn maintenance(text: &str) -> Verdict {
    let mut headers = plain();
    if text.trim_start().starts_with('<') {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
    Verdict::Told(StatusCode::SERVICE_UNAVAILABLE, headers, format!("{}\n", text.trim_end()))
}

fn redirect(to: &Redirect, asked: &str) -> Verdict {
    let host_only = to.to.splitn(4, '/').count() < 4;
    let rest = if asked.starts_with('/') { asked } else { "/" };
    let location = if host_only { format!("{}{rest}", to.to) } else { to.to.clone() };
    let mut headers = plain();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    let status = StatusCode::from_u16(to.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    Verdict::Told(status, headers, String::new())
}

fn plain() -> HeaderMap {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    HeaderMap::from_iter([(CONTENT_TYPE, kind)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_what_was_asked_for_unless_they_say_where() {
        let location = |to: &str, asked: &str| {
            let to = Redirect { to: to.to_owned(), status: 302 };
            match redirect(&to, asked) {
                Verdict::Told(status, headers, _) => {
                    assert_eq!(status, 302);
                    headers[LOCATION].to_str().unwrap().to_owned()
                }
                Verdict::Refused(cause) => panic!("{cause:?}"),
            }
        };
        assert_eq!(location("https://a.test", "/x?y=1"), "https://a.test/x?y=1");
        assert_eq!(location("https://a.test/", "/x?y=1"), "https://a.test/");
        assert_eq!(location("https://a.test/new", "/x"), "https://a.test/new");
        // A path of two slashes must not become another host.
        assert_eq!(location("https://a.test", "//evil.test/x"), "https://a.test//evil.test/x");
        assert_eq!(location("https://a.test", "*"), "https://a.test/");
    }
}
