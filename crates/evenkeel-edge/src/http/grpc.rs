//! What the edge understands of gRPC: how a call ended, and how to say that it did.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a call.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match kind.strip_prefix(b"application/grpc") {
        // gRPC-Web is plain HTTP.
        Some(rest) => !rest.starts_with(b"-web"),
        None => false,
    }
}

/// The HTTP status that says the same as the `grpc-status` in headers or trailers, as
/// `google/rpc/code.proto` pairs them. `None` where there is none.
pub(crate) fn status(headers: &HeaderMap) -> Option<u16> {
    let code = headers.get(STATUS)?.to_str().ok()?.parse::<u8>();
    Some(match code {
        Ok(0) => 200,
        Ok(1) => 499,
        Ok(3 | 9 | 11) => 400,
        Ok(4) => 504,
        Ok(5) => 404,
        Ok(6 | 10) => 409,
        Ok(7) => 403,
        Ok(8) => 429,
        Ok(12) => 501,
        Ok(14) => 503,
        Ok(16) => 401,
        Ok(_) | Err(_) => 500,
    })
}

/// Makes headers say that a call failed, as `doc/http-grpc-status-mapping.md` of gRPC maps the HTTP
/// status that another request would get.
pub(crate) fn fail(headers: &mut HeaderMap, status: StatusCode, message: &'static str) {
    let code = match status {
        StatusCode::BAD_REQUEST => "13",
        StatusCode::NOT_FOUND => "12",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => "8",
        StatusCode::GATEWAY_TIMEOUT => "4",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        _ => "2",
    };
    headers.insert(STATUS, HeaderValue::from_static(code));
    headers.insert(MESSAGE, HeaderValue::from_static(message.trim_ascii_end()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_type() {
        let call = |kind: &'static str| {
            is_call(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        assert!(call("application/grpc") && call("application/grpc+proto"));
        assert!(!call("application/grpc-web+proto") && !call("application/json"));
    }

    #[test]
    fn an_ended_call_has_the_status_of_its_http_twin() {
        let of = |code: &'static str| {
            status(&HeaderMap::from_iter([(STATUS, HeaderValue::from_static(code))]))
        };
        let all = ["0", "2", "3", "5", "12", "14", "16", "x"].map(of);
        assert_eq!(all, [200, 500, 400, 404, 501, 503, 401, 500].map(Some));
        assert_eq!(status(&HeaderMap::new()), None);
    }
}
