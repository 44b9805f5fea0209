//! The ways back: the release under way turns, or a new one leads to what was before.

use std::sync::Arc;

use super::{Accepted, Change, Refusal};
use crate::model::{ReleaseId, RevisionNumber, ServiceName};
use crate::release::state::{Because, Kind, Outcome, Past, Phase, State};
use crate::time::Timestamp;
use crate::world::World;

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
        to: Option<(ServiceName, RevisionNumber)>,
        force: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        if let (Some(release), None) = (&self.release, &to) {
            let id = release.id;
            let because = match release.phase {
                Phase::Expanding | Phase::Shifting { .. } | Phase::TurningBack(_) => {
                    Because::Aborted(by.to_owned())
                }
                Phase::Baking => Because::RolledBack(by.to_owned()),
                Phase::Contracting => return self.release_back(None, force, by, world, now),
            };
            return Ok(self.take_back(id, because, world, now));
        }
        self.release_back(to, force, by, world, now)
    }

    /// A new release that leads back to kept revisions.
    fn release_back(
        &self,
        to: Option<(ServiceName, RevisionNumber)>,
        force: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let goals: Vec<(ServiceName, RevisionNumber)> = match to {
            Some(goal) => vec![goal],
            None => self.before_last_release()?,
        };
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
            described.workload = (*kept.revision.workload).clone();
            described.replicas = service.replicas.max(1);
        }
        self.change(Change { wanted, kind: Kind::Rollback, force, hotfix: None }, by, world, now)
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
            return Err(Refusal::new(
                "there is nothing to go back to: no release has replaced a revision",
                "name one: `evenkeel rollback web r3`; `evenkeel history` lists them",
            ));
        }
        Ok(goals)
    }
}
