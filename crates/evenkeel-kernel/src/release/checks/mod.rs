//! The checks of a rollout: when each is asked, what its answers come to, and what waits for it. The
//! webhooks of gates are asked in the same way.
//!
//! A question is a decision: its number is durable before anybody is asked, and an answer counts
//! once, for the question it belongs to. A control that starts anew asks the open ones again.

mod answer;
mod gate;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use answer::Compared;
pub use answer::Said;

use super::decide::WITHOUT_REQUESTS_MAX;
use super::judge::Seen;
use super::state::{Kind, Phase, Release, Rollout, State};
use crate::analysis::{Verdict, requests_needed};
use crate::model::{About, Check, CheckId, CheckName, PoolId, RevisionNumber, ServiceName, When};
use crate::rollout;
use crate::time::Timestamp;
use crate::want;
use crate::world::{Reading, World};

/// How one check of a rollout stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checking {
    /// The question that was asked last, from 1; 0 before the first.
    pub run: u32,
    /// When it was asked.
    pub asked: Timestamp,
    /// When it was answered; `None` while the answer is awaited.
    pub answered: Option<Timestamp>,
    /// What the last answer came to.
    pub said: Option<Said>,
    /// Failures in a row.
    pub failures: u32,
    /// Questions in a row without an answer.
    pub errors: u32,
    /// When it passed last.
    pub passed: Option<Timestamp>,
    /// What was counted so far, by a check that compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compared: Option<Compared>,
}

impl Checking {
    /// Whether an answer is awaited.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.run > 0 && self.answered.is_none()
    }

    /// Asks once more.
    fn ask(&mut self, now: Timestamp) {
        self.run += 1;
        self.asked = now;
        self.answered = None;
    }

    /// Whether the last answer was a pass, and is no older than that.
    fn has_passed_since(&self, since: Timestamp) -> bool {
        let passed = self.said.as_ref().is_some_and(|it| it.verdict == Verdict::Pass);
        passed && self.passed.is_some_and(|at| at >= since)
    }
}

impl Release {
    /// The checks of a service in this release. A way back is not held up by any.
    pub fn checks(&self, name: &ServiceName) -> impl Iterator<Item = (&CheckName, &Check)> {
        let asks = self.kind != Kind::Rollback;
        let service = self.wanted.services.get(name).filter(|_| asks);
        service.into_iter().flat_map(|service| &service.rollout.checks)
    }

    /// Whether a check decides anything. Where production is broken, what measures production
    /// fails; a hotfix is told of it and goes on.
    #[must_use]
    pub fn decides(&self, check: &Check) -> bool {
        !check.dry_run && self.hotfix.is_none()
    }

    /// Checks of `when` that decide and have not passed since `since`.
    fn open_checks<'a>(
        &'a self,
        name: &'a ServiceName,
        rollout: &'a Rollout,
        when: When,
        since: Timestamp,
    ) -> impl Iterator<Item = (&'a CheckName, &'a Check)> {
        let decides = move |(_, check): &(&CheckName, &Check)| {
            let compares_nothing = check.ask.compares() && rollout.from.is_none();
            check.when == when && self.decides(check) && !compares_nothing
        };
        let passed = move |check: &CheckName| {
            rollout.checks.get(check).is_some_and(|it| it.has_passed_since(since))
        };
        self.checks(name).filter(decides).filter(move |(check, _)| !passed(check))
    }

    /// Checks of the service that must still pass before the release goes on.
    fn awaited_checks<'a>(
        &'a self,
        name: &'a ServiceName,
        rollout: &'a Rollout,
    ) -> impl Iterator<Item = (&'a CheckName, &'a Check)> {
        let now = match &self.phase {
            Phase::Expanding => Some((When::Before, self.started)),
            Phase::Shifting { .. } => Some((When::During, self.since)),
            Phase::Baking => Some((When::After, self.since)),
            Phase::Contracting | Phase::TurningBack(_) => None,
        };
        now.into_iter().flat_map(move |(when, since)| self.open_checks(name, rollout, when, since))
    }

    /// The first of them.
    pub(super) fn awaited_check<'a>(
        &'a self,
        name: &'a ServiceName,
        rollout: &'a Rollout,
    ) -> Option<(&'a CheckName, &'a Check)> {
        self.awaited_checks(name, rollout).next()
    }

    /// Whether the release waits for this check now. While traffic moves, only those of the
    /// service count whose traffic it is.
    fn waits_for(&self, name: &ServiceName, check: &CheckName) -> bool {
        let moves = self.moving().is_none_or(|(moving, ..)| moving == name);
        let rollout = self.rollouts.get(name).filter(|_| moves);
        rollout.is_some_and(|it| self.awaited_checks(name, it).any(|(one, _)| one == check))
    }

    /// Whether every check has passed that the phase waits for, of all services.
    pub(super) fn checks_have_passed(&self) -> bool {
        self.rollouts.iter().all(|(name, it)| self.awaited_check(name, it).is_none())
    }
}

impl State {
    /// Checks of one service that should be asked now.
    fn checks_due(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
        seen: Option<Seen<'_>>,
        now: Timestamp,
    ) -> Vec<CheckName> {
        if release.checks(name).next().is_none() {
            return Vec::new();
        }
        let exposed = self.services.get(name).is_some_and(|it| it.weight(rollout.to).0 > 0);
        let first = rollout::first_size(&rollout.strategy, rollout.replicas, rollout.from);
        let ready =
            seen.is_some_and(|seen| self.situation(name, rollout, seen, now).new.ready >= first);
        let is_due = |check: &CheckName, policy: &Check| {
            let stands = rollout.checks.get(check);
            let passed = |since| stands.is_some_and(|it| it.has_passed_since(since));
            let time = match (&release.phase, policy.when) {
                (Phase::Expanding, When::Before) => ready && !passed(release.started),
                (Phase::Shifting { .. }, When::During) => {
                    exposed && (rollout.from.is_some() || !policy.ask.compares())
                }
                (Phase::Baking, When::During) => exposed && !policy.ask.compares(),
                (Phase::Baking, When::After) => !passed(release.since),
                (
                    Phase::Expanding
                    | Phase::Shifting { .. }
                    | Phase::Baking
                    | Phase::Contracting
                    | Phase::TurningBack(_),
                    When::Before | When::During | When::After,
                ) => false,
            };
            let Some(stands) = stands.filter(|it| it.run > 0) else { return time };
            // A step that has just begun need not wait for the next time.
            let is_news = stands.answered.is_some_and(|at| at < release.since);
            let waited = stands.answered.is_some_and(|at| now.since(at) >= policy.every);
            time && (is_news || waited)
        };
        let due = release.checks(name).filter(|(check, policy)| is_due(check, policy));
        due.map(|(check, _)| check.clone()).collect()
    }

    /// Every question whose answer is awaited.
    #[must_use]
    pub fn wanted_checks(&self) -> Vec<want::Check> {
        let Some(release) = self.forward() else { return Vec::new() };
        let mut wanted = Vec::from_iter(self.question_at_gate(release));
        for (name, rollout) in &release.rollouts {
            for (check, policy) in release.checks(name) {
                let Some(stands) = rollout.checks.get(check).filter(|it| it.is_open()) else {
                    continue;
                };
                wanted.push(want::Check {
                    id: release.check_id(name, check),
                    run: stands.run,
                    ask: want::Question::Check(policy.ask.clone()),
                    timeout: policy.timeout,
                    stack: release.wanted.name.clone(),
                    canary: self.asked_side(name, rollout.to),
                    stable: rollout.from.map(|from| self.asked_side(name, from)),
                });
            }
        }
        wanted
    }

    fn asked_side(&self, name: &ServiceName, revision: RevisionNumber) -> want::Side {
        let kept = self.kept(name, revision);
        let active = kept.into_iter().flat_map(|kept| kept.active());
        let instances = active.map(|(_, slot)| ([127, 0, 0, 1], slot.port).into());
        want::Side { revision, instances: instances.collect() }
    }

    /// Why a check takes the release back, if one does.
    pub(super) fn failed_check(
        &self,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
    ) -> Option<String> {
        release.checks(name).find_map(|(check, policy)| {
            let stands = rollout.checks.get(check)?;
            let fails = release.decides(policy) && stands.failures >= policy.failures.max(1);
            let said = stands.said.as_ref().filter(|_| fails)?;
            let pool = PoolId::new(name, rollout.to);
            Some(match policy.failures {
                0 | 1 => format!("{pool}: check {check} failed: {}", said.text),
                more => format!("{pool}: check {check} failed {more} times: {}", said.text),
            })
        })
    }
}

impl Release {
    /// The answers that have come to open questions: whose they are, and what they read.
    fn answers<'a>(
        &'a self,
        world: &'a World,
    ) -> impl Iterator<Item = (&'a ServiceName, &'a CheckName, &'a Check, &'a Reading)> {
        self.rollouts.iter().flat_map(move |(name, rollout)| {
            self.checks(name).filter_map(move |(check, policy)| {
                let stands = rollout.checks.get(check).filter(|it| it.is_open())?;
                let answer = world.checks.get(&self.check_id(name, check))?;
                (answer.run == stands.run).then_some((name, check, policy, &answer.reading))
            })
        })
    }

    fn check_id(&self, name: &ServiceName, check: &CheckName) -> CheckId {
        CheckId { release: self.id, service: name.clone(), about: About::Check(check.clone()) }
    }

    /// Forgets what failed so far: a person has looked at it and wants to go on.
    pub(super) fn pardon_checks(&mut self) {
        let rollouts = self.rollouts.values_mut();
        for stands in rollouts.flat_map(|rollout| rollout.checks.values_mut()) {
            stands.failures = 0;
            stands.errors = 0;
        }
        self.pardon_gate();
    }

    /// Whether a check that decides could not be answered last time.
    pub(super) fn cannot_measure(&self, name: &ServiceName, rollout: &Rollout) -> bool {
        self.checks(name).filter(|(_, policy)| self.decides(policy)).any(|(check, _)| {
            let said = rollout.checks.get(check).and_then(|it| it.said.as_ref());
            said.is_some_and(|it| it.verdict == Verdict::Error)
        })
    }

    /// Why checks that nobody could answer hold the release, if they do.
    fn unanswered(&self) -> Option<String> {
        self.rollouts.iter().find_map(|(name, rollout)| {
            self.checks(name).find_map(|(check, policy)| {
                let stands = rollout.checks.get(check)?;
                let holds = self.decides(policy) && stands.errors >= policy.errors.max(1);
                let said = stands.said.as_ref().filter(|_| holds)?;
                Some(format!(
                    "check {check} of {name} could not be answered {} times in a row: {}",
                    stands.errors, said.text
                ))
            })
        })
    }
}

impl Release {
    /// How long a step whose bake is `bake` may go on without showing what it must: long enough
    /// for the check that it waits for to be asked as often.
    pub(super) fn patience(&self, bake: Duration) -> Duration {
        let asked_in = self.moving().and_then(|(name, rollout, _)| {
            let (_, check) = self.awaited_check(name, rollout)?;
            Some(check.every + check.timeout)
        });
        bake.max(asked_in.unwrap_or_default()) * WITHOUT_REQUESTS_MAX
    }
}

/// One thing to write down about a check.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

impl State {
    /// The state with every answer that has come, and every question that is due; `None` when
    /// there is none of either.
    pub(super) fn checked(
        &self,
        world: &World,
        now: Timestamp,
    ) -> Option<(Arc<Release>, Vec<Told>)> {
        let release = self.release.as_ref().filter(|release| release.phase.is_forward())?;
        if release.rollouts.keys().all(|name| release.checks(name).next().is_none()) {
            return None;
        }
        let answers: Vec<(&ServiceName, &CheckName, &Check, &Reading)> =
            release.answers(world).collect();
        let seen = Seen::of(world);
        let due = release.rollouts.iter().flat_map(|(name, rollout)| {
            let due = self.checks_due(release, name, rollout, seen, now);
            due.into_iter().map(move |check| (name, check))
        });
        let due: Vec<(&ServiceName, CheckName)> = due.collect();
        if answers.is_empty() && due.is_empty() {
            return None;
        }
        let mut next = (**release).clone();
        let mut told = Vec::new();
        for (name, check, policy, reading) in answers {
            // What else is asked meanwhile does not bring the release any further.
            if release.waits_for(name, check) {
                next.progress = now;
            }
            let analysis = release.wanted.services.get(name).map(|it| &it.rollout.analysis);
            let needed = |stable| {
                analysis.and_then(|it| it.min_requests).unwrap_or_else(|| requests_needed(stable))
            };
            let rivals = release.checks(name).filter(|(_, it)| it.ask.compares()).count();
            let terms =
                answer::Terms { tolerance: release.tolerance(name), rivals, needed: &needed };
            let Some(rollout) = next.rollouts.get_mut(name) else { continue };
            let Some(stands) = rollout.checks.get_mut(check) else { continue };
            let decides = release.decides(policy);
            if let Some(said) = stands.take(policy, reading, &terms, decides, now) {
                let pool = PoolId::new(name, rollout.to);
                told.push(tell(check, policy, &pool, &said, decides));
            }
        }
        for (name, check) in due {
            let Some(rollout) = next.rollouts.get_mut(name) else { continue };
            let stands = rollout.checks.entry(check).or_default();
            stands.ask(now);
        }
        if next.paused.is_none()
            && let Some(reason) = next.unanswered()
        {
            told.push(Told { kind: "release.held", text: format!("held because {reason}") });
            next.hold(reason, now);
            next.pardon_checks();
        }
        Some((Arc::new(next), told))
    }
}

fn tell(check: &CheckName, policy: &Check, pool: &PoolId, said: &Said, decides: bool) -> Told {
    let (kind, what) = match said.verdict {
        Verdict::Pass => ("check.passed", "passes"),
        Verdict::Fail => ("check.failed", "fails"),
        Verdict::Inconclusive => ("check.inconclusive", "says nothing yet"),
        Verdict::Error => ("check.unanswered", "could not be answered"),
    };
    let dry = match (policy.dry_run, decides) {
        (true, _) => " (dry run)",
        (false, false) => " (told only, as this is a hotfix)",
        (false, true) => "",
    };
    Told { kind, text: format!("check {check} of {pool} {what}{dry}: {}", said.text) }
}
