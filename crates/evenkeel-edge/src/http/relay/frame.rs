//! Where a body in chunks ends (RFC 9112, section 7.1).
//!
//! The bytes are passed on as they are; this only follows them. What is not exactly a chunk is an
//! error, as the next answer would begin somewhere else for somebody else.

/// The most digits of a chunk's size.
const DIGITS_MAX: u8 = 15;
/// The most bytes of a chunk's extensions, and of all trailers.
const EXTRA_MAX: u32 = 16 * 1024;

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    /// Bytes left of the chunk, while there are some.
    left: u64,
    digits: u8,
    extra: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a line of trailers.
    Trailer,
    TrailerText,
    TrailerEnd,
    /// The last line feed is missing.
    LastEnd,
    Over,
}

/// The bytes are no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoChunk;

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extra: 0 }
    }

    /// Whether the body is at its end.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Follows these bytes; how many of them belong to the body.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, NoChunk> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.state == State::Over {
                return Ok(at);
            }
            if self.state == State::Data {
                let here = bytes.len() - at;
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let taken = here.min(left);
                self.left -= u64::try_from(taken).unwrap_or(0);
                at += taken;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, NoChunk> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                self.left = self.left * 16 + digit;
                self.digits += 1;
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => State::Extension,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) if self.may_follow(byte) => State::Extension,
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                self.extra = 0;
                if self.left == 0 { State::Trailer } else { State::Data }
            }
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastEnd,
            (State::TrailerText, b'\r') => State::TrailerEnd,
            (State::Trailer | State::TrailerText, _) if self.may_follow(byte) => State::TrailerText,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Over,
            _ => return Err(NoChunk),
        })
    }

    fn may_follow(&mut self, byte: u8) -> bool {
        self.extra += 1;
        self.extra <= EXTRA_MAX && (byte == b'\t' || (byte >= b' ' && byte != 0x7f))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A;name=\"v\"\r\n0123456789\r\n00\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
        ] {
            let mut whole = Chunks::new();
            let text = format!("{body}HTTP/1.1");
            assert_eq!(whole.follow(text.as_bytes()), Ok(body.len()));
            assert!(whole.is_over());
            // Byte by byte as well.
            let mut pieces = Chunks::new();
            for (at, byte) in body.bytes().enumerate() {
                assert!(!pieces.is_over(), "{body:?} at {at}");
                assert_eq!(pieces.follow(&[byte]), Ok(1));
            }
            assert!(pieces.is_over());
        }
    }

    #[test]
    fn s40_what_is_not_exactly_a_chunk_is_none() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "5\nhello",
            "5\r\nhello\n0",
            "5\r\nhelloX",
            "0\r\n\n",
            "0\r\nX: 1\n",
            "1000000000000000\r\n",
            " 5\r\n",
            "5;a\n\r\n",
            "0x5\r\n",
        ] {
            assert_eq!(Chunks::new().follow(body.as_bytes()), Err(NoChunk), "{body:?}");
        }
        let long = format!("5;{}\r\n", "x".repeat(20_000));
        assert_eq!(Chunks::new().follow(long.as_bytes()), Err(NoChunk));
    }

    proptest! {
        #[test]
        fn pieces_and_the_whole_are_followed_alike(body in "[0-9a-f;xX\r\n: ]{0,40}", cut in 0_usize..40) {
            let bytes = body.as_bytes();
            let mut whole = Chunks::new();
            let once = whole.follow(bytes);
            let mut pieces = Chunks::new();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let twice = pieces.follow(first).and_then(|used| {
                if used < first.len() { Ok(used) } else { pieces.follow(second).map(|more| used + more) }
            });
            prop_assert_eq!(once, twice);
            if once.is_ok() {
                prop_assert_eq!(whole, pieces);
            }
        }
    }
}
