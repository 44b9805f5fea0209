//! The dump: journal and state as JSON lines, for people and their tools.
//!
//! A body that is JSON on one line is written as it is, byte for byte, so that the hashes can be
//! computed again from a dump; any other is written as a text. A state that is kept compressed is
//! written once as it is kept and once as it reads.

use std::io::Write;

use rusqlite::Connection;
use serde_json::json;

use crate::check;
use crate::error::StoreError;
use crate::packed;

/// Writes every entry, then the state.
pub(crate) fn write(connection: &Connection, out: &mut dyn Write) -> Result<(), StoreError> {
    let unread = |error| StoreError::sqlite("read the journal", error);
    let unwritten = |error| StoreError::io("write the dump", error);
    let mut query = connection
        .prepare(&format!("SELECT {} FROM journal ORDER BY seq", check::ENTRY))
        .map_err(unread)?;
    for entry in query.query_map([], check::entry).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let row = &entry.row;
        writeln!(
            out,
            r#"{{"seq":{},"release":{},"at":{},"actor":{},"kind":{},"body":{},"prev_hash":"{}","hash":"{}"}}"#,
            entry.seq.0,
            json!(row.release.map(|release| release.0)),
            row.at,
            json!(row.actor),
            json!(row.kind),
            embedded(&row.body),
            entry.prev_hash,
            entry.hash,
        )
        .map_err(unwritten)?;
    }
    if let Some((saved, hash)) = check::state(connection).map_err(unread)? {
        let reads =
            packed::unpack(&saved.body).map_err(|it| StoreError::io("read the state", it))?;
        let reads = match *reads == saved.body {
            true => String::new(),
            false => format!(r#","reads":{}"#, embedded(&reads)),
        };
        writeln!(
            out,
            r#"{{"state":{{"version":{},"epoch":{},"format":{},"at":{},"head":{},"body":{},"hash":"{hash}"{reads}}}}}"#,
            saved.version.0,
            saved.epoch.0,
            saved.format,
            saved.at,
            saved.head.0,
            embedded(&saved.body),
        )
        .map_err(unwritten)?;
    }
    out.flush().map_err(unwritten)
}

/// The text as it is if it is JSON on one line, else as a JSON text.
fn embedded(body: &str) -> String {
    let is_json = serde_json::from_str::<serde_json::Value>(body).is_ok();
    if is_json && !body.contains(['\n', '\r']) { body.to_owned() } else { json!(body).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_on_one_line_becomes_a_text() {
        let texts = [r#"{"b": 1.50, "a": 2}"#, "not json", "[1,\n2]", ""].map(embedded);
        assert_eq!(texts, [r#"{"b": 1.50, "a": 2}"#, r#""not json""#, r#""[1,\n2]""#, r#""""#]);
    }
}
