//! From the state and the world to what the API shows.

use std::collections::BTreeMap;

use evenkeel_kernel::analysis::Track;
use evenkeel_kernel::layout;
use evenkeel_kernel::lint::Hazard;
use evenkeel_kernel::model::{CertificateName, Leads, PoolId, RevisionNumber, ServiceName};
use evenkeel_kernel::plan::{Plan, Removal, Takes};
use evenkeel_kernel::release::{
    Approval, Attempt, Held, Kept, Kind, Ledger, Past, Phase, Prospect, Release, Rollout, Service,
    Shaping, Sized, Slot, Stage, Standing, Wait,
};
use evenkeel_kernel::rollout;
use evenkeel_kernel::scaling::Metric;
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::world::{Certificate, Health, InstancePhase, Unrouted};

use crate::api::types::{
    AccountView, ApprovalView, BakeView, CertificateView, ChangeView, CheckView, EdgeView,
    FieldView, GaugeView, HazardView, HoldView, InstanceView, JobView, LedgerView, PlanView,
    PoolView, ReleaseView, RolloutView, RouteView, ScaleView, SchemaView, ServiceView, Status,
    StepView, TrackView, UnroutedView, WaitView,
};
use crate::snapshot::Snapshot;

/// Everything at one moment.
pub(crate) fn status(snapshot: &Snapshot) -> Status {
    let state = &snapshot.state;
    let there = state.services.iter().filter(|(_, service)| service.is_there());
    let released = state.last_release.0 > 0;
    Status {
        stack: released.then(|| match &state.release {
            Some(release) => release.wanted.name.to_string(),
            None => state.stack.name.to_string(),
        }),
        at_ms: snapshot.wall_ms,
        epoch: snapshot.epoch.0,
        generation: state.generation.0,
        services: there.map(|(name, it)| service(snapshot, name, it)).collect(),
        routes: state
            .routes()
            .iter()
            .map(|(name, route)| RouteView {
                name: name.to_string(),
                host: route.host.clone(),
                path: route.path.clone(),
                to: match &route.leads {
                    Leads::To(service) => service.to_string(),
                    Leads::Redirect(it) => it.to.clone(),
                },
            })
            .collect(),
        edge: edge(snapshot),
        release: state.release.as_ref().map(|it| release(snapshot, it)),
        queued: state.queued.as_ref().map(|queued| queued.id.0),
        waits: waits(snapshot),
    }
}

/// What is waited for.
pub(crate) fn waits(snapshot: &Snapshot) -> Vec<WaitView> {
    let waits = snapshot.state.waits(&snapshot.world, snapshot.now);
    waits.into_iter().map(|it| wait(snapshot, it)).collect()
}

/// All releases that are remembered, newest first.
pub(crate) fn releases(snapshot: &Snapshot) -> Vec<ReleaseView> {
    let mut all = remembered(snapshot);
    all.sort_by_key(|release| std::cmp::Reverse(release.id));
    all
}

fn remembered(snapshot: &Snapshot) -> Vec<ReleaseView> {
    let state = &snapshot.state;
    let queued = state.queued.iter().map(|queued| ReleaseView {
        id: queued.id.0,
        kind: kind(queued.kind).to_owned(),
        by: queued.by.clone(),
        phase: "queued".to_owned(),
        started_ms: snapshot.wall_ms,
        since_ms: snapshot.wall_ms,
        step: None,
        paused: None,
        held: None,
        hotfix: queued.hotfix.clone(),
        waits_at_gate: false,
        gate_answer: None,
        approvers: Vec::new(),
        approvals: Vec::new(),
        bake: None,
        outcome: None,
        because: None,
        promoted: false,
        rollouts: Vec::new(),
        jobs: Vec::new(),
        schemas: Vec::new(),
        ledger: LedgerView::default(),
    });
    let running = state.release.iter().map(|it| release(snapshot, it));
    let ended = state.past.iter().rev().map(|it| past(snapshot, it));
    queued.chain(running).chain(ended).collect()
}

/// A plan.
pub(crate) fn plan(prospect: &Prospect, expected: Option<u32>) -> PlanView {
    let nothing = Plan::default();
    let none = Takes::default();
    let untouched = Removal::default();
    let (plan, takes, on_its_way, before, held_back, locked, removal) = match prospect {
        Prospect::Nothing => (&nothing, none, None, None, None, None, &untouched),
        Prospect::OnItsWay(id) => (&nothing, none, Some(id.0), None, None, None, &untouched),
        Prospect::Release { plan, takes, before, held_back, locked, removal } => {
            (&**plan, *takes, None, before.clone(), held_back.clone(), locked.as_ref(), removal)
        }
    };
    let (create, change, remove) = plan.counts();
    let changes = plan.changes.iter().map(|change| ChangeView {
        component: change.component.clone(),
        action: change.action.to_string(),
        from: change.revision.and_then(|(from, _)| from).map(|from| from.to_string()),
        to: change.revision.map(|(_, to)| to.to_string()),
        fields: change
            .fields
            .iter()
            .map(|field| FieldView {
                field: field.field.clone(),
                from: field.from.clone(),
                to: field.to.clone(),
            })
            .collect(),
    });
    PlanView {
        empty: plan.is_empty() && before.is_none(),
        on_its_way,
        promotion_ms: ms(takes.promotion),
        bake_ms: ms(takes.bake),
        before,
        held_back,
        locked: locked.map(|closed| closed.reason.clone()),
        locked_hint: locked.map(|closed| closed.hint.clone()),
        gone: removal.gone,
        removal: removal.refuses(expected),
        create,
        change,
        remove,
        changes: changes.collect(),
        expand: plan.expand.clone(),
        shift: plan.shift.clone(),
        contract: plan.contract.clone(),
        destroys: plan.destroys.clone(),
        hazards: plan.hazards.iter().map(hazard).collect(),
    }
}

pub(crate) fn hazard(hazard: &Hazard) -> HazardView {
    HazardView {
        kind: hazard.kind.to_string(),
        component: hazard.component.clone(),
        text: hazard.text.clone(),
    }
}

fn approvals(snapshot: &Snapshot, approvals: &[Approval]) -> Vec<ApprovalView> {
    let view = |approval: &Approval| ApprovalView {
        service: approval.service.to_string(),
        step: approval.step + 1,
        by: approval.by.clone(),
        at_ms: snapshot.wall(approval.at),
        forced: approval.forced.clone(),
    };
    approvals.iter().map(view).collect()
}

fn edge(snapshot: &Snapshot) -> EdgeView {
    let known = snapshot.world.edge.known();
    let listeners = snapshot.state.listeners();
    let doors = |kind: &str| -> Vec<String> {
        let of_kind = listeners.iter().filter(|(name, _)| name.starts_with(kind));
        of_kind.map(|(_, addr)| addr.to_string()).collect()
    };
    EdgeView {
        listen: doors(layout::PLAIN_LISTENERS),
        tls: doors(layout::TLS_LISTENERS),
        tcp: doors(layout::TCP_LISTENERS),
        known: known.is_some(),
        serving: known.map(|edge| edge.serving.generation.0),
        unrouted: known.map(|edge| unrouted(&edge.unrouted)),
        certificates: known.map(|edge| certificates(&edge.certificates)).unwrap_or_default(),
    }
}

fn certificates(all: &BTreeMap<CertificateName, Certificate>) -> Vec<CertificateView> {
    let view = |(name, it): (&CertificateName, &Certificate)| CertificateView {
        name: name.to_string(),
        until_ms: it.good.and_then(|it| u64::try_from(it.until.saturating_mul(1000)).ok()),
        left_s: it.good.map(|it| it.left.as_secs()),
        failed: it.failed.as_ref().map(|it| it.why.clone()),
        again_s: it.failed.as_ref().and_then(|it| it.again).map(|it| it.as_secs()),
    };
    all.iter().map(view).collect()
}

fn unrouted(counts: &Unrouted) -> UnroutedView {
    UnroutedView {
        no_route: counts.no_route,
        no_instance: counts.no_instance,
        overloaded: counts.overloaded,
        rejected: counts.rejected,
    }
}

fn service(snapshot: &Snapshot, name: &ServiceName, service: &Service) -> ServiceView {
    let pools: Vec<PoolView> = service
        .revisions
        .iter()
        .filter(|(_, kept)| !kept.slots.is_empty())
        .map(|(revision, kept)| pool(snapshot, name, service, *revision, kept))
        .collect();
    ServiceView {
        name: name.to_string(),
        replicas: service.replicas.max(match rollout_of(snapshot, name) {
            Some((_, rollout)) if service.stable.is_none() => rollout.replicas,
            Some(_) | None => 0,
        }),
        ready: pools.iter().filter(|pool| pool.weight > 0.0).map(|pool| pool.ready).sum(),
        url: format!("http://127.0.0.1:{}", service.port),
        pools,
        kept: service.revisions.keys().map(ToString::to_string).collect(),
        scale: snapshot.state.sized(name, &snapshot.world).map(scale),
        waiting: snapshot
            .world
            .edge
            .known()
            .map(|edge| edge.demand.get(name).map_or(0, |it| it.waiting)),
        hold: snapshot.state.holds.get(name).map(|it| hold(snapshot, name, it)),
    }
}

fn hold(snapshot: &Snapshot, name: &ServiceName, held: &Held) -> HoldView {
    let now = snapshot.state.held_now(name, &snapshot.world);
    HoldView {
        by: held.by.clone(),
        since_ms: snapshot.wall(held.since),
        until_ms: snapshot.wall(held.until()),
        in_force: now.is_some_and(|it| it.in_force),
        in_flight: now.map(|it| it.in_flight),
    }
}

fn scale(sized: Sized) -> ScaleView {
    let Sized { scale, measured } = sized;
    let seen = measured.as_ref().filter(|it| it.ready > 0);
    let gauge = |metric: Metric, whole: f64, target: f64| {
        let found = seen.and_then(|it| it.gauges.iter().find(|it| it.metric == metric));
        let known = seen.zip(found).filter(|(all, gauge)| gauge.unmeasured < all.ready);
        GaugeView {
            metric: metric.name().to_owned(),
            now: known.map(|(all, gauge)| tenths(as_f64(gauge.mean(all.ready)) / whole)),
            target,
        }
    };
    let in_flight = scale.in_flight.map(|it| gauge(Metric::InFlight, 1_000.0, f64::from(it)));
    let cpu = scale.cpu.map(|part| {
        let target = f64::from(part.0) / 100.0;
        let found = seen.and_then(|it| it.gauges.iter().find(|it| it.metric == Metric::Cpu));
        // In percent of what one instance may use.
        let whole = found.map_or(1.0, |gauge| as_f64(gauge.target) / target);
        gauge(Metric::Cpu, whole, target)
    });
    let by = in_flight.into_iter().chain(cpu).collect();
    ScaleView { min: scale.min, max: scale.max, by }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn as_f64(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

fn rollout_of<'a>(
    snapshot: &'a Snapshot,
    name: &ServiceName,
) -> Option<(&'a Release, &'a Rollout)> {
    let release = snapshot.state.release.as_ref()?;
    Some((release, release.rollouts.get(name)?))
}

fn pool(
    snapshot: &Snapshot,
    name: &ServiceName,
    service: &Service,
    revision: RevisionNumber,
    kept: &Kept,
) -> PoolView {
    let id = PoolId::new(name, revision);
    let instances: Vec<InstanceView> =
        kept.slots.iter().map(|(number, slot)| instance(snapshot, &id, *number, slot)).collect();
    PoolView {
        revision: revision.to_string(),
        role: role(snapshot, name, service, revision, kept).to_owned(),
        weight: f64::from(service.weight(revision).0) / 100.0,
        size: count(kept.active().count()),
        ready: count(instances.iter().filter(|it| it.state == "healthy").count()),
        instances,
    }
}

/// What the pool is there for.
fn role(
    snapshot: &Snapshot,
    name: &ServiceName,
    service: &Service,
    revision: RevisionNumber,
    kept: &Kept,
) -> &'static str {
    if kept.active().next().is_none() {
        return "retiring";
    }
    let Some((release, rollout)) = rollout_of(snapshot, name) else {
        return if service.stable == Some(revision) { "stable" } else { "retiring" };
    };
    let promoted = matches!(release.phase, Phase::Baking | Phase::Contracting);
    let is_new = rollout.to == revision;
    match (is_new, promoted) {
        (true, true) | (false, false) => "stable",
        (false, true) => "warm",
        (true, false) if rollout.from.is_none() => "stable",
        (true, false) => match rollout.strategy {
            evenkeel_kernel::model::Strategy::BlueGreen { .. } => "preview",
            evenkeel_kernel::model::Strategy::Rolling { .. }
            | evenkeel_kernel::model::Strategy::Canary { .. } => "canary",
        },
    }
}

fn instance(snapshot: &Snapshot, pool: &PoolId, number: u32, slot: &Slot) -> InstanceView {
    let id = pool.instance(number);
    let seen = snapshot.world.platform.known().and_then(|it| it.instances.get(&id));
    let edge = snapshot.world.edge.known();
    let backend = edge.and_then(|edge| edge.instances.get(&id)).copied().unwrap_or_default();
    let draining = slot.stage != Stage::Active;
    let (state, since) = match seen {
        None => ("starting", slot.since),
        Some(seen) => match seen.phase {
            InstancePhase::Running if draining => ("draining", seen.since),
            InstancePhase::Running => match backend.health {
                Health::Unknown => ("starting", seen.since),
                Health::Healthy => ("healthy", backend.since),
                Health::Unhealthy => ("unhealthy", backend.since),
            },
            InstancePhase::Backoff => ("backoff", seen.since),
            InstancePhase::PortTaken => ("port taken", seen.since),
            InstancePhase::Unstartable => ("unstartable", seen.since),
            InstancePhase::Stopping => ("stopping", seen.since),
            InstancePhase::Lost => ("lost", seen.since),
            InstancePhase::Ended { .. } => ("ended", seen.since),
        },
    };
    InstanceView {
        id: id.to_string(),
        port: slot.port,
        pid: seen.and_then(|seen| seen.pid),
        state: state.to_owned(),
        since_ms: snapshot.wall(since),
        exits: seen.map_or(0, |seen| seen.exits),
        last_exit: seen.and_then(|seen| seen.last_exit.clone()),
        in_flight: backend.in_flight,
        long_lived: backend.long_lived,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Apply => "apply",
        Kind::Restart => "restart",
        Kind::Rollback => "rollback",
    }
}

fn release(snapshot: &Snapshot, release: &Release) -> ReleaseView {
    let edge = snapshot.world.edge.known();
    let because = match &release.phase {
        Phase::TurningBack(because) => Some(because.to_string()),
        Phase::Expanding | Phase::Shifting { .. } | Phase::Baking | Phase::Contracting => None,
    };
    ReleaseView {
        id: release.id.0,
        kind: kind(release.kind).to_owned(),
        by: release.by.clone(),
        phase: release.phase.name().to_owned(),
        started_ms: snapshot.wall(release.started),
        since_ms: snapshot.wall(release.since),
        step: release.moving().map(|(service, it, step)| StepView {
            service: service.to_string(),
            step: step + 1,
            of: rollout::steps(&it.strategy, it.from.is_none()),
        }),
        paused: release.paused.as_ref().map(|paused| paused.by.clone()),
        held: release.paused.as_ref().and_then(|paused| paused.because.clone()),
        hotfix: release.hotfix.clone(),
        waits_at_gate: release.waits_at_gate(),
        gate_answer: release.gate_answer().map(str::to_owned),
        approvers: release.gate_policy().map(|gate| gate.approvers.clone()).unwrap_or_default(),
        approvals: approvals(snapshot, &release.approvals),
        bake: bake(snapshot, release),
        outcome: None,
        because,
        promoted: matches!(release.phase, Phase::Baking | Phase::Contracting),
        rollouts: release
            .rollouts
            .iter()
            .map(|(name, it)| RolloutView {
                service: name.to_string(),
                from: it.from.map(|from| from.to_string()),
                to: it.to.to_string(),
                warm: it.from.map_or(0, |from| active(snapshot, name, from)),
                analysis: analysis(snapshot, name, it),
                verdict: Some(snapshot.state.verdict(release, name, &snapshot.world).to_string()),
                checks: checks(snapshot, release, name, it),
            })
            .collect(),
        jobs: jobs(release),
        schemas: release.shapings(&snapshot.world).map(|it| schema(&it)).collect(),
        ledger: ledger(&release.ledger.as_of(edge)),
    }
}

fn jobs(release: &Release) -> Vec<JobView> {
    let in_order = release.job_order.iter();
    in_order
        .filter_map(|name| {
            let (run, job) = (release.jobs.get(name)?, release.wanted.jobs.get(name)?);
            Some(JobView {
                name: name.to_string(),
                revision: run.revision.to_string(),
                when: job.when.to_string(),
                state: match run.stage {
                    Attempt::Waiting => "waiting",
                    Attempt::Running { .. } => "running",
                    Attempt::Done => "done",
                    Attempt::Failed => "failed",
                }
                .to_owned(),
                attempts: run.attempts,
                last_failure: run.last_failure.clone(),
            })
        })
        .collect()
}

fn schema(shaping: &Shaping<'_>) -> SchemaView {
    let filling = shaping.filling;
    SchemaView {
        database: shaping.database.to_string(),
        revision: shaping.revision,
        stage: shaping.stage.to_owned(),
        rows: filling.map(|it| it.rows),
        of_rows: filling.map(|it| it.of),
        rows_per_s: filling.and_then(|it| it.rate),
        left_s: filling.and_then(|it| it.left).map(|it| it.as_secs()),
        trouble: shaping.trouble.map(str::to_owned),
    }
}

fn analysis(snapshot: &Snapshot, name: &ServiceName, rollout: &Rollout) -> Vec<TrackView> {
    let edge = snapshot.world.edge.known();
    let standings = edge.map(|edge| snapshot.state.standings(name, rollout, edge));
    let standings = standings.filter(|standings| !standings.is_empty());
    match standings {
        Some(standings) => standings.into_iter().map(track).collect(),
        None => rollout.judged.iter().map(|it| track((*it).into())).collect(),
    }
}

fn track(it: Standing) -> TrackView {
    TrackView {
        track: match it.track {
            Track::Errors => "errors",
            Track::SlowTail => "slow-tail",
            Track::SlowMiddle => "slow-middle",
        }
        .to_owned(),
        canary_requests: it.canary.requests,
        canary_bad: it.canary.bad,
        stable_requests: it.stable.requests,
        stable_bad: it.stable.bad,
        evidence: it.evidence,
    }
}

fn checks(
    snapshot: &Snapshot,
    release: &Release,
    name: &ServiceName,
    rollout: &Rollout,
) -> Vec<CheckView> {
    let checks = release.checks(name).map(|(check, policy)| {
        let stands = rollout.checks.get(check).cloned().unwrap_or_default();
        CheckView {
            name: check.to_string(),
            when: policy.when.to_string(),
            ask: policy.ask.to_string(),
            dry_run: !release.decides(policy),
            asked: stands.run,
            open: stands.is_open(),
            verdict: stands.said.as_ref().map(|said| said.verdict.to_string()),
            text: stands.said.map(|said| said.text),
            answered_ms: stands.answered.map(|at| snapshot.wall(at)),
        }
    });
    checks.collect()
}

fn active(snapshot: &Snapshot, name: &ServiceName, revision: RevisionNumber) -> u32 {
    let service = snapshot.state.services.get(name);
    let kept = service.and_then(|service| service.revisions.get(&revision));
    count(kept.map_or(0, |kept| kept.active().count()))
}

fn bake(snapshot: &Snapshot, release: &Release) -> Option<BakeView> {
    let needed = match &release.phase {
        Phase::Baking => snapshot.state.bake(release),
        Phase::Shifting { .. } => {
            let (_, it, step) = release.moving()?;
            rollout::watched(&it.strategy, step, it.from.is_none())?.bake
        }
        Phase::Expanding | Phase::Contracting | Phase::TurningBack(_) => return None,
    };
    let running = release.bake.seen.map(|seen| snapshot.now.since(seen)).unwrap_or_default();
    let healthy = (release.bake.healthy + running).min(needed);
    Some(BakeView {
        healthy_ms: ms(healthy),
        needed_ms: ms(needed),
        until_ms: snapshot.wall(snapshot.now.after(needed.saturating_sub(healthy))),
    })
}

fn past(snapshot: &Snapshot, past: &Past) -> ReleaseView {
    use evenkeel_kernel::release::Outcome;
    ReleaseView {
        id: past.id.0,
        kind: kind(past.kind).to_owned(),
        by: past.by.clone(),
        phase: "ended".to_owned(),
        started_ms: snapshot.wall(past.started),
        since_ms: snapshot.wall(past.ended),
        step: None,
        paused: None,
        held: None,
        hotfix: None,
        waits_at_gate: false,
        gate_answer: None,
        approvers: Vec::new(),
        approvals: approvals(snapshot, &past.approvals),
        bake: None,
        outcome: Some(past.outcome.to_string()),
        because: past.because.clone(),
        promoted: matches!(past.outcome, Outcome::Promoted | Outcome::FastPromoted),
        rollouts: past
            .moved
            .iter()
            .map(|(name, (from, to))| RolloutView {
                service: name.to_string(),
                from: from.map(|from| from.to_string()),
                to: to.to_string(),
                warm: 0,
                verdict: None,
                checks: Vec::new(),
                analysis: past
                    .judged
                    .get(name)
                    .map(|judged| judged.iter().map(|it| track((*it).into())).collect())
                    .unwrap_or_default(),
            })
            .collect(),
        jobs: Vec::new(),
        schemas: Vec::new(),
        ledger: ledger(&past.ledger),
    }
}

fn ledger(ledger: &Ledger) -> LedgerView {
    let pools = ledger.pools.iter().map(|(pool, account)| {
        let total = account.total();
        let causes = [
            ("status_5xx", total.status_5xx),
            ("connect", total.connect_failures),
            ("reset", total.resets),
            ("timeout", total.timeouts),
        ];
        let failed_by: BTreeMap<String, u64> =
            causes.into_iter().map(|(cause, count)| (cause.to_owned(), count)).collect();
        AccountView {
            service: pool.service.to_string(),
            revision: pool.revision.to_string(),
            requests: total.requests,
            served: total.requests.saturating_sub(total.failed() + total.client_gone),
            retried: total.retries,
            client_gone: total.client_gone,
            failed: total.failed(),
            failed_by,
        }
    });
    LedgerView { pools: pools.collect(), unrouted: unrouted(&ledger.unrouted.total()) }
}

fn wait(snapshot: &Snapshot, wait: Wait) -> WaitView {
    let until = wait.until.as_ref().map(|(at, _): &(Timestamp, String)| snapshot.wall(*at));
    WaitView {
        what: wait.what,
        since_ms: snapshot.wall(wait.since),
        until_ms: until,
        then: wait.until.map(|(_, then)| then),
        last_error: wait.last_error,
        unblock: wait.unblock,
    }
}

fn ms(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
