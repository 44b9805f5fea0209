//! How the edge speaks to who issues certificates: HTTP/1.1 within TLS, one connection for each
//! request, a bound on everything.

use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certificates::read_file;

/// Longest wait for one answer; Let's Encrypt may take some seconds for a certificate.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes of one answer: a chain of certificates is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const HTTPS_PORT: u16 = 443;

/// A client that trusts whom the system trusts.
pub(super) struct Https(TlsConnector);

impl Https {
    /// Reads whom the system trusts; the roots in this file are trusted as well.
    pub(super) fn new(root: Option<&str>) -> io::Result<Self> {
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        if let Some(root) = root {
            let text = read_file(Path::new(root))?;
            let read = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
            roots = read.map_err(|error| io::Error::other(format!("{root}: {error}")))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier.map_err(io::Error::other)?))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

type Answer = Result<BytesResponse, Error>;

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let answer = timeout(ANSWER_MAX, exchange(&connector, request)).await;
            let answer = answer.unwrap_or_else(|_late| Err("it does not answer".into()));
            let told = |error: Failure| {
                let host = uri.host().unwrap_or_default();
                Error::Other(format!("could not speak to {host}: {}", chain(&*error)).into())
            };
            answer.map(BytesResponse::from).map_err(told)
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An error with what is beneath it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        beneath = error.source();
    }
    text
}

async fn exchange(
    connector: &TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err(format!("`{uri}` does not begin with `https`").into());
    }
    let host = uri.host().ok_or("there is no host in the URL")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())?;
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS_PORT))).await?;
    let stream = connector.connect(name, stream).await?;

    let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let target = uri.path_and_query().map_or("/", |it| it.as_str());
    *request.uri_mut() = target.parse::<Uri>()?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answered = async move {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    };
    let mut answered = pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // What it has said before it ended is there still.
        _ended = connection => answered.await,
    }
}
