//! Finds requests whose length can be read in two ways.
//!
//! hyper refuses most of them. Where both `Transfer-Encoding` and `Content-Length` are given it
//! takes the former and hides the latter, and what goes to the instance is framed anew, so nothing
//! can be smuggled; but such a request is an attack or a fault, and is to be refused. So the bytes
//! of each head are kept until it is parsed, and looked at when it has a `Transfer-Encoding`.

use http::HeaderMap;
use http::header::TRANSFER_ENCODING;

use crate::limits::HEAD_BYTES;

/// The bytes that came since the last answer.
#[derive(Debug, Default)]
pub(crate) struct Tap(Vec<u8>);

impl Tap {
    pub(crate) fn record(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
        // One large head must not keep its memory for the life of the connection.
        self.0.shrink_to(1_024);
    }

    /// Whether the head names a `Content-Length`. A head that came with the body of the request
    /// before it (pipelined) is not here and is taken as hyper takes it.
    pub(crate) fn is_ambiguous(&self, method: &str) -> bool {
        let request = self.0.strip_prefix(method.as_bytes());
        if !request.is_some_and(|rest| rest.starts_with(b" ")) {
            return false;
        }
        let lines = self.0.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let name = b"content-length";
        lines.skip(1).take_while(|line| !line.is_empty()).any(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line.get(name.len()).is_some_and(|next| matches!(next, b':' | b' ' | b'\t'))
        })
    }
}

/// Whether the only coding of the body is `chunked`. Others would have to be understood to know
/// where the body ends.
pub(crate) fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let first = values.next();
    first.is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(head: &str) -> bool {
        let mut tap = Tap::default();
        // As it comes from a socket: in pieces.
        head.as_bytes().chunks(7).for_each(|piece| tap.record(piece));
        tap.is_ambiguous("POST")
    }

    #[test]
    fn a_length_beside_chunks_is_seen_in_the_head_only() {
        assert!(ambiguous(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-length: 3\r\n\r\n"
        ));
        assert!(ambiguous("POST / HTTP/1.1\ncontent-length: 3\ntransfer-encoding: chunked\n\n"));
        assert!(!ambiguous("POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n"));
        assert!(!ambiguous("POST / HTTP/1.1\r\nContent-Length-X: 3\r\n\r\n"));
        assert!(!ambiguous("POST / HTTP/1.1\r\nA: b\r\n\r\nContent-Length: 3\r\n\r\n"));
        assert!(!ambiguous("rest of a body\r\nContent-Length: 3\r\n\r\n"));
    }

    #[test]
    fn only_one_plain_chunked_is_plain() {
        let plain = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, http::HeaderValue::from_static(value));
            }
            is_plainly_chunked(&headers)
        };
        assert!(plain(&["chunked"]) && plain(&["Chunked"]));
        assert!(
            !plain(&["gzip, chunked"]) && !plain(&["chunked", "chunked"]) && !plain(&["identity"])
        );
    }

    #[test]
    fn the_tap_is_bounded() {
        let mut tap = Tap::default();
        tap.record(&vec![b'a'; HEAD_BYTES]);
        tap.record(b"more");
        assert_eq!(tap.0.len(), HEAD_BYTES);
        tap.clear();
        assert!(tap.0.capacity() <= 1_024);
    }
}
