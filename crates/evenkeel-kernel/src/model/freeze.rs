//! When nothing new is released, and how fast the rest is.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::notify::{Address, KeptSecret};
use crate::calendar::Window;

/// A time in which nothing new is released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// When.
    pub window: Window,
    /// Whose clocks say so: the name of a time zone.
    pub zone: String,
    /// Why.
    pub reason: Option<String>,
    /// A release that was started before is held at its step, and goes on afterwards.
    pub holds: bool,
}

/// How fast changes may come. What is `None` is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How many instances a release may be starting at one time, over all of its services.
    pub starts: Option<u32>,
    /// The least time between the starts of two releases of one service.
    pub between: Option<Duration>,
}

/// Whose approval a step waits for before the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Who may approve, by their user names; anybody, if it is empty.
    pub approvers: Vec<String>,
    /// Whether the person who asked for the release may.
    pub own: bool,
    /// The program that is asked too; its word needs nobody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<GateWebhook>,
}

/// A program elsewhere that decides whether a step passes its gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateWebhook {
    /// Where it is asked.
    pub to: Address,
    /// What each question is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeptSecret>,
}

impl GateWebhook {
    /// Every secret that it takes to ask it.
    pub fn secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        self.to.secret().into_iter().chain(&self.secret)
    }

    /// The same, to say what was read.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut KeptSecret> {
        self.to.secret_mut().into_iter().chain(&mut self.secret)
    }
}

/// For people: of a URL only its host, as the rest is often a secret.
impl fmt::Display for GateWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.secret {
            Some(secret) => write!(f, "{}, signed with {secret}", self.to),
            None => self.to.fmt(f),
        }
    }
}

impl Gate {
    /// Why `by` may not approve a release that `asked` asked for; `None` if they may.
    #[must_use]
    pub fn refuses(&self, by: &str, asked: &str) -> Option<String> {
        let named = self.approvers.is_empty() || self.approvers.iter().any(|name| name == by);
        if !named {
            return Some(format!("{by} may not approve it; {} may", self.approvers.join(" or ")));
        }
        (by == asked && !self.own).then(|| format!("{by} asked for it, and somebody else must"))
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self { approvers: Vec::new(), own: true, webhook: None }
    }
}

/// Reads a gate back. Formats before 3 knew only whether there is one.
pub(super) fn saved_gate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Gate>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Saved {
        Flag(bool),
        Gate(Gate),
    }
    Ok(match Option::deserialize(from)? {
        Some(Saved::Flag(flag)) => flag.then(Gate::default),
        Some(Saved::Gate(gate)) => Some(gate),
        None => None,
    })
}
