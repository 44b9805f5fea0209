//! The durable form of the state: JSON with a format number.
//!
//! A format that has been released never changes: when the state's shape does, the number rises
//! and the old shape is read here. `tests/formats/` holds one state of each format.

use evenkeel_kernel::release::State;

/// The format that is written.
pub(crate) const FORMAT: u32 = 1;

/// A state that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the saved state, format {format}")]
pub(crate) struct Unreadable {
    format: u32,
    #[source]
    source: serde_json::Error,
}

/// The text to save.
pub(crate) fn encode(state: &State) -> String {
    serde_json::to_string(state).expect("a state has only text keys")
}

/// Reads a saved text back.
pub(crate) fn decode(format: u32, body: &str) -> Result<State, Unreadable> {
    // The store refuses formats newer than FORMAT before this is called; 1 is the first.
    serde_json::from_str(body).map_err(|source| Unreadable { format, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_every_format_can_be_read() {
        let texts = [(1, include_str!("../tests/formats/1.json"))];
        for (format, text) in texts {
            let state = decode(format, text).unwrap();
            assert!(!state.services.is_empty(), "format {format}");
            if format == FORMAT {
                let again: serde_json::Value = serde_json::from_str(&encode(&state)).unwrap();
                let kept: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(again, kept, "the shape changed: give it a new format number");
            }
        }
    }
}
