//! One client connection, and the first look at each of its requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{Answer, Cause};
use super::forward;
use super::framing;
use super::headers;
use super::search::Destination;
use super::watch::{Metered, Order, Watched};
use super::worker::{Place, Worker};
use crate::limits::{HEAD_BYTES, URI_BYTES};

/// What all requests of one connection have in common.
struct Client {
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    addr: HeaderValue,
}

/// Serves one client connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    watched: Rc<Watched>,
    place: Rc<Place>,
    stream: TcpStream,
    peer: IpAddr,
) {
    // An address that cannot be written as a header does not exist.
    let addr = HeaderValue::from_str(&peer.to_canonical().to_string());
    let addr = addr.expect("an address is visible ASCII");
    let _nagle = stream.set_nodelay(true);
    let io = TokioIo::new(Metered { stream, signs: std::sync::Arc::clone(&watched.signs) });
    let client = Rc::new(Client { worker, watched, place, addr });
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request| {
            let client = Rc::clone(&client);
            async move { Ok::<_, Infallible>(client.answer(request).await) }
        })
    };
    let mut connection = pin!(
        Builder::new()
            .preserve_header_case(true)
            .max_buf_size(HEAD_BYTES)
            .max_header_size(HEAD_BYTES)
            .serve_connection(io, service)
            .with_upgrades()
    );
    let mut finishing = false;
    let ended = poll_fn(|cx| {
        match client.watched.order(cx) {
            Order::Go => {}
            Order::Finish if finishing => {}
            Order::Finish => {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Cut => return Poll::Ready(Ok(())),
        }
        Pin::new(&mut connection).poll(cx)
    });
    if let Err(error) = ended.await
        && error.is_parse()
    {
        // hyper has answered 400, 414 or 431 itself.
        client.worker.shared.rejections.rejected.fetch_add(1, Ordering::Relaxed);
    }
}

impl Client {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let turn = self.watched.begin();
        let mut response = match self.admit(request) {
            Ok((request, destination)) => {
                forward::forward(&self.worker, &destination, request, turn).await
            }
            Err(cause) => Answer::own(&self.worker, cause, Some(turn)),
        };
        if self.worker.shared.closing.load(Ordering::Relaxed)
            && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Checks a request and makes it what an instance should see.
    fn admit(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<(forward::Forwarded, Destination), Cause> {
        let target = request.uri();
        let length = target.path_and_query().map_or(0, |it| it.as_str().len());
        if length > URI_BYTES {
            return Err(Cause::UriTooLong);
        }
        if request.method() == Method::CONNECT {
            return Err(Cause::MethodNotAllowed);
        }
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        if chunked {
            let ambiguous = request.headers().contains_key(CONTENT_LENGTH)
                || !framing::is_plainly_chunked(request.headers())
                || self.watched.is_ambiguous(request.method().as_str());
            if ambiguous {
                return Err(Cause::AmbiguousLength);
            }
        }
        let host_needed = request.version() == Version::HTTP_11;
        let uri = request.uri().clone();
        headers::settle_host(&uri, request.headers_mut(), host_needed).ok_or(Cause::Malformed)?;
        if uri.scheme().is_some() || uri.authority().is_some() {
            *request.uri_mut() = origin_form(uri);
        }
        let destination = self.destination(&request);
        let upgrade = headers::strip_hop_by_hop(request.headers_mut());
        let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        headers::strip_request(request.headers_mut(), chunked, upgrade.is_some());
        if upgrade.is_some() {
            headers::keep_upgrade(request.headers_mut());
        }
        headers::set_forwarded(request.headers_mut(), &self.addr, self.place.internal);
        *request.version_mut() = Version::HTTP_11;
        Ok((forward::Forwarded { request, upgrade }, destination))
    }

    fn destination(&self, request: &Request<Incoming>) -> Destination {
        if self.place.internal {
            return Destination::Listener(Rc::clone(&self.place));
        }
        let host = request.headers().get(HOST).cloned();
        Destination::Route { host, uri: request.uri().clone() }
    }
}

/// The target as a server gets it: path and query only.
fn origin_form(uri: Uri) -> Uri {
    let mut parts = uri.into_parts();
    parts.scheme = None;
    parts.authority = None;
    if parts.path_and_query.as_ref().is_none_or(|it| it.as_str().is_empty()) {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).unwrap_or_else(|_impossible| Uri::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_paths() {
        let origin = |uri: &str| origin_form(uri.parse().unwrap()).to_string();
        assert_eq!(origin("http://a:1/b?c=d"), "/b?c=d");
        assert_eq!(origin("http://a"), "/");
        assert_eq!(origin("http://a?x"), "/?x");
    }
}
