//! The webhook of a gate: when it is asked, and what its answer comes to.
//!
//! It is asked as a check is, from when the step waits at its gate until somebody has decided. Only a
//! clear yes or no counts; everything else is no answer yet, so a webhook that is dead neither
//! approves nor fails a release.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Said, one_line};
use super::{Checking, Told};
use crate::analysis::Verdict;
use crate::model::{About, CheckId, GateWebhook, ServiceName};
use crate::release::state::{Approval, Gate, Release, Rollout, State};
use crate::rollout;
use crate::time::Timestamp;
use crate::want;
use crate::world::{Decided, Reading, World};

/// Time from an answer that decides nothing to the next question.
const GATE_EVERY: Duration = Duration::from_secs(10);
/// How long one answer may take.
const GATE_TIMEOUT: Duration = Duration::from_secs(10);

/// A gate whose webhook decides now, and what it is the gate of.
struct AtGate<'a> {
    webhook: &'a GateWebhook,
    gate: &'a Gate,
    name: &'a ServiceName,
    rollout: &'a Rollout,
    step: usize,
}

impl Release {
    /// The gate at which a webhook decides now, if there is one. While the release is held nobody
    /// is asked, and no answer counts.
    fn at_gate(&self) -> Option<AtGate<'_>> {
        let gate = self.gate.as_ref().filter(|_| self.waits_at_gate() && self.paused.is_none())?;
        let webhook = self.gate_policy()?.webhook.as_ref()?;
        let (name, rollout, step) = self.moving()?;
        Some(AtGate { webhook, gate, name, rollout, step })
    }

    /// What the webhook of the gate said last, while the gate waits.
    #[must_use]
    pub fn gate_answer(&self) -> Option<&str> {
        let gate = self.gate.as_ref().filter(|_| self.waits_at_gate())?;
        Some(gate.asked.as_ref()?.said.as_ref()?.text.as_str())
    }

    /// Why the gate takes the release back, if its webhook has refused.
    pub(in crate::release) fn gate_refusal(&self) -> Option<String> {
        let gate = self.gate.as_ref().filter(|_| self.waits_at_gate())?;
        let said = gate.asked.as_ref()?.said.as_ref()?;
        (said.verdict == Verdict::Fail).then(|| format!("gate refused: {}", said.text))
    }

    /// Forgets a refusal: a person has looked at it and wants to go on, so it is asked again.
    pub(super) fn pardon_gate(&mut self) {
        let asked = self.gate.as_mut().and_then(|gate| gate.asked.as_mut());
        if let Some(asked) = asked {
            asked.said.take_if(|said| said.verdict == Verdict::Fail);
        }
    }
}

impl State {
    /// The question to the webhook whose answer is awaited.
    pub(super) fn question_at_gate(&self, release: &Release) -> Option<want::Check> {
        let at = release.at_gate()?;
        let asked = at.gate.asked.as_ref().filter(|asked| asked.is_open())?;
        let (name, to, step) = (at.name, at.rollout.to, at.step + 1);
        let steps = rollout::steps(&at.rollout.strategy, at.rollout.from.is_none());
        let text = format!(
            "{name} {to} waits at the gate of step {step} of {steps}: may it take its next step? \
             (release {}, asked for by {})",
            release.id, release.by
        );
        Some(want::Check {
            id: at.id(release),
            run: asked.run,
            ask: want::Question::Gate {
                webhook: at.webhook.clone(),
                step: at.step,
                by: release.by.clone(),
                text,
            },
            timeout: GATE_TIMEOUT,
            stack: release.wanted.name.clone(),
            canary: self.asked_side(name, to),
            stable: at.rollout.from.map(|from| self.asked_side(name, from)),
        })
    }

    /// The release with the webhook's answer, or the question that is due; `None` when there is
    /// neither.
    pub(in crate::release) fn at_gate(
        &self,
        world: &World,
        now: Timestamp,
    ) -> Option<(Arc<Release>, Option<Told>)> {
        let release = self.forward()?;
        let at = release.at_gate()?;
        let (mut next, before) = (release.clone(), at.gate.asked.as_ref());
        if before.is_none_or(|it| it.answered.is_some_and(|at| now.since(at) >= GATE_EVERY)) {
            next.gate.as_mut()?.asked.get_or_insert_default().ask(now);
            return Some((Arc::new(next), None));
        }
        let run = before.filter(|it| it.is_open())?.run;
        let answer = world.checks.get(&at.id(release)).filter(|answer| answer.run == run)?;
        let said = said(&answer.reading);
        let approved_by = match &answer.reading {
            Reading::Decided(Decided::Approved { by }) => Some(in_the_name_of(by.as_deref())),
            Reading::Decided(Decided::Refused { .. })
            | Reading::Done
            | Reading::Failed(_)
            | Reading::Values(_)
            | Reading::Counts(_)
            | Reading::Nothing(_)
            | Reading::Error(_) => None,
        };
        let gate = next.gate.as_mut()?;
        let asked = gate.asked.get_or_insert_default();
        *asked = Checking { answered: Some(now), said: Some(said), ..asked.clone() };
        gate.approved_by.clone_from(&approved_by);
        let told = approved_by.map(|by| {
            next.progress = now;
            let text = format!(
                "release {} may take its next step: approved by {by} ({})",
                release.id, at.webhook.to
            );
            let (service, step) = (at.name.clone(), at.step);
            next.approvals.push(Approval { service, step, by, at: now, forced: None });
            Told { kind: "gate.approved", text }
        });
        Some((Arc::new(next), told))
    }
}

impl AtGate<'_> {
    fn id(&self, release: &Release) -> CheckId {
        let (service, about) = (self.name.clone(), About::Gate { step: self.step });
        CheckId { release: release.id, service, about }
    }
}

/// Whose approval it is. The names are the webhook's own, so none of them is taken for a user's.
fn in_the_name_of(by: Option<&str>) -> String {
    match by.map(one_line).filter(|by| !by.is_empty()) {
        Some(by) => format!("{by} by webhook"),
        None => "webhook".to_owned(),
    }
}

/// What an answer comes to.
fn said(reading: &Reading) -> Said {
    let (verdict, text) = match reading {
        Reading::Decided(Decided::Approved { by }) => {
            (Verdict::Pass, format!("approved by {}", in_the_name_of(by.as_deref())))
        }
        Reading::Decided(Decided::Refused { reason }) => {
            let reason = reason.as_deref().map(one_line).filter(|reason| !reason.is_empty());
            (Verdict::Fail, reason.unwrap_or_else(|| "no reason was given".to_owned()))
        }
        Reading::Nothing(what) => {
            (Verdict::Inconclusive, format!("nobody has decided yet: {}", one_line(what)))
        }
        Reading::Error(why) => (Verdict::Error, one_line(why)),
        Reading::Done | Reading::Failed(_) | Reading::Values(_) | Reading::Counts(_) => {
            (Verdict::Error, "it measured where it was to decide".to_owned())
        }
    };
    Said { verdict, text }
}
