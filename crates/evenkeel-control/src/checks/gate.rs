//! What the webhook of a gate is asked, and what its answer says.
//!
//! Whatever is not a clear yes or no decides nothing. Of the URL nothing is repeated but its host, and
//! of an answer that cannot be read nothing at all.

use std::path::Path;

use evenkeel_kernel::model::GateWebhook;
use evenkeel_kernel::want::{Check, Question};
use evenkeel_kernel::world::{Decided, Reading};
use serde::{Deserialize, Serialize};

use crate::{notify, outbound};

/// How a question is told from the news that may go to the same place.
const EVENT: &str = "gate.asked";

/// The question, as it is posted.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    id: &'a str,
    event: &'a str,
    stack: String,
    release: u64,
    service: String,
    revision: String,
    /// `null` for a service that is new.
    stable_revision: Option<String>,
    /// From 1.
    step: usize,
    /// Who asked for the release.
    by: &'a str,
    text: &'a str,
}

/// The part of an answer that is read.
#[derive(Debug, Deserialize)]
struct Answered {
    approved: bool,
    by: Option<String>,
    reason: Option<String>,
}

/// Asks once. Blocks up to the question's timeout.
pub(super) fn ask(check: &Check, webhook: &GateWebhook, home: &Path) -> Reading {
    let unable = |why: String| Reading::Error(format!("could not ask: {why}"));
    let url = match notify::url(&webhook.to, home) {
        Ok(url) => url,
        Err(why) => return unable(why),
    };
    let key = match webhook.secret.as_ref().map(|kept| notify::key(kept, home)).transpose() {
        Ok(key) => key,
        Err(why) => return unable(why),
    };
    let Some((id, body)) = question(check) else {
        return unable("this is no question to a gate".to_owned());
    };
    let request = notify::request(&url, key.as_deref(), (EVENT, &id), body, check.timeout);
    match outbound::send(&request) {
        Ok(answer) => read(answer.status, &answer.body),
        Err(failed) => Reading::Error(failed.to_string()),
    }
}

/// The number by which it is known when it comes twice, and what is posted.
fn question(check: &Check) -> Option<(String, Vec<u8>)> {
    let Question::Gate { step, by, text, .. } = &check.ask else { return None };
    let (release, service, step) = (check.id.release.0, check.id.service.to_string(), step + 1);
    let id = format!("{release}/{service}/{step}/{}", check.run);
    let asked = Asked {
        id: &id,
        event: EVENT,
        stack: check.stack.to_string(),
        release,
        service,
        revision: check.canary.revision.to_string(),
        stable_revision: check.stable.as_ref().map(|side| side.revision.to_string()),
        step,
        by,
        text,
    };
    let body = serde_json::to_vec(&asked).expect("a question has only text keys");
    Some((id, body))
}

/// What an answer says.
fn read(status: u16, body: &[u8]) -> Reading {
    if status != 200 {
        return Reading::Nothing(format!("status {status}"));
    }
    if body.trim_ascii().is_empty() {
        return Reading::Decided(Decided::Approved { by: None });
    }
    match serde_json::from_slice(body) {
        Ok(Answered { approved: true, by, .. }) => Reading::Decided(Decided::Approved { by }),
        Ok(Answered { approved: false, reason, .. }) => {
            Reading::Decided(Decided::Refused { reason })
        }
        Err(_unclear) => Reading::Nothing("status 200, and nothing in it that decides".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use evenkeel_kernel::model::{
        About, Address, CheckId, KeptSecret, ReleaseId, RevisionNumber, SecretSource,
    };
    use evenkeel_kernel::want::Side;

    use super::*;

    fn check(webhook: GateWebhook) -> Check {
        Check {
            id: CheckId {
                release: ReleaseId(7),
                service: "web".parse().unwrap(),
                about: About::Gate { step: 0 },
            },
            run: 3,
            ask: Question::Gate { webhook, step: 0, by: "ann".to_owned(), text: "may it?".into() },
            timeout: Duration::from_secs(10),
            stack: "shop".parse().unwrap(),
            canary: Side { revision: RevisionNumber(5), instances: Vec::new() },
            stable: Some(Side { revision: RevisionNumber(4), instances: Vec::new() }),
        }
    }

    #[test]
    fn a_question_says_what_it_is_about() {
        let url = Address::Url("http://127.0.0.1:1/".to_owned());
        let (id, body) = question(&check(GateWebhook { to: url, secret: None })).unwrap();
        assert_eq!(id, "7/web/1/3");
        let expected = r#"{"id":"7/web/1/3","event":"gate.asked","stack":"shop","release":7,"service":"web","revision":"r5","stable_revision":"r4","step":1,"by":"ann","text":"may it?"}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn only_a_clear_yes_or_no_decides() {
        let by =
            |by: Option<&str>| Reading::Decided(Decided::Approved { by: by.map(str::to_owned) });
        let refused = |reason: Option<&str>| {
            Reading::Decided(Decided::Refused { reason: reason.map(str::to_owned) })
        };
        for (body, reading) in [
            ("", by(None)),
            ("\r\n", by(None)),
            (r#"{"approved": true}"#, by(None)),
            (r#"{"approved": true, "by": "CHG-1 (ann)", "reason": "x"}"#, by(Some("CHG-1 (ann)"))),
            (r#"{"approved": true, "by": null, "more": [1]}"#, by(None)),
            (r#"{"approved": false, "reason": "too late"}"#, refused(Some("too late"))),
            (r#"{"approved": false, "by": "ann"}"#, refused(None)),
        ] {
            assert_eq!(read(200, body.as_bytes()), reading, "{body}");
        }
        for unclear in [
            "ok",
            "true",
            "{}",
            "null",
            "[]",
            r#"{"approved": "true"}"#,
            r#"{"approved": 1}"#,
            r#"{"approved": null}"#,
            r#"{"Approved": true}"#,
            r#"{"approved": true"#,
            r#"{"approved": true, "approved": true}"#,
            r#"{"approved": true, "by": 7}"#,
            r#"{"approved": true} {"approved": false}"#,
        ] {
            let reading = read(200, unclear.as_bytes());
            assert!(matches!(reading, Reading::Nothing(_)), "{unclear}: {reading:?}");
        }
        for status in [201, 202, 204, 301, 307, 403, 404, 500, 503] {
            for body in ["", r#"{"approved": true}"#, r#"{"approved": false}"#] {
                let said = format!("status {status}");
                assert_eq!(read(status, body.as_bytes()), Reading::Nothing(said));
            }
        }
    }

    #[test]
    fn who_cannot_be_asked_decides_nothing_and_nothing_secret_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = Address::Url(format!("http://{closed}/hunter2?key=hunter2"));
        let from = SecretSource::File("/srv/key".to_owned());
        let unread = KeptSecret { from, digest: None };
        let ask =
            |webhook: GateWebhook| ask(&check(webhook.clone()), &webhook, Path::new("/nowhere"));
        let Reading::Error(why) = ask(GateWebhook { to: url.clone(), secret: None }) else {
            panic!("nobody listens there");
        };
        assert!(why.starts_with(&format!("could not ask {closed}: ")), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
        let unsigned = ask(GateWebhook { to: url, secret: Some(unread) });
        let why = "could not ask: file:/srv/key was never read".to_owned();
        assert_eq!(unsigned, Reading::Error(why), "without its key it is not asked at all");
    }
}
