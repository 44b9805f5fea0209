//! Large states are kept compressed: a stack of a thousand services says everything several times
//! over, as it is, as it will be, and by what runs.
//!
//! What is kept stays a text, and a small state stays as it is, so that people can read it in an
//! emergency.

use std::borrow::Cow;
use std::io::{self, Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zstd::stream::{Decoder, Encoder};

/// The largest text that is kept as it is, in bytes.
const PLAIN_BYTES_MAX: usize = 64 << 10;
/// What a compressed text begins with; base64 follows. No JSON begins so.
const COMPRESSED: &str = "zstd:";
/// Quick, and finds again what was said a window before; slower levels gain next to nothing.
const LEVEL: i32 = 3;
/// Two to this power is how far back something said before is looked for, in bytes.
const WINDOW_LOG: u32 = 24;
/// The longest text that is unpacked, in bytes: a damaged one shall not fill the memory.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// The text as it is kept.
pub(crate) fn pack(text: &str) -> io::Result<Cow<'_, str>> {
    if text.len() <= PLAIN_BYTES_MAX {
        return Ok(Cow::Borrowed(text));
    }
    let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.write_all(text.as_bytes())?;
    let mut kept = COMPRESSED.to_owned();
    STANDARD_NO_PAD.encode_string(encoder.finish()?, &mut kept);
    Ok(Cow::Owned(kept))
}

/// The text that was kept so.
pub(crate) fn unpack(kept: &str) -> io::Result<Cow<'_, str>> {
    let Some(packed) = kept.strip_prefix(COMPRESSED) else { return Ok(Cow::Borrowed(kept)) };
    let packed = STANDARD_NO_PAD.decode(packed).map_err(io::Error::other)?;
    let mut decoder = Decoder::with_buffer(packed.as_slice())?;
    decoder.window_log_max(WINDOW_LOG)?;
    let mut text = String::new();
    decoder.take(UNPACKED_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    /// Lines of which each is like no other, four times over.
    fn said_again_and_again() -> String {
        let line = |number: usize| format!("{}\n", chain::fact("line", &number.to_string()));
        (0..2_000).map(line).collect::<String>().repeat(4)
    }

    #[test]
    fn what_is_said_before_is_kept_once() {
        let text = said_again_and_again();
        let kept = pack(&text).unwrap();
        assert!(kept.len() * 4 < text.len(), "{} of {}", kept.len(), text.len());
        assert_eq!(unpack(&kept).unwrap(), text);
    }

    #[test]
    fn a_small_text_is_kept_as_it_is() {
        for text in ["", "{}", &"x".repeat(PLAIN_BYTES_MAX)] {
            assert_eq!((pack(text).unwrap(), unpack(text).unwrap()), (text.into(), text.into()));
        }
    }

    #[test]
    fn a_damaged_text_is_an_error() {
        let kept = pack(&said_again_and_again()).unwrap().into_owned();
        for damaged in [&kept[..kept.len() / 2], &kept[..COMPRESSED.len()], "zstd:#", "zstd:AAAA"] {
            assert!(unpack(damaged).is_err(), "{damaged}");
        }
    }
}
