//! How long a release takes at least: what is waited for by the clock. How long instances take to
//! start, and requests to come, nobody knows beforehand.

use std::time::Duration;

use super::{Now, followed, following, moving};
use crate::model::{RevisionNumber, Service, Stack, Strategy};
use crate::rollout::first_size;

/// Any revision: what matters is that there is one.
const PREVIOUS: RevisionNumber = RevisionNumber(1);

/// The least that a release takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Until all traffic is on the new revisions.
    pub promotion: Duration,
    /// From then on, until what was replaced is stopped.
    pub bake: Duration,
}

/// The least that a release from what is there `now` to `wanted` takes.
#[must_use]
pub fn takes(now: &Now<'_>, wanted: &Stack) -> Takes {
    let mut takes = Takes::default();
    let mut expansion = Duration::ZERO;
    for name in moving(now, wanted) {
        let Some(service) = wanted.services.get(&name) else { continue };
        expansion = expansion.max(service.rollout.min_ready);
        if now.services.contains_key(&name) {
            let mut service = service.clone();
            let callers = followed(now, wanted, &name);
            if !callers.is_empty() {
                let strategy = &service.rollout.strategy;
                service.rollout.strategy = following(strategy, wanted, &name, &callers);
            }
            takes.promotion += shift(&service);
            takes.bake = takes.bake.max(service.rollout.bake);
        }
    }
    takes.promotion += expansion;
    takes
}

/// How long the traffic of one service takes to move, once its first instances are ready.
fn shift(service: &Service) -> Duration {
    let min_ready = service.rollout.min_ready;
    match &service.rollout.strategy {
        Strategy::BlueGreen { .. } => Duration::ZERO,
        Strategy::Canary { steps } => {
            // Each step that needs more instances waits for them; the last one always does.
            let bakes: Duration = steps.iter().map(|step| step.bake).sum();
            let first = first_size(&service.rollout.strategy, service.replicas, Some(PREVIOUS));
            bakes + if first < service.replicas { min_ready } else { Duration::ZERO }
        }
        Strategy::Rolling { max_surge, max_unavailable } => {
            let replicas = service.replicas;
            let at_once = max_surge.ceil(replicas) + max_unavailable.floor(replicas);
            let rounds = replicas.div_ceil(at_once.max(1));
            min_ready * rounds.saturating_sub(1)
        }
    }
}
