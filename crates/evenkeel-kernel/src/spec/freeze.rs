//! Freezes and the pace: when nothing new is released, and how fast the rest is. Gates too, which
//! are a person's part of the same.

use std::collections::BTreeMap;

use super::check::{Fields, Named};
use super::materials::Mention;
use super::notify;
use super::problem::{Mistake, Mistakes};
use crate::calendar::{Moment, Window};
use crate::model::{Freeze, FreezeName, Gate, GateWebhook, Pace};

/// The zone whose clocks count when the file does not say.
pub(crate) const ZONE: &str = "UTC";

/// Builds the freezes, as far as they can be read.
pub(crate) fn freezes(all: &[Named], mistakes: &mut Mistakes) -> BTreeMap<FreezeName, Freeze> {
    all.iter().filter_map(|named| freeze(named, mistakes)).collect()
}

fn freeze(named: &Named, mistakes: &mut Mistakes) -> Option<(FreezeName, Freeze)> {
    let fields = named.fields.as_ref()?;
    let window = window(fields, mistakes)?;
    let freeze = Freeze {
        window,
        zone: fields.text("zone").map_or(ZONE, String::as_str).to_owned(),
        reason: fields.text("reason").cloned(),
        holds: fields.flag("holds").copied().unwrap_or(false),
    };
    Some((named.name.parse().ok()?, freeze))
}

fn window(fields: &Fields, mistakes: &mut Mistakes) -> Option<Window> {
    let from = Moment::from(fields.text("from")?)?;
    let to = Moment::to(fields.text("to")?)?;
    let window = Window::between(from, to);
    if window.is_none() {
        let (wrong, expected) = match (from, to) {
            (Moment::Weekly(_), Moment::Dated(_)) | (Moment::Dated(_), Moment::Weekly(_)) => {
                ("one end is a day of the week, the other a date", "both of one kind")
            }
            (Moment::Weekly(_), Moment::Weekly(_)) => {
                ("a week later it begins again: it would never be over", "another `to`")
            }
            (Moment::Dated(_), Moment::Dated(_)) => {
                ("it ends before it begins", "a `to` after its `from`")
            }
        };
        let mistake = Mistake::at(&fields.place("to"), &fields.at("to"), wrong);
        mistakes.add(mistake.expected(expected));
    }
    window
}

/// Builds the pace.
pub(crate) fn pace(fields: Option<&Fields>) -> Pace {
    let Some(fields) = fields else { return Pace::default() };
    Pace { starts: fields.count("starts"), between: fields.span("between").copied() }
}

/// Builds the gate of a step: `true`, `false`, or a table that says who opens it.
pub(crate) fn gate(step: &Fields, base: &str, mistakes: &mut Mistakes) -> Option<Gate> {
    let fields = match step.flag_or_table("gate")? {
        Ok(flag) => return flag.then(Gate::default),
        Err(fields) => fields,
    };
    if let Some(field) = fields.field("secret").filter(|_| fields.field("webhook").is_none()) {
        let wrong = "only what a `webhook` is asked is signed";
        mistakes.add(Mistake::at(&field.key, &fields.at("secret"), wrong));
    }
    let webhook = fields.text("webhook").map(|text| GateWebhook {
        to: notify::address(text, base),
        secret: fields.text("secret").and_then(|text| notify::kept(text, base)),
    });
    let preset = Gate::default();
    let names = fields.texts("approvers").map(|names| names.iter().map(|(name, _)| name.clone()));
    Some(Gate {
        approvers: names.map_or(preset.approvers, Iterator::collect),
        own: fields.flag("own").copied().unwrap_or(preset.own),
        webhook,
    })
}

/// The secrets that the gates of a service mention.
pub(crate) fn mentions(service: &Fields, base: &str) -> Vec<Mention> {
    let steps = service.table("rollout").and_then(|rollout| rollout.list("steps"));
    let gates = steps.into_iter().flatten().filter_map(|step| step.flag_or_table("gate")?.err());
    gates.flat_map(|gate| notify::mentions_in(gate, &["webhook", "secret"], base)).collect()
}

/// The letters of which names of time zones are made: `Europe/Berlin`, `Etc/GMT+5`.
pub(crate) fn is_zone(text: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-'))
    };
    text.len() <= 64 && text.split('/').all(word)
}
