//! How many instances a service has, and fresh ones for old.

use std::sync::Arc;

use super::{Accepted, Change, Refusal};
use crate::model::{Scale, ServiceName};
use crate::release::state::{Kind, Note, Phase, State};
use crate::time::Timestamp;
use crate::world::World;

impl State {
    pub(super) fn scale(
        &self,
        name: &ServiceName,
        replicas: u32,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut next = self.clone();
        // One whose first release is still under way has no stable revision yet.
        let found = next.services.get_mut(name).filter(|service| service.is_there());
        let Some(service) = found else {
            return Err(Refusal::new(
                format!("there is no service {name}"),
                "`evenkeel status` lists the services",
            ));
        };
        let described = self.described(name);
        let scale = described.and_then(|service| service.scale.as_ref());
        if replicas == 0 && !scale.is_some_and(Scale::sleeps) {
            return Err(Refusal::new(
                format!("{name} would have no instance"),
                "remove it from the stack file to take it away, or write `min = 0` in its \
                 [service.NAME.scale] to let it sleep until somebody asks for it",
            ));
        }
        if replicas == 0 && self.release.as_ref().is_some_and(|it| it.rollouts.contains_key(name)) {
            return Err(Refusal::new(
                format!("a release moves {name}, and what has no instance cannot be judged"),
                "it sleeps by itself once the release has ended and nobody asks for it",
            ));
        }
        if replicas > 1 && described.is_some_and(|service| service.workload.exclusive) {
            return Err(Refusal::new(
                format!("{name} is exclusive: only one instance may run"),
                "take `exclusive` out of the stack file first",
            ));
        }
        if let Some(scale) = scale.filter(|scale| !scale.allows(replicas)) {
            return Err(Refusal::new(
                format!("{name} scales by itself, from {scale} instances"),
                "change `min` or `max` in its [service.NAME.scale] first, or take that out",
            ));
        }
        let goes_on = match scale {
            Some(scale) => format!("; it goes on scaling from {scale} by its load"),
            None => String::new(),
        };
        let before = match service.stable {
            Some(_) => service.replicas,
            None => described.map_or(0, |service| service.replicas),
        };
        service.replicas = replicas;
        if let Some(release) = next.release_mut() {
            if let Some(rollout) = release.rollouts.get_mut(name) {
                rollout.replicas = replicas;
            }
            if let Some(wanted) = Arc::make_mut(&mut release.wanted).services.get_mut(name) {
                wanted.replicas = replicas;
            }
        }
        let text = format!("{name} scales from {before} to {replicas} instances, by {by}{goes_on}");
        if next == *self {
            let text = format!("{name} has {replicas} instances already");
            return Ok(Accepted { decision: None, release: None, text });
        }
        // What the load asked for before was asked of another size.
        next.scaling.remove(name);
        let notes = vec![Note { release: None, kind: "service.scaled", text: text.clone() }];
        Ok(self.accept(next, notes, None, text, world, now))
    }

    pub(super) fn restart(
        &self,
        names: &[ServiceName],
        force: bool,
        by: &str,
        world: &World,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let mut wanted = (*self.settled().stack).clone();
        if let Some(unknown) = names.iter().find(|name| !wanted.services.contains_key(*name)) {
            return Err(Refusal::new(
                format!("there is no service {unknown}"),
                "`evenkeel status` lists the services",
            ));
        }
        if let Some(release) = self.release.as_ref().filter(|_| !force) {
            let id = release.id;
            let lost = match release.phase {
                Phase::Expanding | Phase::Shifting { .. } => {
                    Some(format!("release {id} is under way, and a restart would take it back"))
                }
                Phase::Baking => Some(format!(
                    "release {id} is promoted, and a restart would contract it: what it replaced \
                     could not come back at once any more"
                )),
                Phase::Contracting | Phase::TurningBack(_) => None,
            };
            if let Some(lost) = lost {
                let hint = "wait until it has ended (`evenkeel why`), or restart with --force";
                return Err(Refusal::new(lost, hint));
            }
        }
        for (name, service) in &mut wanted.services {
            if let Some(live) = self.services.get(name) {
                service.replicas = live.replicas.max(1);
            }
            if names.is_empty() || names.contains(name) {
                service.workload.restarts += 1;
            }
        }
        self.change(
            Change { wanted, kind: Kind::Restart, force: true, hotfix: None, expect_destroy: None },
            by,
            world,
            now,
        )
    }
}
