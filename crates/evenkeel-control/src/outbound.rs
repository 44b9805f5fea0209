//! The one way by which control asks anything outside over HTTP or HTTPS.
//!
//! It is synchronous, for threads that may wait; nothing that a release waits for calls it. Whom it
//! may ask is bounded here: no address that only answers the machine itself with its credentials,
//! no redirect, no proxy that the environment names, no endless answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::crypto::ring;
use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// The largest answer that is read: far more than any metric or receiver has to say.
pub const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where clouds answer an instance with its own credentials, beside the link-local addresses.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google Cloud
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba Cloud
];

/// What is done with the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Something is read.
    Get,
    /// Something is handed over.
    Post,
}

/// One question.
#[derive(Clone)]
pub struct Request {
    /// What is done with the URL.
    pub method: Method,
    /// An `http://` or `https://` URL. May be a secret.
    pub url: String,
    /// Names and values. The values may be secrets.
    pub headers: Vec<(String, String)>,
    /// What is handed over; only with [`Method::Post`].
    pub body: Option<Vec<u8>>,
    /// For the whole exchange, from looking up the name to the last byte of the answer.
    pub timeout: Duration,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.parse().ok().and_then(|it| host(&it));
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &host)
            .finish_non_exhaustive()
    }
}

/// What came back, of whatever status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// At most [`ANSWER_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// Why there is no answer: a fragment for people, without anything of the URL but its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

/// Sends a request and reads the whole answer. Blocks up to its timeout.
///
/// # Errors
///
/// When nobody could be asked, or the answer did not come whole and in time. A status that means
/// failure is an answer.
pub fn send(request: &Request) -> Result<Answer, Failed> {
    let (uri, host) = target(&request.url)?;
    let exchange = |error| Failed::of(&host, request.timeout, error);
    let mut asked = http::Request::builder().uri(uri);
    for (name, value) in &request.headers {
        asked = asked.header(name, value);
    }
    let agent = agent(request.timeout);
    let bad = |error: http::Error| exchange(error.into());
    let mut answer = match request.method {
        Method::Get => agent.run(asked.method(http::Method::GET).body(()).map_err(bad)?),
        Method::Post => {
            let body = request.body.as_deref().unwrap_or_default();
            agent.run(asked.method(http::Method::POST).body(body).map_err(bad)?)
        }
    }
    .map_err(exchange)?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    Ok(Answer { status, body: body.map_err(exchange)? })
}

/// A new one each time: what the system trusts is then never older than the request.
fn agent(timeout: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(0)
        .proxy(None)
        .user_agent("evenkeel")
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Guarded(DefaultResolver::default()))
}

/// The URL, and its host for people.
fn target(url: &str) -> Result<(Uri, String), Failed> {
    let uri: Uri = url.parse().map_err(|_invalid| Failed::new("this is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Failed::new("the URL must begin with http:// or https://"));
    }
    let host = host(&uri).ok_or_else(|| Failed::new("the URL names no host"))?;
    Ok((uri, host))
}

/// Without what stands before an `@`, which may be a password.
fn host(uri: &Uri) -> Option<String> {
    let authority = uri.authority().filter(|it| !it.host().is_empty())?;
    Some(match authority.port_u16() {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    })
}

impl Failed {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Says what is known to be harmless; the texts of the library may hold the URL.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors")]
    fn of(host: &str, timeout: Duration, error: Error) -> Self {
        let because = match error {
            Error::Timeout(_) => format!("no whole answer within {} s", timeout.as_secs_f32()),
            Error::HostNotFound => "no such host".to_owned(),
            Error::BodyExceedsLimit(_) => {
                format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")
            }
            Error::LargeResponseHeader(..) => "the answer's head is too long".to_owned(),
            Error::Http(_) => "a header has characters that may not stand there".to_owned(),
            Error::Protocol(_) => "the answer is not HTTP".to_owned(),
            Error::Rustls(error) => error.to_string(),
            Error::Io(error) => match error.downcast::<Refused>() {
                Ok(refused) => refused.to_string(),
                Err(error) => error.to_string(),
            },
            _ => "the exchange failed".to_owned(),
        };
        Self(format!("could not ask {host}: {because}"))
    }
}

/// A host that only has addresses which nobody may be sent to.
#[derive(Debug, thiserror::Error)]
#[error("{0} is a link-local or metadata address, which is never asked")]
struct Refused(IpAddr);

/// Looks names up, and leaves out what is refused. The connection goes to what is left, so a name
/// cannot mean another address a moment later.
#[derive(Debug)]
struct Guarded(DefaultResolver);

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        let mut left = self.empty();
        found.iter().filter(|it| !refused(it.ip())).for_each(|it| left.push(*it));
        match found.first().map(SocketAddr::ip) {
            Some(first) if left.is_empty() => Err(Error::Io(std::io::Error::other(Refused(first)))),
            _ => Ok(left),
        }
    }
}

/// Also when it is written as an IPv6 address that stands for one of IPv4.
fn refused(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => match embedded(it) {
            Some(inner) => return refused(IpAddr::V4(inner)),
            None => it.is_unicast_link_local(),
        },
    };
    link_local || METADATA.contains(&address)
}

/// The address of IPv4 that is mapped, or that a NAT64 gateway would be asked for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// Answers one connection with what it is given, and returns what was asked.
    fn server(
        act: impl FnOnce(TcpStream) + Send + 'static,
    ) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret-path?token=secret", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            act(stream);
            String::from_utf8(head).unwrap()
        });
        (url, asked)
    }

    fn get(url: &str) -> Request {
        let headers = vec![("authorization".to_owned(), "secret".to_owned())];
        Request {
            method: Method::Get,
            url: url.to_owned(),
            headers,
            body: None,
            timeout: Duration::from_secs(20),
        }
    }

    fn failure(request: &Request) -> String {
        let text = send(request).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
        assert!(!format!("{request:?}").contains("secret"));
        text
    }

    #[test]
    fn any_status_is_an_answer() {
        for status in [200, 404, 503] {
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\n\r\nyes");
            let (url, asked) = server(move |mut it| it.write_all(answer.as_bytes()).unwrap());
            assert_eq!(send(&get(&url)), Ok(Answer { status, body: b"yes".to_vec() }));
            let asked = asked.join().unwrap();
            assert!(asked.starts_with("GET /secret-path?token=secret HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains("authorization: secret\r\n"), "{asked}");
        }
    }

    #[test]
    fn a_body_is_posted_with_its_length() {
        let (url, asked) = server(|mut it| {
            let mut body = [0; 5];
            it.read_exact(&mut body).unwrap();
            assert_eq!(&body, b"hello");
            it.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        });
        let request = Request { method: Method::Post, body: Some(b"hello".to_vec()), ..get(&url) };
        assert_eq!(send(&request), Ok(Answer { status: 204, body: Vec::new() }));
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST ") && asked.contains("content-length: 5\r\n"), "{asked}");
    }

    #[test]
    fn s40_a_redirect_is_an_answer_and_not_a_way() {
        let (url, asked) = server(|mut it| {
            let elsewhere = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
            it.write_all(elsewhere).unwrap();
        });
        assert_eq!(send(&get(&url)).unwrap().status, 302);
        asked.join().unwrap();
    }

    #[test]
    fn an_answer_that_drips_ends_with_the_timeout() {
        let (url, asked) = server(|mut it| {
            it.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").unwrap();
            // Each byte is in time for itself; all of them are not.
            for _ in 0..1_000 {
                if it.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let began = Instant::now();
        let text = failure(&Request { timeout: Duration::from_millis(300), ..get(&url) });
        assert!(text.ends_with("no whole answer within 0.3 s"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(10));
        asked.join().unwrap();
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_read_to_its_end() {
        let (url, asked) = server(|mut it| {
            it.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
            let all = vec![b'x'; 2 * usize::try_from(ANSWER_BYTES_MAX).unwrap()];
            // It is left before the end.
            it.write_all(&all).ok();
        });
        let text = failure(&get(&url));
        assert!(text.ends_with("the answer is longer than 1048576 bytes"), "{text}");
        asked.join().unwrap();
    }

    #[test]
    fn s40_what_nobody_may_be_sent_to_is_refused_without_a_connection() {
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            let text = failure(&get(&format!("http://{host}/secret")));
            assert!(
                text.ends_with("is a link-local or metadata address, which is never asked"),
                "{text}"
            );
        }
        for address in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:127.0.0.1"] {
            assert!(!refused(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_cannot_be_asked_says_so_without_its_url() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = failure(&get(&format!("http://secret:secret@{free}/secret")));
        assert!(text.starts_with(&format!("could not ask {free}: ")), "{text}");
        assert_eq!(
            failure(&get("ftp://host/secret")),
            "the URL must begin with http:// or https://"
        );
        assert_eq!(failure(&get("/secret")), "the URL must begin with http:// or https://");
        assert_eq!(failure(&get("http://a b/secret")), "this is no URL");
    }

    #[test]
    fn https_speaks_tls_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/secret", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            hello[0]
        });
        let text = failure(&get(&url));
        assert!(text.starts_with("could not ask 127.0.0.1:"), "{text}");
        const HANDSHAKE: u8 = 22;
        assert_eq!(asked.join().unwrap(), HANDSHAKE);
    }
}
