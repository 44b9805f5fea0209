//! What a receiver is told, in each of the three forms, and the signature by which it knows us.

use evenkeel_kernel::model::StackName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use crate::api::types::Event;

/// The longest text that is told, in bytes. A message with it fits into a pipe's buffer (64 KiB on
/// Linux) however it is escaped.
const TEXT_MAX: usize = 8 << 10;
/// The event by which a receiver is tried out; no row of the journal.
pub(crate) const TEST: &str = "notify.test";

/// One event, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    /// The same for every try, so that a receiver can drop what comes twice.
    pub(crate) id: String,
    /// Its stable name.
    pub(crate) event: String,
    /// When, in UTC: `2026-11-25T04:00:00.000Z`.
    pub(crate) at: String,
    /// The stack's name.
    pub(crate) stack: String,
    /// The release it belongs to.
    pub(crate) release: Option<u64>,
    /// Who decided.
    pub(crate) actor: String,
    /// One sentence.
    pub(crate) text: String,
}

impl Message {
    /// A row of the journal.
    pub(crate) fn of(event: &Event, stack: &StackName) -> Self {
        Self {
            id: event.seq.to_string(),
            event: event.kind.clone(),
            at: utc(event.at_ms),
            stack: stack.to_string(),
            release: event.release,
            actor: event.actor.clone(),
            text: shortened(&event.text),
        }
    }

    /// A try by `actor`.
    pub(crate) fn test(stack: &StackName, actor: &str, now_ms: u64) -> Self {
        Self {
            id: format!("test-{now_ms}"),
            event: TEST.to_owned(),
            at: utc(now_ms),
            stack: stack.to_string(),
            release: None,
            actor: actor.to_owned(),
            text: format!("{actor} tries whether this receiver is reached"),
        }
    }

    /// The body for a webhook, and what a command reads.
    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a message has only text keys")
    }

    /// The body for Slack: one line.
    pub(crate) fn slack(&self) -> Vec<u8> {
        let release = self.release.map(|id| format!(" #{id}")).unwrap_or_default();
        let line = format!("{}{release}: {}", self.stack, self.text).replace(['\n', '\r'], " ");
        let escaped = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        serde_json::json!({ "text": escaped }).to_string().into_bytes()
    }

    /// What a command finds in its environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 7] {
        let release = self.release.map(|id| id.to_string()).unwrap_or_default();
        let clean = |text: &str| text.replace('\0', "");
        [
            ("EVENKEEL_ID", self.id.clone()),
            ("EVENKEEL_EVENT", self.event.clone()),
            ("EVENKEEL_AT", self.at.clone()),
            ("EVENKEEL_STACK", self.stack.clone()),
            ("EVENKEEL_RELEASE", release),
            ("EVENKEEL_ACTOR", clean(&self.actor)),
            ("EVENKEEL_TEXT", clean(&self.text)),
        ]
    }
}

/// `sha256=…`: who knows `key` has said `body` at `timestamp`.
pub(crate) fn signature(key: &[u8], timestamp: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|it| format!("{it:02x}")).collect();
    format!("sha256={hex}")
}

fn shortened(text: &str) -> String {
    match text.len() > TEXT_MAX {
        true => format!("{}…", &text[..text.floor_char_boundary(TEXT_MAX)]),
        false => text.to_owned(),
    }
}

/// A moment as RFC 3339 writes it.
fn utc(at_ms: u64) -> String {
    let (days, ms) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date so many days after 1970-01-01. Counts in years that begin in March, so that the leap
/// day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_others_read_them() {
        // From `date -u -d @… +%FT%T`.
        for (at_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_005, "2024-02-29T12:34:56.005Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(utc(at_ms), text);
        }
    }

    #[test]
    fn a_signature_is_what_others_compute() {
        // From `printf 1700000000.hello | openssl dgst -sha256 -hmac key`.
        let hex = "4d583a269f4f276a3fa80ff31b5a01879a848096983222a17893d198418939aa";
        assert_eq!(signature(b"key", 1_700_000_000, b"hello"), format!("sha256={hex}"));
    }

    #[test]
    fn slack_gets_one_line_that_is_no_markup() {
        let event = Event {
            seq: 12,
            release: Some(7),
            at_ms: 0,
            actor: "ann".to_owned(),
            kind: "release.hotfix".to_owned(),
            text: "because a < b\n& <@everyone>".to_owned(),
        };
        let message = Message::of(&event, &"shop".parse().unwrap());
        let text = String::from_utf8(message.slack()).unwrap();
        assert_eq!(text, r#"{"text":"shop #7: because a &lt; b &amp; &lt;@everyone&gt;"}"#);
        let json = String::from_utf8(message.json()).unwrap();
        let expected = r#"{"id":"12","event":"release.hotfix","at":"1970-01-01T00:00:00.000Z","stack":"shop","release":7,"actor":"ann","text":"because a < b\n& <@everyone>"}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn a_long_text_still_fits_into_a_pipe() {
        let event = Event {
            seq: 1,
            release: None,
            at_ms: 0,
            actor: "a".to_owned(),
            kind: "lock.closed".to_owned(),
            text: "\u{1}é".repeat(TEXT_MAX),
        };
        assert!(Message::of(&event, &"shop".parse().unwrap()).json().len() < 60 << 10);
    }
}
