//! Receivers: who is told what happens, and how. Where a secret is needed there is only where it
//! comes from, and a digest of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::Digest;
use super::service::SecretSource;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// How they are reached.
    pub to: Channel,
    /// What each message to a webhook is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeptSecret>,
    /// Names of events, or `release.*`; empty is what is told to everybody.
    pub events: Vec<String>,
}

/// How a receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// JSON is posted there.
    Webhook(Address),
    /// What Slack, and those who understand the same, take.
    Slack(Address),
    /// A program is run.
    Command {
        /// The program and its arguments; never empty, never given to a shell.
        run: Vec<String>,
        /// Absolute path of the folder that it runs in.
        dir: String,
    },
}

/// A URL, or where it is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// It stands in the file.
    Url(String),
    /// It is a secret.
    Secret(KeptSecret),
}

/// A secret that control itself needs: where it comes from, never what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSecret {
    /// Where its content is read when a change is handed in.
    pub from: SecretSource,
    /// What was read, as a digest that only this machine can make; none before it was read.
    pub digest: Option<Digest>,
}

impl Receiver {
    /// Every secret that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        self.to.secret().into_iter().chain(&self.secret)
    }

    /// Every secret that it needs, to say what was read.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut KeptSecret> {
        let address = match &mut self.to {
            Channel::Webhook(Address::Secret(it)) | Channel::Slack(Address::Secret(it)) => Some(it),
            Channel::Webhook(Address::Url(_))
            | Channel::Slack(Address::Url(_))
            | Channel::Command { .. } => None,
        };
        address.into_iter().chain(&mut self.secret)
    }
}

impl Channel {
    /// Its key in the file.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Command { .. } => "command",
        }
    }

    fn secret(&self) -> Option<&KeptSecret> {
        match self {
            Self::Webhook(Address::Secret(it)) | Self::Slack(Address::Secret(it)) => Some(it),
            Self::Webhook(Address::Url(_))
            | Self::Slack(Address::Url(_))
            | Self::Command { .. } => None,
        }
    }
}

impl Address {
    /// Where it is read from, if it is a secret.
    pub(super) fn secret(&self) -> Option<&KeptSecret> {
        match self {
            Self::Secret(it) => Some(it),
            Self::Url(_) => None,
        }
    }

    /// The same, to say what was read.
    pub(super) fn secret_mut(&mut self) -> Option<&mut KeptSecret> {
        match self {
            Self::Secret(it) => Some(it),
            Self::Url(_) => None,
        }
    }
}

/// For people: of a URL only its host, as the rest is often a secret.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(address) | Self::Slack(address) => address.fmt(f),
            Self::Command { run, .. } => write!(f, "{run:?}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            Self::Secret(secret) => return secret.fmt(f),
            Self::Url(url) => url,
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}/…")
    }
}

impl fmt::Display for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{} ({digest})", self.from),
            None => self.from.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_the_host_is_shown() {
        for (url, shown) in [
            ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/…"),
            ("http://user:secret@127.0.0.1:9/?token=secret", "http://127.0.0.1:9/…"),
        ] {
            assert_eq!(Channel::Slack(Address::Url(url.to_owned())).to_string(), shown);
        }
    }
}
