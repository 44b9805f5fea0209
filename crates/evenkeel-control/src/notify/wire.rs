//! The way to one receiver, with its secrets at hand, and one try to tell it something.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_kernel::model::{Address, Channel, KeptSecret, Receiver};
use evenkeel_local::secret;

use super::message::{Message, signature};
use super::{Around, command};
use crate::clock::wall_ms;
use crate::outbound::{self, Method, Request};

/// How long one receiver may take to answer. It only delays what itself is told.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How a receiver is reached. Never shown, as it holds secrets.
pub(crate) enum Wire {
    /// By a post of JSON.
    Webhook { url: String, key: Option<Vec<u8>> },
    /// By a post of a line.
    Slack { url: String },
    /// By a program.
    Command { holder: Vec<OsString>, run: Vec<String>, dir: PathBuf },
}

impl Wire {
    /// Reads what it takes to reach `receiver`. The error is a fragment for people.
    pub(crate) fn to(receiver: &Receiver, around: &Around) -> Result<Self, String> {
        let home = around.home.as_path();
        let key = receiver.secret.as_ref().map(|kept| key(kept, home)).transpose()?;
        Ok(match &receiver.to {
            Channel::Webhook(address) => Self::Webhook { url: url(address, home)?, key },
            Channel::Slack(address) => Self::Slack { url: url(address, home)? },
            Channel::Command { run, dir } => {
                let holder = around.holder.clone();
                Self::Command { holder, run: run.clone(), dir: PathBuf::from(dir) }
            }
        })
    }

    /// Tells it something, once. Blocks for a bounded time. The error is a fragment for people
    /// without anything secret.
    pub(crate) fn tell(&self, message: &Message) -> Result<(), String> {
        match self {
            Self::Webhook { url, key } => {
                let (event, id) = (message.event.as_str(), message.id.as_str());
                taken(&request(url, key.as_deref(), (event, id), message.json(), ANSWER_MAX))
            }
            Self::Slack { url } => taken(&post(url, Vec::new(), message.slack(), ANSWER_MAX)),
            Self::Command { holder, run, dir } => command::run(holder, run, dir, message),
        }
    }
}

/// Where to go. The error is a fragment for people.
pub(crate) fn url(address: &Address, home: &Path) -> Result<String, String> {
    match address {
        Address::Url(url) => Ok(url.clone()),
        Address::Secret(kept) => String::from_utf8(key(kept, home)?)
            .map_err(|_not| format!("what {} says is no URL", kept.from)),
    }
}

/// A secret without the line break at its end, which editors and `echo` leave there.
pub(crate) fn key(kept: &KeptSecret, home: &Path) -> Result<Vec<u8>, String> {
    let from = kept.from.to_string();
    let digest = kept.digest.as_ref().ok_or_else(|| format!("{from} was never read"))?;
    let content = secret::content(home, &from, digest)?;
    Ok(content.trim_ascii_end().to_vec())
}

/// A post that says what it is, an event and the number by which it is known when it comes twice,
/// and that it comes from who knows the key, if there is one.
pub(crate) fn request(
    url: &str,
    key: Option<&[u8]>,
    (event, id): (&str, &str),
    body: Vec<u8>,
    timeout: Duration,
) -> Request {
    let timestamp = wall_ms() / 1000;
    let mut headers = vec![
        ("X-Evenkeel-Event".to_owned(), event.to_owned()),
        ("X-Evenkeel-Delivery".to_owned(), id.to_owned()),
        ("X-Evenkeel-Timestamp".to_owned(), timestamp.to_string()),
    ];
    let signed = key.map(|key| signature(key, timestamp, &body));
    headers.extend(signed.map(|it| ("X-Evenkeel-Signature".to_owned(), it)));
    post(url, headers, body, timeout)
}

fn post(
    url: &str,
    mut headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
) -> Request {
    headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    let (method, url) = (Method::Post, url.to_owned());
    Request { method, url, headers, body: Some(body), timeout }
}

/// Sends it to a receiver, and sees whether that takes it.
fn taken(request: &Request) -> Result<(), String> {
    // What a receiver says of an error may repeat the path it was asked for, which is secret.
    match outbound::send(request).map_err(|error| error.to_string())?.status {
        200..300 => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}
