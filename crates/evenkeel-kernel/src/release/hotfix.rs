//! Hotfixes: one short step on a few instances, enough to see that the fix does not fail at once.

use std::time::Duration;

use crate::model::{self, Exposure, Stack, Step, Strategy, Weight};
use crate::plan::{Now, Plan, Takes, plan, takes};

/// The part of the traffic that tries a hotfix.
const EXPOSURE: Weight = Weight(1_000);
/// How long it is watched there at most.
const BAKE: Duration = Duration::from_secs(60);

/// How a hotfix of a service that is there takes over. What may run only once is replaced as ever.
pub(super) fn strategy(described: &model::Service) -> Strategy {
    if described.workload.exclusive {
        return described.rollout.strategy.clone();
    }
    // Never slower than the service takes over every day.
    let usual = match &described.rollout.strategy {
        Strategy::Canary { steps } => steps.iter().map(|step| step.bake).sum(),
        Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => BAKE,
    };
    let (exposure, bake) = (Exposure::Weight(EXPOSURE), BAKE.min(usual));
    Strategy::Canary { steps: vec![Step { exposure, bake, gate: None }] }
}

/// The plan of a change, and how long it takes at least; of a hotfix by its own steps.
pub(super) fn planned(now: &Now<'_>, wanted: &Stack, is_hotfix: bool) -> (Plan, Takes) {
    let mut planned = plan(now, wanted);
    if !is_hotfix {
        return (planned, takes(now, wanted));
    }
    let mut hurried = wanted.clone();
    for (_, service) in
        hurried.services.iter_mut().filter(|(name, _)| now.services.contains_key(name))
    {
        service.rollout.strategy = strategy(service);
    }
    // How it takes over is no change of what is described.
    let Plan { expand, shift, .. } = plan(now, &hurried);
    (planned.expand, planned.shift) = (expand, shift);
    (planned, takes(now, &hurried))
}
