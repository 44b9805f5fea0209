//! What is taken out of and put into the headers on their way through.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a client.
const REQUEST_ID_MAX: usize = 128;

/// Takes out what is meant for the next hop only. Returns whether an upgrade was among it.
///
/// One to HTTP/2 is none (RFC 9113, section 3.1, took it back): whoever agreed to it behind the
/// edge would be sent requests that no route was found for.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) -> bool {
    let mut upgrade = false;
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match token.to_ascii_lowercase().as_slice() {
                b"" | b"close" | b"keep-alive" => {}
                b"upgrade" => upgrade = true,
                // Naming these would let a client take out what the edge or the instance relies on.
                b"host" | b"content-length" | b"x-request-id" | b"x-forwarded-for"
                | b"x-forwarded-proto" | b"x-forwarded-host" => {}
                name => named.extend(HeaderName::from_bytes(name).ok()),
            }
        }
    }
    for name in &named {
        headers.remove(name);
    }
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let is_h2c = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"h2c");
    let mut protocols = headers.get_all(UPGRADE).iter().peekable();
    upgrade
        && protocols.peek().is_some()
        && !protocols.any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_h2c))
}

/// Puts back what makes a message an upgrade.
pub(crate) fn keep_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Takes out what the edge has answered for itself.
pub(crate) fn strip_request(headers: &mut HeaderMap, chunked: bool, upgrade: bool) {
    headers.remove(EXPECT);
    headers.remove(PROXY_AUTHORIZATION);
    if chunked {
        headers.remove(CONTENT_LENGTH);
    }
    if !upgrade {
        headers.remove(UPGRADE);
    }
}

/// Makes one header of all cookies, which HTTP/2 may split up (RFC 9113, section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    let (first, second) = (all.next(), all.next());
    if first.is_none() || second.is_none() {
        return;
    }
    let values: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

/// Says for whom the request is made. What a client outside says of itself is not believed; what
/// a service inside says is, and its own address is added.
pub(crate) fn set_forwarded(
    headers: &mut HeaderMap,
    client: &HeaderValue,
    internal: bool,
    secure: bool,
) {
    if internal {
        let value = match headers.get(FORWARDED_FOR) {
            Some(_) => joined(headers, client),
            None => client.clone(),
        };
        headers.insert(FORWARDED_FOR, value);
    } else {
        headers.insert(FORWARDED_FOR, client.clone());
        headers.remove(FORWARDED);
    }
    if !internal || !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if secure { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !internal || !headers.contains_key(FORWARDED_HOST) {
        match headers.get(HOST).cloned() {
            Some(host) => headers.insert(FORWARDED_HOST, host),
            None => headers.remove(FORWARDED_HOST),
        };
    }
    if !headers.get(REQUEST_ID).is_some_and(|id| is_sane_id(id.as_bytes())) {
        let id = Bytes::from(format!("{:032x}", fastrand::u128(..)));
        let id = HeaderValue::from_maybe_shared(id).expect("hexadecimal digits");
        headers.insert(REQUEST_ID, id);
    }
}

fn joined(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut all = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        all.extend_from_slice(value.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(client.as_bytes());
    HeaderValue::from_bytes(&all).unwrap_or_else(|_invalid| client.clone())
}

/// Whether a client's id of a request is kept: short, and printable.
pub(crate) fn is_sane_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// Settles which host is asked for: the target's, if it names one, else the header's. `None` when
/// that is not one host.
pub(crate) fn settle_host(uri: &Uri, headers: &mut HeaderMap, needed: bool) -> Option<()> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() || (needed && first.is_none()) {
        return None;
    }
    if first.is_some_and(|host| !is_host(host.as_bytes())) {
        return None;
    }
    if let Some(authority) = uri.authority() {
        // Credentials in a target belong to nobody behind the edge.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).ok().filter(|host| is_host(host.as_bytes()))?;
        headers.insert(HOST, host);
    }
    Some(())
}

fn is_host(host: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    host.len() <= 260 && host.iter().all(fits)
}

/// The host asked for as routes name it: lower case, without port and without the last dot.
pub(crate) fn host_name(host: Option<&HeaderValue>) -> Cow<'_, str> {
    host_of(host.and_then(|host| host.to_str().ok()).unwrap_or_default())
}

/// The same of a text.
pub(crate) fn host_of(host: &str) -> Cow<'_, str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn text(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn s40_hop_by_hop_headers_go() {
        let mut it = headers(&[
            ("connection", "keep-alive, X-Mine, host"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("x-stays", "1"),
        ]);
        assert!(!strip_hop_by_hop(&mut it));
        assert_eq!(text(&it), ["host: a", "x-stays: 1"]);
        let mut it = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert!(strip_hop_by_hop(&mut it));
        assert!(!strip_hop_by_hop(&mut headers(&[("upgrade", "websocket")])));
        for h2c in ["h2c", "websocket, H2C"] {
            let mut it = headers(&[("connection", "upgrade, http2-settings"), ("upgrade", h2c)]);
            assert!(!strip_hop_by_hop(&mut it), "{h2c}");
        }
    }

    #[test]
    fn s40_outsiders_are_not_believed_and_insiders_are() {
        let client = HeaderValue::from_static("192.0.2.1");
        let claims = [
            ("host", "shop.test"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "abc"),
        ];
        let mut outside = headers(&claims);
        set_forwarded(&mut outside, &client, false, false);
        assert_eq!(
            text(&outside),
            [
                "host: shop.test",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: shop.test",
                "x-forwarded-proto: http",
                "x-request-id: abc"
            ]
        );
        let mut inside = headers(&claims);
        set_forwarded(&mut inside, &client, true, false);
        assert_eq!(inside[FORWARDED_FOR], "1.1.1.1, 2.2.2.2, 192.0.2.1");
        assert_eq!(inside[FORWARDED_PROTO], "https");
    }

    #[test]
    fn ids_are_made_when_they_are_not_sane() {
        for bad in ["", "a b", "\u{e9}"] {
            let mut it = HeaderMap::new();
            it.insert(REQUEST_ID, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            set_forwarded(&mut it, &HeaderValue::from_static("::1"), false, true);
            assert_eq!(it[REQUEST_ID].len(), 32, "{bad}");
        }
    }

    #[test]
    fn there_is_one_host() {
        let settle = |uri: &str, lines: &[(&'static str, &'static str)], needed| {
            let mut it = headers(lines);
            settle_host(&uri.parse().unwrap(), &mut it, needed)
                .map(|()| host_name(it.get(HOST)).into_owned())
        };
        assert_eq!(settle("/", &[("host", "Shop.Test.:80")], true).as_deref(), Some("shop.test"));
        assert_eq!(settle("/", &[("host", "[::1]:80")], true).as_deref(), Some("[::1]"));
        assert_eq!(settle("http://b:1/", &[("host", "a")], true).as_deref(), Some("b"));
        assert_eq!(settle("http://u:p@b/", &[("host", "a")], true).as_deref(), Some("b"));
        assert_eq!(settle("/", &[], false).as_deref(), Some(""));
        assert_eq!(settle("/", &[], true), None);
        assert_eq!(settle("/", &[("host", "a"), ("host", "a")], true), None);
        assert_eq!(settle("/", &[("host", "a b")], true), None);
        assert_eq!(settle("/", &[("host", "a/b")], true), None);
    }
}
