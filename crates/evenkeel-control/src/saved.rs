//! The durable form of the state: JSON with a format number.
//!
//! A format that has been released never changes: when the state's shape does, the number rises
//! and the old shape is read here. `tests/formats/` holds one state of each format.

use evenkeel_kernel::release::State;

/// The format of the state that is written, and the newest that can be read.
///
/// 2: what the requests of a rollout have told, and how they are judged.
/// 3: checks, jobs, scaling by load, receivers of news, and when nothing is released.
/// 4: services that are held, and those that have no instance until somebody asks for them.
pub const FORMAT: u32 = 4;

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
    // The store refuses formats newer than FORMAT before this is called. What came with a later
    // format has a default where it is missing.
    serde_json::from_str(body).map_err(|source| Unreadable { format, source })
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    /// A state as it is written today, to be read by people.
    fn written(state: &State) -> String {
        let value: serde_json::Value = serde_json::from_str(&encode(state)).unwrap();
        serde_json::to_string_pretty(&value).unwrap() + "\n"
    }

    #[test]
    fn s28_a_state_of_every_format_can_be_read() {
        let first = decode(1, include_str!("../tests/formats/1.json")).unwrap();
        assert!(!first.services.is_empty());
        // If this differs, the shape has changed: give it a new format number and a new file, and
        // leave this one as it is.
        expect_file!["../tests/formats/4.json"].assert_eq(&written(&first));
        for (format, body) in [
            (2, include_str!("../tests/formats/2.json")),
            (3, include_str!("../tests/formats/3.json")),
            (4, include_str!("../tests/formats/4.json")),
        ] {
            assert_eq!(decode(format, body).unwrap(), first);
        }
        assert_eq!(FORMAT, 4);
    }
}
