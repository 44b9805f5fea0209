//! When nothing new is released, and how fast the rest is.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

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
        Self { approvers: Vec::new(), own: true }
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
