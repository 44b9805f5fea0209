//! What is dangerous about a plan. Any plan can be checked; nothing here changes one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{ServiceName, Stack, Strategy};
use crate::plan::{Now, Plan, cycles, moving};
use crate::spec::Materials;
use crate::spec::materials::absent;

/// More than this part of the instances going at once is a hazard, in hundredths.
const REMOVAL_SHARE_MAX: u64 = 25;

/// Something a person should know before they say yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// A stable name to branch on: `single-exclusive`.
    pub kind: HazardKind,
    /// What about: `service.db`.
    pub component: String,
    /// What may happen, and what avoids it.
    pub text: String,
}

/// Kinds of hazards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HazardKind {
    /// One replica that owns something exclusively: a release interrupts it.
    SingleExclusive,
    /// A large part of all instances goes.
    MassRemoval,
    /// Services use one another in a circle.
    DependencyCycle,
    /// A service is removed that another one, or a route, still had until now.
    ServiceRemoved,
    /// One replica only: its death is an outage until it is restarted.
    SingleReplica,
    /// A rolling rollout cannot be taken back by one routing update.
    SlowRollback,
    /// A command names a file that is not there.
    MissingFile,
    /// Service and something it uses change in one release.
    TogetherWithDependency,
    /// Something to know of a schema that changes.
    SchemaChange,
}

impl fmt::Display for HazardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleExclusive => "single-exclusive",
            Self::MassRemoval => "mass-removal",
            Self::DependencyCycle => "dependency-cycle",
            Self::ServiceRemoved => "service-removed",
            Self::SingleReplica => "single-replica",
            Self::SlowRollback => "slow-rollback",
            Self::MissingFile => "missing-file",
            Self::TogetherWithDependency => "together-with-dependency",
            Self::SchemaChange => "schema-change",
        })
    }
}

/// Files that the commands of the services which get another revision name, and that are not there:
/// they may be written later, but most often a name is misspelt.
#[must_use]
pub fn missing_files(plan: &Plan, wanted: &Stack, materials: &Materials) -> Vec<Hazard> {
    let moves = |component: &str| {
        let mut changes = plan.changes.iter();
        changes.any(|change| change.component == component && change.revision.is_some())
    };
    let mut found = Vec::new();
    for (name, service) in &wanted.services {
        let component = format!("service.{name}");
        for argument in
            absent(&service.workload, materials).into_iter().filter(|_| moves(&component))
        {
            let text = format!("{name} is started with {argument}, and there is no such file");
            found.push(Hazard {
                kind: HazardKind::MissingFile,
                component: component.clone(),
                text,
            });
        }
    }
    found
}

/// Everything dangerous about the plan from `now` to `wanted`.
pub(crate) fn hazards(now: &Now<'_>, wanted: &Stack, plan: &Plan) -> Vec<Hazard> {
    if plan.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let moving = moving(now, wanted);
    for name in &moving {
        of_rollout(now, wanted, name, &moving, &mut found);
    }
    mass_removal(now, wanted, &mut found);
    for group in cycles(&wanted.services) {
        let names: Vec<_> = group.iter().map(ServiceName::as_str).collect();
        found.push(Hazard {
            kind: HazardKind::DependencyCycle,
            component: format!("service.{}", names[0]),
            text: format!(
                "{} use one another, so no order of release is right for all of them",
                names.join(", ")
            ),
        });
    }
    for name in now.services.keys().filter(|name| !wanted.services.contains_key(**name)) {
        found.push(Hazard {
            kind: HazardKind::ServiceRemoved,
            component: format!("service.{name}"),
            text: format!("{name} is removed; it can be taken back until contract"),
        });
    }
    found.sort_by(|a, b| (a.kind, &a.component).cmp(&(b.kind, &b.component)));
    found
}

fn of_rollout(
    now: &Now<'_>,
    wanted: &Stack,
    name: &ServiceName,
    moving: &[ServiceName],
    found: &mut Vec<Hazard>,
) {
    let service = &wanted.services[name];
    let component = format!("service.{name}");
    let mut hazard = |kind, text: String| {
        found.push(Hazard { kind, component: component.clone(), text });
    };
    let replaces = now.services.contains_key(name);
    if service.workload.exclusive && replaces {
        hazard(
            HazardKind::SingleExclusive,
            format!(
                "{name} has one replica and an exclusive resource: the old instance stops before \
                 the new one starts, and requests in between fail or wait"
            ),
        );
    } else if service.replicas == 1 && wanted.serves(name) {
        hazard(
            HazardKind::SingleReplica,
            format!("{name} has one replica: if it dies, requests fail until it is back"),
        );
    }
    let rolling = match &service.rollout.strategy {
        Strategy::Rolling { max_surge, .. } => Some(max_surge.ceil(service.replicas)),
        Strategy::BlueGreen { .. } | Strategy::Canary { .. } => None,
    };
    if let Some(surge) = rolling
        && replaces
        && surge < service.replicas
        && !service.workload.exclusive
    {
        hazard(
            HazardKind::SlowRollback,
            format!(
                "{name} rolls: only {surge} of {} old instances stay warm, so going back starts \
                 the others again first (canary and blue-green go back at once)",
                service.replicas
            ),
        );
    }
    let both: Vec<_> = service
        .workload
        .uses
        .iter()
        .filter(|used| replaces && moving.contains(used) && now.services.contains_key(used))
        .filter(|used| !wanted.services[*used].rollout.affinity)
        .map(ServiceName::as_str)
        .collect();
    if !both.is_empty() {
        hazard(
            HazardKind::TogetherWithDependency,
            format!(
                "{name} and what it uses ({}) change together: for a while the old {name} talks \
                 to the new ones",
                both.join(", ")
            ),
        );
    }
}

fn mass_removal(now: &Now<'_>, wanted: &Stack, found: &mut Vec<Hazard>) {
    let total: u64 = now.services.values().map(|it| u64::from(it.replicas)).sum();
    let gone: u64 = now
        .services
        .iter()
        .map(|(name, it)| {
            let stays = wanted.services.get(*name).map_or(0, |service| service.replicas);
            u64::from(it.replicas.saturating_sub(stays))
        })
        .sum();
    if gone * 100 > total * REMOVAL_SHARE_MAX {
        found.push(Hazard {
            kind: HazardKind::MassRemoval,
            component: "stack".to_owned(),
            text: format!("{gone} of {total} instances are removed for good"),
        });
    }
}
