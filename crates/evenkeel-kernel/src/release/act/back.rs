//! The ways back: the release under way turns, or a new one leads to what was before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::steer::with_reason;
use super::{Accepted, Change, Refusal};
use crate::model::{ReleaseId, RevisionNumber, ServiceName};
use crate::release::state::{Because, Kind, Note, Outcome, Past, Phase, Release, State};
use crate::time::Timestamp;
use crate::world::World;

/// Services with the revision that is left, and the one that takes over.
type Moves = BTreeMap<ServiceName, (Option<RevisionNumber>, RevisionNumber)>;

/// A way back that somebody asks for.
#[derive(Debug)]
pub(super) struct Back<'a> {
    /// One service, and maybe its revision; else everything that moved last.
    pub(super) to: Option<(ServiceName, Option<RevisionNumber>)>,
    pub(super) force: bool,
    pub(super) reason: Option<&'a str>,
}

/// A way back of one service must not take back the one of another that is on its way.
fn refuse_to_undo(release: &Release, name: &ServiceName) -> Result<(), Refusal> {
    let moves = matches!(release.phase, Phase::Expanding | Phase::Shifting { .. });
    if !moves || release.kind != Kind::Rollback || release.rollouts.contains_key(name) {
        return Ok(());
    }
    let others: Vec<&str> = release.rollouts.keys().map(ServiceName::as_str).collect();
    Err(Refusal::new(
        format!(
            "release {} is the way back of {}, and this would take it back",
            release.id,
            others.join(", ")
        ),
        "wait until it is promoted (`evenkeel why`), or say --force",
    ))
}

impl Release {
    /// What it moves.
    fn moved(&self) -> Moves {
        self.rollouts.iter().map(|(name, it)| (name.clone(), (it.from, it.to))).collect()
    }
}

impl State {
    /// Turns the release under way back, unless it is turning back already, and drops the change
    /// that waits behind it: who goes back does not want to go on.
    pub(super) fn take_back(
        &self,
        id: ReleaseId,
        because: Because,
        world: &World,
        now: Timestamp,
    ) -> Accepted {
        let mut next = self.clone();
        let dropped = next.drop_queued(&because, now);
        let turning = |phase: &Phase| matches!(phase, Phase::TurningBack(_));
        let turns = self.release.as_ref().is_some_and(|release| turning(&release.phase));
        let text = match turns {
            true => format!("release {id} is turning back already"),
            false => format!("release {id} is taken back"),
        };
        let text = match &self.queued {
            Some(queued) => {
                format!("{text}; release {}, which waited for it, is dropped", queued.id)
            }
            None => text,
        };
        let mut notes = Vec::from_iter(dropped);
        if !turns {
            notes.extend(next.turn_back(because, now));
        } else if notes.is_empty() {
            return Accepted { decision: None, release: Some(id), text };
        }
        self.accept(next, notes, Some(id), text, world, now)
    }

    pub(super) fn roll_back(
        &self,
        back: Back<'_>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let Back { to, force, reason } = back;
        let who = with_reason(by, reason);
        if let Some(release) = self.release.as_ref().filter(|_| !force)
            && let Some((name, _)) = &to
        {
            refuse_to_undo(release, name)?;
        }
        let only = match to {
            Some((name, Some(number))) => {
                return self.release_back(vec![(name, number)], force, reason, by, world, now);
            }
            Some((name, None)) => Some(name),
            None => None,
        };
        let concerned = |release: &&Arc<Release>| {
            only.as_ref().is_none_or(|name| release.rollouts.contains_key(name))
        };
        let under_way = self.release.as_ref().filter(concerned);
        if let Some(release) = under_way.filter(|it| it.phase != Phase::Contracting) {
            let id = release.id;
            if let Some(name) = only.as_ref().filter(|_| release.rollouts.len() > 1) {
                return Err(Refusal::new(
                    format!("release {id} is under way and moves more than {name}"),
                    "`evenkeel rollback` takes back all of it",
                ));
            }
            if release.kind == Kind::Rollback && release.phase.is_forward() && !force {
                return Err(self.asks_again(&release.moved(), &format!("{id} is a way back")));
            }
            let because = match release.phase {
                Phase::Baking => Because::RolledBack(who),
                Phase::Expanding
                | Phase::Shifting { .. }
                | Phase::TurningBack(_)
                | Phase::Contracting => Because::Aborted(who),
            };
            return Ok(self.take_back(id, because, world, now));
        }
        let goals = match &only {
            Some(name) => vec![(name.clone(), self.revision_before(name)?)],
            None => self.before_last_release()?,
        };
        if let Some(before) = self.was_way_back(only.as_ref()).filter(|_| !force) {
            let leads = goals.iter().filter_map(|(name, number)| {
                Some((name.clone(), (Some(*number), self.services.get(name)?.stable?)))
            });
            return Err(self.asks_again(&leads.collect(), &before));
        }
        self.release_back(goals, force, reason, by, world, now)
    }

    /// Which release was a way back, if that was the last thing that happened to the service, or to
    /// any.
    fn was_way_back(&self, only: Option<&ServiceName>) -> Option<String> {
        let under_way = self
            .release
            .as_ref()
            .filter(|release| only.is_none_or(|name| release.rollouts.contains_key(name)));
        if let Some(release) = under_way {
            return (release.kind == Kind::Rollback)
                .then(|| format!("{} was a way back", release.id));
        }
        let concerned = |past: &&Arc<Past>| {
            only.is_none_or(|name| past.moved.contains_key(name)) && !past.moved.is_empty()
        };
        let last = self.past.iter().rev().find(concerned)?;
        match (last.kind, last.outcome) {
            (_, Outcome::FastRolledBack) => Some(format!("{} was rolled back", last.id)),
            (Kind::Rollback, Outcome::Promoted | Outcome::FastPromoted) => {
                Some(format!("{} was a way back", last.id))
            }
            (Kind::Apply | Kind::Restart | Kind::Rollback, _) => None,
        }
    }

    /// Two ways back in a row lead forth again, or further back than most people think: what would
    /// happen is said, and the second one has to be named.
    fn asks_again(&self, moves: &Moves, before: &str) -> Refusal {
        let told: Vec<String> = moves
            .iter()
            .filter_map(|(name, (to, from))| Some(format!("{name} from {from} to {}", (*to)?)))
            .collect();
        let named = moves.iter().find_map(|(name, (to, _))| Some((name, (*to)?)));
        let named = named
            .map_or_else(String::new, |(name, to)| format!("`evenkeel rollback {name} {to}`, "));
        Refusal::new(
            format!("release {before} already, and another one would lead {}", told.join(", ")),
            format!("name where to go, {named}or say --force"),
        )
    }

    /// The revision that a service had before its stable one.
    fn revision_before(&self, name: &ServiceName) -> Result<RevisionNumber, Refusal> {
        let Some(service) = self.services.get(name) else {
            return Err(Refusal::new(
                format!("there is no service {name}"),
                "`evenkeel status` lists the services",
            ));
        };
        let contracting = self.release.as_ref().and_then(|release| release.rollouts.get(name));
        if let Some(from) = contracting.and_then(|rollout| rollout.from) {
            return Ok(from);
        }
        let led_here = |past: &Arc<Past>| {
            let promoted = matches!(past.outcome, Outcome::Promoted | Outcome::FastPromoted);
            let (from, to) = past.moved.get(name).filter(|_| promoted)?;
            from.filter(|_| Some(*to) == service.stable)
        };
        self.past.iter().rev().find_map(led_here).ok_or_else(|| {
            let kept: Vec<_> = service.revisions.keys().map(ToString::to_string).collect();
            Refusal::new(
                format!("no release that is remembered has replaced a revision of {name}"),
                format!("name one that is kept: {}", kept.join(", ")),
            )
        })
    }

    /// A new release that leads back to kept revisions.
    fn release_back(
        &self,
        goals: Vec<(ServiceName, RevisionNumber)>,
        force: bool,
        reason: Option<&str>,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut wanted = (*self.settled().stack).clone();
        for (name, number) in goals {
            if wanted.jobs.contains_key(&name) {
                return Err(Refusal::new(
                    format!("{name} is a job, and nothing of it serves"),
                    "go back with a service; jobs run then if they have `on_rollback`",
                ));
            }
            let Some(service) = self.services.get(&name) else {
                return Err(Refusal::new(
                    format!("there is no service {name}"),
                    "`evenkeel status` lists the services",
                ));
            };
            let Some(kept) = service.revisions.get(&number) else {
                let kept: Vec<_> = service.revisions.keys().map(ToString::to_string).collect();
                return Err(Refusal::new(
                    format!("{name} {number} is not kept any more"),
                    format!("kept are {}", kept.join(", ")),
                ));
            };
            let Some(described) = wanted.services.get_mut(&name) else {
                return Err(Refusal::new(
                    format!("{name} is not part of the stack any more"),
                    "apply the stack file that has it",
                ));
            };
            let workload = &*kept.revision.workload;
            let gone = workload.databases.iter().find(|(database, path)| {
                described.workload.databases.get(*database).is_some_and(|now| now != *path)
            });
            if let Some((database, _)) = gone.filter(|_| !force) {
                return Err(Refusal::new(
                    format!("{name} {number} reads database {database} in a shape that is gone"),
                    "release code for the present shape, or say --force if it can read that",
                ));
            }
            described.workload = workload.clone();
            described.replicas = service.replicas.max(1);
        }
        let change =
            Change { wanted, kind: Kind::Rollback, force, hotfix: None, expect_destroy: None };
        let mut accepted = self.change(change, by, world, now)?;
        if let (Some(decision), Some(reason)) = (&mut accepted.decision, reason) {
            let text = format!("it goes back because {by} says: {reason}");
            decision.notes.push(Note { release: accepted.release, kind: "release.reason", text });
        }
        Ok(accepted)
    }

    /// The revisions that the last promoted release left.
    fn before_last_release(&self) -> Result<Vec<(ServiceName, RevisionNumber)>, Refusal> {
        let contracting = self.release.as_ref().map(|release| {
            let moved = release.rollouts.iter();
            moved.map(|(name, it)| (name.clone(), (it.from, it.to))).collect()
        });
        let moved = contracting.or_else(|| {
            let promoted = |past: &&Arc<Past>| {
                matches!(past.outcome, Outcome::Promoted | Outcome::FastPromoted)
            };
            self.past.iter().rev().find(promoted).map(|past| past.moved.clone())
        });
        let goals: Vec<_> = moved
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, (from, _))| Some((name, from?)))
            .collect();
        if goals.is_empty() {
            // Its routes, its numbers or its freezes are not what anybody means by a revision; but
            // a service may have had one before.
            let before = self.services.keys().find(|name| self.revision_before(name).is_ok());
            if let Some(name) = before {
                return Err(Refusal::new(
                    "there is nothing to go back to: the last release has replaced no revision",
                    format!("`evenkeel rollback {name}` goes back to the revision before"),
                ));
            }
            return Err(Refusal::new(
                "there is nothing to go back to: no release has replaced a revision",
                "name one: `evenkeel rollback web r3`; `evenkeel history` lists them",
            ));
        }
        Ok(goals)
    }
}
