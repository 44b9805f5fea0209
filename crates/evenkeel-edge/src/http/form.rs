//! The two forms of a request's target: as HTTP/1.1 servers get it, and as HTTP/2 carries it.

use http::header::{HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Uri, Version};

const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Makes it what HTTP/1.1 sends: path and query, and the host in its header.
pub(crate) fn to_origin<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().scheme().is_none() && request.uri().authority().is_none() {
        return;
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = None;
    if let Some(authority) = parts.authority.take()
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if parts.path_and_query.as_ref().is_none_or(|it| it.as_str().is_empty()) {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_impossible| Uri::from_static("/"));
    request.headers_mut().remove(TE);
}

/// Takes the route's own path off the beginning of the target, and says which it was.
pub(crate) fn strip<B>(request: &mut Request<B>, path: &str) {
    let prefix = path.strip_suffix('/').unwrap_or(path);
    let Some(asked) = request.uri().path_and_query().map(|it| it.as_str()) else { return };
    let Some(rest) = asked.strip_prefix(prefix).filter(|_| !prefix.is_empty()) else { return };
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    if let Ok(uri) = rest.parse() {
        *request.uri_mut() = uri;
        if let Ok(prefix) = HeaderValue::from_str(prefix) {
            request.headers_mut().insert(FORWARDED_PREFIX, prefix);
        }
    }
}

/// Makes it what HTTP/2 sends: the host in the target, and the word that trailers are read here.
pub(crate) fn to_absolute<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    // HTTP/1.0 may ask for no host; HTTP/2 cannot.
    let local = || Authority::from_static("localhost");
    parts.authority = parts.authority.or(authority).or_else(|| Some(local()));
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_impossible| Uri::from_static("/"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> Request<()> {
        Request::builder().uri(uri).header(HOST, "h:1").body(()).unwrap()
    }

    #[test]
    fn targets_become_paths() {
        let origin = |uri: &str| {
            let mut it = request(uri);
            to_origin(&mut it);
            it.uri().to_string()
        };
        assert_eq!(origin("http://a:1/b?c=d"), "/b?c=d");
        assert_eq!(origin("http://a"), "/");
        assert_eq!(origin("http://a?x"), "/?x");
    }

    #[test]
    fn a_prefix_comes_off() {
        let stripped = |uri: &str, path: &str| {
            let mut it = request(uri);
            strip(&mut it, path);
            it.uri().to_string()
        };
        assert_eq!(stripped("/api/x?y", "/api"), "/x?y");
        assert_eq!(stripped("/api", "/api/"), "/");
        assert_eq!(stripped("/api?y", "/api"), "/?y");
        assert_eq!(stripped("/x", "/"), "/x");
    }

    #[test]
    fn a_request_goes_from_one_form_into_the_other_and_back() {
        let mut it = request("/b?c=d");
        to_absolute(&mut it);
        assert_eq!(it.uri().to_string(), "http://h:1/b?c=d");
        assert_eq!(
            (it.headers().get(HOST), it.headers()[TE].to_str().unwrap()),
            (None, "trailers")
        );
        to_origin(&mut it);
        assert_eq!(it.uri().to_string(), "/b?c=d");
        assert_eq!((it.headers()[HOST].to_str().unwrap(), it.headers().get(TE)), ("h:1", None));
    }
}
