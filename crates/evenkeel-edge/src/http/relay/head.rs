//! Heads: of requests that are plainly simple, and of the answers to them.

use std::ops::Range;

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use crate::http::headers::is_sane_id;
use crate::limits::{HEAD_BYTES, REPLAY_BYTES, URI_BYTES};

/// Lines of a head; as many as hyper takes.
pub(super) const HEADERS_MAX: usize = 100;

/// The methods that are simple.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// What the bytes of a client come to.
#[derive(Debug)]
pub(super) enum Seen {
    /// A head that is not all there.
    Unfinished,
    /// A request that is plainly simple.
    Simple(Request),
    /// Something that hyper should read.
    Other,
}

/// A request: where its parts are in the bytes it came in.
#[derive(Debug)]
pub(super) struct Request {
    /// Bytes of the head.
    pub(super) length: usize,
    /// Bytes of the body.
    pub(super) body: usize,
    pub(super) method: &'static str,
    pub(super) target: Range<usize>,
    headers: Vec<(Range<usize>, Range<usize>)>,
    host: usize,
    /// The client wants no further request.
    pub(super) last: bool,
}

/// A header that is about this hop, or is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Passed on.
    Plain,
    Host,
    Length,
    Connection,
    /// Said of whom the request is made for; not believed from outside.
    Claim,
    /// Left out.
    Hop,
    Cookie,
    /// What the simple way does not take.
    Special,
}

fn kind(name: &str) -> Kind {
    // By length first: most names are none of these.
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is("te") => Kind::Special,
        4 if is("host") => Kind::Host,
        6 if is("cookie") => Kind::Cookie,
        6 if is("expect") => Kind::Special,
        7 if is("upgrade") || is("trailer") => Kind::Special,
        9 if is("forwarded") => Kind::Claim,
        10 if is("connection") => Kind::Connection,
        10 if is("keep-alive") => Kind::Hop,
        12 if is("x-request-id") => Kind::Claim,
        14 if is("content-length") => Kind::Length,
        14 if is("http2-settings") => Kind::Special,
        15 if is("x-forwarded-for") => Kind::Claim,
        16 if is("x-forwarded-host") || is("proxy-connection") => match is("proxy-connection") {
            true => Kind::Hop,
            false => Kind::Claim,
        },
        17 if is("x-forwarded-proto") => Kind::Claim,
        17 if is("transfer-encoding") => Kind::Special,
        19 if is("proxy-authorization") => Kind::Special,
        _ => Kind::Plain,
    }
}

/// Reads the first request of these bytes.
pub(super) fn read(bytes: &[u8]) -> Seen {
    let mut lines = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    let length = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES => return Seen::Unfinished,
        Ok(Status::Partial) | Err(_) => return Seen::Other,
    };
    let (Some(method), Some(target), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return Seen::Other;
    };
    let Some(method) = METHODS.iter().find(|it| **it == method) else { return Seen::Other };
    // A bare line feed ends lines for some and not for others.
    let clean = bytes.get(..length).is_some_and(ends_lines_properly);
    if !clean || !is_plain_target(target) {
        return Seen::Other;
    }
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + part.len()
    };
    let (mut host, mut body, mut cookies, mut last) = (None, None, 0, false);
    let mut headers = Vec::with_capacity(parsed.headers.len());
    for (number, header) in parsed.headers.iter().enumerate() {
        match kind(header.name) {
            Kind::Special => return Seen::Other,
            Kind::Host if host.is_some() || !is_plain_host(header.value) => return Seen::Other,
            Kind::Host => host = Some(number),
            Kind::Length => match (body, length_of(header.value)) {
                (None, Some(length)) if length <= REPLAY_BYTES => body = Some(length),
                _ => return Seen::Other,
            },
            Kind::Connection if header.value.eq_ignore_ascii_case(b"keep-alive") => {}
            Kind::Connection if header.value.eq_ignore_ascii_case(b"close") => last = true,
            Kind::Connection => return Seen::Other,
            Kind::Cookie => cookies += 1,
            Kind::Claim | Kind::Hop | Kind::Plain => {}
        }
        headers.push((place(header.name.as_bytes()), place(header.value)));
    }
    let Some(host) = host.filter(|_| cookies <= 1) else { return Seen::Other };
    let body = usize::try_from(body.unwrap_or(0)).unwrap_or(0);
    let target = place(target.as_bytes());
    Seen::Simple(Request { length, body, method, target, headers, host, last })
}

/// Whether every line feed of a head follows a carriage return, and no carriage return stands
/// alone.
fn ends_lines_properly(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().all(|byte| {
        let fits = (*byte == b'\n') == (before == b'\r');
        before = *byte;
        fits
    })
}

/// Path and query of characters that everybody reads alike.
fn is_plain_target(target: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(&byte);
    target.len() <= URI_BYTES && target.starts_with('/') && target.bytes().all(fits)
}

/// A name or an address, with a port or without; not empty.
fn is_plain_host(host: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
    (1..=260).contains(&host.len()) && host.iter().all(fits)
}

/// Digits and nothing else.
fn length_of(value: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// What is said of the client to an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'c> {
    pub(super) addr: &'c str,
    /// Its word is taken for whom the request is made.
    pub(super) internal: bool,
    pub(super) secure: bool,
}

impl Request {
    /// The value of a header by its name in lower case.
    pub(super) fn header<'b>(&self, bytes: &'b [u8], name: &str) -> Option<&'b str> {
        let found = self.headers.iter().find(|(it, _)| {
            bytes.get(it.clone()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
        });
        std::str::from_utf8(bytes.get(found?.1.clone())?).ok()
    }

    pub(super) fn host<'b>(&self, bytes: &'b [u8]) -> &'b str {
        let value = self.headers.get(self.host).and_then(|(_, value)| bytes.get(value.clone()));
        value.and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default()
    }

    pub(super) fn target<'b>(&self, bytes: &'b [u8]) -> &'b str {
        let target = bytes.get(self.target.clone()).unwrap_or_default();
        std::str::from_utf8(target).unwrap_or("/")
    }

    /// Whether something about it is for hyper after all: a call of gRPC, or one who says in
    /// several lines for whom it asks.
    pub(super) fn is_special(&self, bytes: &[u8], client: Client<'_>) -> bool {
        let grpc =
            self.header(bytes, "content-type").is_some_and(|it| it.starts_with("application/grpc"));
        let claims = self.headers.iter().filter(|(name, _)| {
            bytes.get(name.clone()).is_some_and(|it| it.eq_ignore_ascii_case(b"x-forwarded-for"))
        });
        grpc || (client.internal && claims.count() > 1)
    }

    /// Writes the head as an instance gets it.
    pub(super) fn write(&self, bytes: &[u8], client: Client<'_>, out: &mut Vec<u8>) {
        let part = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(part(&self.target));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let (mut id, mut proto, mut forwarded_host, mut claimed) = (false, false, false, None);
        for (name, value) in &self.headers {
            let (name, value) = (part(name), part(value));
            let text = std::str::from_utf8(name).unwrap_or_default();
            match kind(text) {
                Kind::Connection | Kind::Hop => continue,
                Kind::Claim if text.eq_ignore_ascii_case("x-request-id") => {
                    id = is_sane_id(value);
                    if !id {
                        continue;
                    }
                }
                Kind::Claim if !client.internal => continue,
                Kind::Claim if text.eq_ignore_ascii_case("x-forwarded-for") => {
                    claimed = Some(value);
                    continue;
                }
                Kind::Claim => {
                    proto |= text.eq_ignore_ascii_case("x-forwarded-proto");
                    forwarded_host |= text.eq_ignore_ascii_case("x-forwarded-host");
                }
                Kind::Plain | Kind::Host | Kind::Length | Kind::Cookie | Kind::Special => {}
            }
            line(out, name, value);
        }
        out.extend_from_slice(b"x-forwarded-for: ");
        if let Some(claimed) = claimed {
            out.extend_from_slice(claimed);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(client.addr.as_bytes());
        out.extend_from_slice(b"\r\n");
        if !proto {
            let scheme: &[u8] = if client.secure { b"https" } else { b"http" };
            line(out, b"x-forwarded-proto", scheme);
        }
        if !forwarded_host {
            line(out, b"x-forwarded-host", self.host(bytes).as_bytes());
        }
        if !id {
            let id = fastrand::u128(..);
            out.extend_from_slice(b"x-request-id: ");
            out.extend((0..32).rev().map(|place| hex(id >> (4 * place))));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn hex(digit: u128) -> u8 {
    let digit = u8::try_from(digit & 0xf).unwrap_or(0);
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    Length(u64),
    Chunked,
    /// The instance closes the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// The connection to the instance can take another request afterwards.
    pub(super) keeps: bool,
}

/// What an answer's head gets besides what the instance said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extra<'e> {
    /// What clocks say, in HTTP's format.
    pub(super) date: &'e str,
    pub(super) cookie: Option<&'e [u8]>,
    /// The client's connection ends after it.
    pub(super) close: bool,
}

/// An answer cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the head of an answer, and writes it to `out` as the client gets it. `None`: it is not all
/// there. An interim answer (1xx) is read over.
pub(super) fn read_answer(
    bytes: &[u8],
    to_head: bool,
    extra: Extra<'_>,
    out: &mut Vec<u8>,
) -> Result<Option<Answer>, Malformed> {
    let mut lines = [EMPTY_HEADER; HEADERS_MAX];
    let mut before = 0;
    loop {
        let rest = bytes.get(before..).unwrap_or_default();
        let mut parsed = httparse::Response::new(&mut lines);
        let mut config = ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(false);
        let length = match config.parse_response(&mut parsed, rest) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if rest.len() < HEAD_BYTES => return Ok(None),
            Ok(Status::Partial) | Err(_) => return Err(Malformed),
        };
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(Malformed);
        };
        match status {
            // Nobody asked for another protocol.
            101 => return Err(Malformed),
            100..200 => {
                before += length;
                lines = [EMPTY_HEADER; HEADERS_MAX];
            }
            200..=999 => {
                let reason = parsed.reason.unwrap_or_default();
                let told = Told { status, reason, modern: minor == 1, to_head };
                let answer = told.write(parsed.headers, extra, out)?;
                return Ok(Some(Answer { length: before + length, ..answer }));
            }
            _ => return Err(Malformed),
        }
    }
}

/// The first line of an answer, and to what.
struct Told<'t> {
    status: u16,
    reason: &'t str,
    modern: bool,
    to_head: bool,
}

impl Told<'_> {
    fn write(
        &self,
        headers: &[Header<'_>],
        extra: Extra<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, Malformed> {
        let status = self.status;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(
            &[100, 10, 1].map(|place| b'0' + u8::try_from(status / place % 10).unwrap_or(0)),
        );
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        let bodiless = self.to_head || matches!(status, 204 | 304);
        let (mut length, mut chunked, mut keeps, mut dated) = (None, false, self.modern, false);
        let named = connection_names(headers);
        for header in headers {
            let name = header.name;
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                4 if is("date") => dated = true,
                2 if is("te") => continue,
                7 if is("trailer") || is("upgrade") => continue,
                10 if is("keep-alive") => continue,
                10 if is("connection") => {
                    let says = |word: &str| has_token(header.value, word);
                    keeps = (keeps || says("keep-alive")) && !says("close");
                    continue;
                }
                14 if is("content-length") => {
                    let this = length_of(header.value).ok_or(Malformed)?;
                    if length.is_some_and(|other| other != this) {
                        return Err(Malformed);
                    }
                    // It stands once, and not where there can be no body.
                    if length.replace(this).is_some() || status == 204 {
                        continue;
                    }
                    if has_chunked(headers) {
                        continue;
                    }
                }
                16 if is("proxy-connection") => continue,
                17 if is("transfer-encoding") => {
                    if chunked || !header.value.eq_ignore_ascii_case(b"chunked") || !self.modern {
                        return Err(Malformed);
                    }
                    chunked = true;
                    continue;
                }
                _ if named.iter().any(|it| is(it)) => continue,
                _ => {}
            }
            line(out, name.as_bytes(), header.value);
        }
        let framing = match (bodiless, chunked, length) {
            (true, _, _) => Framing::Empty,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(0)) => Framing::Empty,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::Close,
        };
        if matches!(framing, Framing::Chunked | Framing::Close) {
            line(out, b"transfer-encoding", b"chunked");
        }
        if !dated {
            line(out, b"date", extra.date.as_bytes());
        }
        if let Some(cookie) = extra.cookie {
            line(out, b"set-cookie", cookie);
        }
        if extra.close {
            line(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        let keeps = keeps && framing != Framing::Close;
        Ok(Answer { length: 0, status, framing, keeps })
    }
}

fn has_chunked(headers: &[Header<'_>]) -> bool {
    headers.iter().any(|it| it.name.eq_ignore_ascii_case("transfer-encoding"))
}

/// Headers that the instance names as meant for this hop only.
fn connection_names<'h>(headers: &[Header<'h>]) -> Vec<&'h str> {
    let lines = headers.iter().filter(|it| it.name.eq_ignore_ascii_case("connection"));
    let text = lines.filter_map(|it| std::str::from_utf8(it.value).ok());
    let names = text.flat_map(|text| text.split(',')).map(str::trim);
    // Naming a length would take away what the body is framed by.
    let known = |it: &&str| {
        !["", "close", "keep-alive", "content-length", "date"]
            .iter()
            .any(|other| other.eq_ignore_ascii_case(it))
    };
    names.filter(known).collect()
}

fn has_token(value: &[u8], word: &str) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTSIDE: Client<'static> = Client { addr: "192.0.2.1", internal: false, secure: false };

    fn simple(text: &str) -> Option<Request> {
        match read(text.as_bytes()) {
            Seen::Simple(request) => Some(request),
            Seen::Unfinished | Seen::Other => None,
        }
    }

    fn written(text: &str, client: Client<'_>) -> String {
        let mut out = Vec::new();
        simple(text).unwrap().write(text.as_bytes(), client, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_plainly_simple_is_taken() {
        let text = "POST /a/b?c=%20d HTTP/1.1\r\nHost: Shop.test:80\r\nContent-Length: 12\r\n\
                    Cookie: a=b; c=d\r\nConnection: Keep-Alive\r\n\r\n";
        let it = simple(text).unwrap();
        assert_eq!((it.method, it.target(text.as_bytes()), it.body), ("POST", "/a/b?c=%20d", 12));
        assert_eq!(
            (it.host(text.as_bytes()), it.length, it.last),
            ("Shop.test:80", text.len(), false)
        );
        assert_eq!(it.header(text.as_bytes(), "cookie"), Some("a=b; c=d"));
        for end in 1..text.len() {
            assert!(matches!(read(&text.as_bytes()[..end]), Seen::Unfinished), "{end}");
        }
    }

    #[test]
    fn s40_whatever_can_be_read_in_two_ways_is_not_taken() {
        let get =
            |lines: &str| simple(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).is_some();
        assert!(get("") && get("X-Other: 1\r\n"));
        for lines in [
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: 70000\r\n",
            "Host: b\r\n",
            "Upgrade: websocket\r\n",
            "Connection: X-Other\r\n",
            "Connection: upgrade\r\n",
            "Expect: 100-continue\r\n",
            "TE: trailers\r\n",
            "Cookie: a=b\r\nCookie: c=d\r\n",
            "X-Other: 1\n",
            "X-Other: 1\r\n folded\r\n",
            "X-Other: 1\rX-More: 2\r\n",
            "X Other: 1\r\n",
            ": 1\r\n",
        ] {
            assert!(!get(lines), "{lines:?}");
        }
        for head in [
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\"b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(simple(head).is_none(), "{head:?}");
        }
    }

    #[test]
    fn s40_an_instance_is_told_for_whom_and_nothing_of_this_hop() {
        let text = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1\r\n\
                    Keep-Alive: 5\r\nX-Mixed: Kept\r\nX-Request-Id: me\r\nX-Forwarded-Proto: https\r\n\r\n";
        assert_eq!(
            written(text, OUTSIDE),
            "GET /x HTTP/1.1\r\nHost: a\r\nX-Mixed: Kept\r\nX-Request-Id: me\r\n\
             x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\n\r\n"
        );
        let inside = Client { internal: true, ..OUTSIDE };
        assert_eq!(
            written(text, inside),
            "GET /x HTTP/1.1\r\nHost: a\r\nForwarded: for=1\r\nX-Mixed: Kept\r\nX-Request-Id: me\r\n\
             X-Forwarded-Proto: https\r\nx-forwarded-for: 1.1.1.1, 192.0.2.1\r\n\
             x-forwarded-host: a\r\n\r\n"
        );
        let bare = written("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n", OUTSIDE);
        let id = bare.split("x-request-id: ").nth(1).unwrap().trim_end();
        assert!(id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit()), "{bare}");
    }

    fn answered(text: &str, to_head: bool) -> Result<Option<(Answer, String)>, Malformed> {
        let mut out = Vec::new();
        let extra = Extra { date: "now", cookie: None, close: false };
        let answer = read_answer(text.as_bytes(), to_head, extra, &mut out)?;
        Ok(answer.map(|answer| (answer, String::from_utf8(out).unwrap())))
    }

    #[test]
    fn answers_are_framed_in_one_way() {
        let framing = |lines: &str, to_head| {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            answered(&text, to_head).map(|it| it.unwrap().0.framing)
        };
        assert_eq!(framing("Content-Length: 5\r\n", false), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 5\r\n", true), Ok(Framing::Empty));
        assert_eq!(framing("Content-Length: 0\r\n", false), Ok(Framing::Empty));
        assert_eq!(framing("Transfer-Encoding: chunked\r\n", false), Ok(Framing::Chunked));
        assert_eq!(framing("", false), Ok(Framing::Close));
        assert_eq!(
            framing("Content-Length: 5\r\nContent-Length: 5\r\n", false),
            Ok(Framing::Length(5))
        );
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: x\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(framing(bad, false), Err(Malformed), "{bad}");
        }
        let (answer, text) = answered(
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 Fine\r\nX-A: 1\r\nConnection: X-B, close\r\n\
             X-B: 2\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nrest",
            false,
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 Fine\r\nX-A: 1\r\ntransfer-encoding: chunked\r\ndate: now\r\n\r\n"
        );
        assert!(!answer.keeps);
        assert_eq!(answered("HTTP/1.1 101 Switch\r\n\r\n", false).unwrap_err(), Malformed);
        let old =
            answered("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false).unwrap().unwrap().0;
        assert!(!old.keeps);
        assert!(answered("HTTP/1.1 200 OK\r\nContent-Le", false).unwrap().is_none());
    }

    proptest! {
        /// What is taken has one host, one length at most, and is written as one head.
        #[test]
        fn no_bytes_are_too_strange(
            method in prop_oneof![Just("GET"), Just("POST"), Just("get"), Just("PRI")],
            lines in proptest::collection::vec(
                "(Host|Content-Length|X-A|Transfer-Encoding|Connection|Cookie|\\PC{0,4})[ ]?:[ -~\r\n\u{0}\u{e9}]{0,9}(\r\n|\n|\r)?",
                0..6,
            ),
            rest in "\\PC{0,20}",
        ) {
            let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n{rest}", lines.concat());
            if let Seen::Simple(request) = read(text.as_bytes()) {
                prop_assert!(request.length <= text.len());
                let mut out = Vec::new();
                request.write(text.as_bytes(), OUTSIDE, &mut out);
                let again = String::from_utf8_lossy(&out).into_owned();
                prop_assert_eq!(again.matches("\r\n\r\n").count(), 1, "{}", again);
                let lower = again.to_ascii_lowercase();
                prop_assert_eq!(lower.matches("\r\nhost: ").count(), 1);
                prop_assert!(lower.matches("\r\ncontent-length: ").count() <= 1);
                prop_assert!(!lower.contains("\r\ntransfer-encoding"));
            }
            let mut out = Vec::new();
            let extra = Extra { date: "now", cookie: None, close: false };
            let _any = read_answer(text.as_bytes(), false, extra, &mut out);
        }
    }
}
