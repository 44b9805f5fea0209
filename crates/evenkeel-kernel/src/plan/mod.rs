//! The plan: what changes between what is released and what is wanted, in which order, what is
//! destroyed by it, and what is dangerous about it.
//!
//! A plan is data. It is made once, shown, committed with its release, and never edited.

mod affinity;
mod database;
mod fields;
mod job;
mod order;
mod receivers;
mod removal;
mod takes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use affinity::{followed, following, moving};
pub use fields::FieldChange;
pub use job::jobs;
pub use order::{cycles, dependency_order};
pub use removal::{Removal, removal};
pub use takes::{Takes, takes};

use crate::lint::{self, Hazard};
use crate::model::{Pace, RevisionNumber, RouteName, Service, ServiceName, Stack};

/// What is there now, as far as a plan needs to know.
#[derive(Clone, Debug)]
pub struct Now<'a> {
    /// What was released last.
    pub stack: &'a Stack,
    /// The revision of each deployed service that serves, and how many instances it really has.
    pub services: BTreeMap<&'a ServiceName, Deployed>,
    /// The revision that each service of the wanted stack would get, where it is known already:
    /// a kept one with the same content, or the next number.
    pub next: BTreeMap<&'a ServiceName, RevisionNumber>,
    /// The release leads back to earlier revisions, so jobs do not run unless they say so.
    pub leads_back: bool,
}

/// A service as it is deployed now.
#[derive(Clone, Copy, Debug)]
pub struct Deployed {
    /// The revision that serves.
    pub revision: RevisionNumber,
    /// How many instances it has, which a `scale` may have set apart from the file.
    pub replicas: u32,
}

/// Everything one release changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry per component that changes, by name.
    pub changes: Vec<Change>,
    /// What happens, phase by phase, as sentences.
    pub expand: Vec<String>,
    /// See `expand`.
    pub shift: Vec<String>,
    /// See `expand`.
    pub contract: Vec<String>,
    /// Names of everything that is gone after contract.
    pub destroys: Vec<String>,
    /// What is dangerous about it.
    pub hazards: Vec<Hazard>,
}

/// What happens to one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `service.web`, `route.shop`, `edge`, `notify.ops`.
    pub component: String,
    /// What kind of change it is.
    pub action: ChangeAction,
    /// The revision before and after, for a service whose revision changes.
    pub revision: Option<(Option<RevisionNumber>, RevisionNumber)>,
    /// The fields that differ.
    pub fields: Vec<FieldChange>,
}

/// What kind of change happens to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeAction {
    /// It is not there yet.
    Create,
    /// It stays, with other fields.
    Change,
    /// It goes.
    Remove,
}

impl Plan {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many components are created, changed and removed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |action| self.changes.iter().filter(|change| change.action == action).count();
        (count(ChangeAction::Create), count(ChangeAction::Change), count(ChangeAction::Remove))
    }
}

impl fmt::Display for ChangeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        })
    }
}

/// Makes the plan from what is there `now` to the `wanted` stack.
#[must_use]
pub fn plan(now: &Now<'_>, wanted: &Stack) -> Plan {
    let mut plan = Plan::default();
    services(now, wanted, &mut plan);
    routes(now.stack, wanted, &mut plan);
    doors(now.stack, wanted, &mut plan);
    receivers::plan(now.stack, wanted, &mut plan);
    control(now.stack, wanted, &mut plan);
    job::describe(now, wanted, &mut plan);
    database::plan(now.stack, wanted, &mut plan);
    plan.hazards = lint::hazards(now, wanted, &plan);
    plan.hazards.extend(database::hazards(wanted));
    plan
}

fn services(now: &Now<'_>, wanted: &Stack, plan: &mut Plan) {
    for name in dependency_order(&wanted.services) {
        let new = &wanted.services[&name];
        let old = now.stack.services.get(&name).filter(|_| now.services.contains_key(&name));
        let change = service_change(now, &name, old, new);
        if let Some(change) = change {
            describe(now, &name, (new, wanted), &change, plan);
            plan.changes.push(change);
        }
    }
    for (name, deployed) in &now.services {
        if wanted.services.contains_key(*name) {
            continue;
        }
        let pool = format!("{name} {}", deployed.revision);
        plan.changes.push(Change {
            component: format!("service.{name}"),
            action: ChangeAction::Remove,
            revision: None,
            fields: Vec::new(),
        });
        plan.shift.push(format!("send nothing more to {pool}"));
        plan.contract.push(format!("stop {pool} ({})", instances(deployed.replicas)));
        plan.destroys.push(format!("service {name} with {}", instances(deployed.replicas)));
    }
}

fn service_change(
    now: &Now<'_>,
    name: &ServiceName,
    old: Option<&Service>,
    new: &Service,
) -> Option<Change> {
    let deployed = now.services.get(name);
    let mut fields = fields::of_service(old, new);
    if let (Some(deployed), Some(old)) = (deployed, old)
        && deployed.replicas != old.replicas
    {
        // A `scale` has set the service apart from the file it came from.
        fields.retain(|field| field.field != "replicas");
        if deployed.replicas != new.replicas {
            fields.push(FieldChange::between("replicas", &deployed.replicas, &new.replicas));
        }
    }
    let before = deployed.map(|it| it.revision);
    let after = now.next.get(name).copied();
    let revision = after.filter(|after| before != Some(*after)).map(|after| (before, after));
    let action = if deployed.is_some() { ChangeAction::Change } else { ChangeAction::Create };
    let same = action == ChangeAction::Change && fields.is_empty() && revision.is_none();
    (!same).then(|| Change { component: format!("service.{name}"), action, revision, fields })
}

/// Says in sentences what the change of one service means in each phase.
fn describe(
    now: &Now<'_>,
    name: &ServiceName,
    (new, wanted): (&Service, &Stack),
    change: &Change,
    plan: &mut Plan,
) {
    let deployed = now.services.get(name);
    match change.revision {
        Some((from, to)) => {
            let callers = followed(now, wanted, name);
            let first = match callers.is_empty() {
                true => crate::rollout::first_size(&new.rollout.strategy, new.replicas, from),
                false => new.replicas,
            };
            plan.expand.push(match first {
                0 => format!("{name} {to} starts as places become free"),
                _ => format!("start {name} {to} ({})", instances(first)),
            });
            let mut moved = new.clone();
            if !callers.is_empty() {
                let strategy = &new.rollout.strategy;
                moved.rollout.strategy = following(strategy, wanted, name, &callers);
                let callers: Vec<_> = callers.iter().map(ServiceName::as_str).collect();
                plan.shift
                    .push(format!("send what the new {} calls to {name} {to}", callers.join(", ")));
            }
            plan.shift.push(crate::rollout::describe(name, from, to, &moved));
            if let (Some(from), Some(deployed)) = (from, deployed) {
                plan.contract.push(format!("stop {name} {from}"));
                // One that sleeps is woken for the release, and has nothing to lose.
                if deployed.replicas > 0 {
                    plan.destroys
                        .push(format!("{} of {name} {from}", instances(deployed.replicas)));
                }
            }
        }
        None => {
            let before = deployed.map_or(0, |it| it.replicas);
            if new.replicas > before {
                plan.expand.push(format!("start {} more of {name}", new.replicas - before));
            }
            if new.replicas < before {
                plan.contract.push(format!("stop {} of {name}", before - new.replicas));
                plan.destroys.push(format!("{} of {name}", instances(before - new.replicas)));
            }
        }
    }
}

fn routes(old: &Stack, new: &Stack, plan: &mut Plan) {
    let names: BTreeSet<&RouteName> = old.routes.keys().chain(new.routes.keys()).collect();
    for name in names {
        let (before, after) = (old.routes.get(name), new.routes.get(name));
        let action = match (before, after) {
            (None, Some(_)) => ChangeAction::Create,
            (Some(_), None) => ChangeAction::Remove,
            (Some(before), Some(after)) if before != after => ChangeAction::Change,
            _ => continue,
        };
        plan.changes.push(Change {
            component: format!("route.{name}"),
            action,
            revision: None,
            fields: fields::of_route(before, after),
        });
        match action {
            ChangeAction::Create => plan.shift.push(format!("open route {name}")),
            ChangeAction::Change => plan.shift.push(format!("switch route {name}")),
            ChangeAction::Remove => {
                plan.shift.push(format!("close route {name}"));
                plan.destroys.push(format!("route {name}"));
            }
        }
    }
}

/// The doors to the outside, and what is shown there.
fn doors(old: &Stack, new: &Stack, plan: &mut Plan) {
    let fields = fields::of_edge(&old.edge, &new.edge);
    if !fields.is_empty() {
        let closed = old.edge.listen.is_empty() && old.edge.tls.is_empty();
        let action = if closed { ChangeAction::Create } else { ChangeAction::Change };
        plan.changes.push(Change { component: "edge".to_owned(), action, revision: None, fields });
    }
    named("tcp", &old.tcp, &new.tcp, fields::of_tcp, plan);
    named("certificate", &old.certificates, &new.certificates, fields::of_certificate, plan);
    for name in old.certificates.keys().filter(|name| !new.certificates.contains_key(*name)) {
        plan.shift.push(format!("show certificate {name} no more"));
    }
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (old.doors().collect(), new.doors().collect());
    for addr in after.keys().filter(|addr| !before.contains_key(addr)) {
        plan.expand.push(format!("listen on {addr}"));
    }
    for addr in before.keys().filter(|addr| !after.contains_key(addr)) {
        plan.contract.push(format!("close {addr}"));
        plan.destroys.push(format!("listener {addr}"));
    }
}

/// What is new, other or gone among parts with names.
fn named<N: Ord + fmt::Display, T: PartialEq>(
    kind: &str,
    old: &BTreeMap<N, T>,
    new: &BTreeMap<N, T>,
    fields: impl Fn(Option<&T>, Option<&T>) -> Vec<FieldChange>,
    plan: &mut Plan,
) {
    let names: BTreeSet<&N> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        let action = match (before, after) {
            (None, Some(_)) => ChangeAction::Create,
            (Some(_), None) => ChangeAction::Remove,
            (Some(before), Some(after)) if before != after => ChangeAction::Change,
            _ => continue,
        };
        plan.changes.push(Change {
            component: format!("{kind}.{name}"),
            action,
            revision: None,
            fields: fields(before, after),
        });
    }
}

/// When nothing is released, and how fast the rest is. Nothing is started, moved or stopped.
fn control(old: &Stack, new: &Stack, plan: &mut Plan) {
    named("freeze", &old.freezes, &new.freezes, fields::of_freeze, plan);
    if old.pace != new.pace {
        plan.changes.push(Change {
            component: "pace".to_owned(),
            action: match (old.pace == Pace::default(), new.pace == Pace::default()) {
                (true, _) => ChangeAction::Create,
                (_, true) => ChangeAction::Remove,
                (false, false) => ChangeAction::Change,
            },
            revision: None,
            fields: fields::of_pace(&old.pace, &new.pace),
        });
    }
    if old.discovery != new.discovery {
        plan.changes.push(Change {
            component: "discovery".to_owned(),
            action: match (old.discovery.is_default(), new.discovery.is_default()) {
                (true, _) => ChangeAction::Create,
                (_, true) => ChangeAction::Remove,
                (false, false) => ChangeAction::Change,
            },
            revision: None,
            fields: fields::of_discovery(&old.discovery, &new.discovery),
        });
    }
}

/// `1 instance`, `4 instances`.
fn instances(count: u32) -> String {
    match count {
        1 => "1 instance".to_owned(),
        _ => format!("{count} instances"),
    }
}
