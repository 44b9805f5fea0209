//! How things look on a terminal: colour where there is one, plain lines where there is none.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_control::client;

/// Colours by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Bold,
}

/// Whether standard output is a terminal that wants colour.
pub(crate) fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Paints `text`, if there is colour.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    if !has_colour() {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
        Tone::Dim => "2",
        Tone::Bold => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Writes one line to standard output. A reader that has gone away ends the program quietly, as
/// it does for `head`.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")));
    drop(out.flush());
}

/// Writes text as it is, without a line end, and shows it at once.
pub(crate) fn raw(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}

/// Writes one JSON value as one line.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// Writes to standard error.
#[expect(clippy::print_stderr, reason = "messages for people go to standard error")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Shows why a command failed: the problems of a file first, then what and why, then a hint.
pub(crate) fn print_error(error: &anyhow::Error, as_json: bool) {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref::<client::CallError>() {
        Some(client::CallError::Refused(failure)) => Some(failure),
        _ => None,
    });
    if as_json {
        let value = match refused {
            Some(failure) => serde_json::json!(failure),
            None => serde_json::json!({ "error": format!("{error:#}"), "hint": hint(error) }),
        };
        line(&value.to_string());
        return;
    }
    for problem in refused.iter().flat_map(|failure| &failure.problems) {
        note(problem.rendered.trim_end());
        note("");
    }
    note(&format!("evenkeel: {error:#}"));
    let hint = refused.and_then(|failure| failure.hint.clone()).or_else(|| hint(error));
    if let Some(hint) = hint {
        note(&format!("  hint: {hint}"));
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| match cause.downcast_ref::<client::CallError>() {
        Some(client::CallError::Unreachable { .. }) => {
            Some("is it running? `evenkeel up` starts it, `evenkeel doctor` looks".to_owned())
        }
        _ => None,
    })
}

/// A table with aligned columns; the first row is its head.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width + 2 - visible(cell)));
            }
            text.trim_end().to_owned()
        })
        .collect()
}

/// The length of a text on the screen: without colour codes.
fn visible(text: &str) -> usize {
    let mut length = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // Ours end with the first letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            length += 1;
        }
    }
    length
}

/// Milliseconds since 1970 UTC now.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `14:32:07`, in UTC, or in the local zone where the system tells its offset.
pub(crate) fn clock(at_ms: u64) -> String {
    let local = i64::try_from(at_ms / 1000).unwrap_or(0) + zone_offset();
    let day = local.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", day / 3600, day % 3600 / 60, day % 60)
}

/// Seconds east of UTC, as `date +%z` tells once per run; 0 where it does not.
fn zone_offset() -> i64 {
    static OFFSET: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *OFFSET.get_or_init(|| {
        let output = std::process::Command::new("date").arg("+%z").output().ok();
        let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
        text.and_then(|text| offset_of(text.trim())).unwrap_or(0)
    })
}

/// The seconds that `+0530` means.
fn offset_of(text: &str) -> Option<i64> {
    let (sign, digits) = text.split_at_checked(1)?;
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = digits.get(2..4)?.parse().ok()?;
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// How long ago, or how long until: `5s`, `3m`, `2h`.
pub(crate) fn span(ms: u64) -> String {
    let rounded = if ms >= 10_000 { ms / 1000 * 1000 } else { ms / 100 * 100 };
    evenkeel_kernel::time::human(Duration::from_millis(rounded))
}

/// A span that may be days: `5m`, `3h`, `60 days`.
pub(crate) fn long(seconds: u64) -> String {
    match seconds / (24 * 3600) {
        0 | 1 => span(seconds * 1000),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_spans_are_days() {
        assert_eq!([300, 47 * 3600, 48 * 3600].map(long), ["5m", "47h", "2 days"]);
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let lines = table(&[row("NAME", "STATE"), row("\x1b[32mweb\x1b[0m", "ok"), row("db", "")]);
        assert_eq!(lines, ["NAME  STATE", "\x1b[32mweb\x1b[0m   ok", "db"]);
    }

    #[test]
    fn zones_are_read_as_date_writes_them() {
        assert_eq!(offset_of("+0530"), Some(19_800));
        assert_eq!(offset_of("-0800"), Some(-28_800));
        assert_eq!(offset_of("CET"), None);
    }
}
