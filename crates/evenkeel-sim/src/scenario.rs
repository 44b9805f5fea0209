//! What a seed describes: a stack, what people do to it, and how rough the world is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_kernel::model::{
    Analysis, Ask, Check, Edge, Exposed, Exposure, Health, Limits, Protocol, Rollout, Route,
    Service, ServiceName, Share, Stack, Step, Stop, Strategy, Traffic, Weight, When as CheckWhen,
    Workload,
};

use crate::rng::{Purpose, Rng};
use crate::{databases, jobs};

/// How a revision behaves, told by its environment so that it travels with the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It starts, and answers.
    Good,
    /// It never answers.
    NeverHealthy,
    /// It ends again and again soon after its start.
    CrashLoop,
    /// Its health is fine, its answers are not.
    FailsRequests,
    /// It is well until it has had traffic for a while.
    TurnsSick,
}

pub(crate) const BEHAVIOUR: &str = "BEHAVIOUR";

impl Behaviour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NeverHealthy => "never-healthy",
            Self::CrashLoop => "crash-loop",
            Self::FailsRequests => "fails-requests",
            Self::TurnsSick => "turns-sick",
        }
    }

    /// How `workload` behaves.
    pub(crate) fn of(workload: &Workload) -> Self {
        let name = workload.env.get(BEHAVIOUR).map_or("good", String::as_str);
        let all = [Self::NeverHealthy, Self::CrashLoop, Self::FailsRequests, Self::TurnsSick];
        all.into_iter().find(|it| it.name() == name).unwrap_or(Self::Good)
    }
}

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Roughness {
    /// Nothing.
    Calm,
    /// Control and its view fail: crashes, stalls, lost orders, blindness, full disks. A good
    /// release gets through all of it.
    Control,
    /// The machine fails too, and operators meddle: a good release may be taken back, but nothing
    /// unsafe happens.
    Machine,
}

/// When a person does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as no release is under way.
    Settled,
    /// So long after the release under way entered a phase of this name, or after a while.
    Phase(&'static str),
    /// So long after what was done before.
    Later,
}

/// What a person does.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Apply { stack: Box<Stack>, force: bool },
    Pause,
    Resume,
    Promote { full: bool },
    Abort,
    Rollback,
    Scale { service: ServiceName, replicas: u32 },
    Restart { service: ServiceName },
}

/// One thing that a person does.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) when: When,
    pub(crate) delay_ms: u64,
    pub(crate) what: What,
}

/// Everything a seed describes, but for the moments at which faults strike.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) roughness: Roughness,
    pub(crate) acts: Vec<Act>,
}

const PHASES: [&str; 5] = ["expanding", "shifting", "baking", "contracting", "turning back"];

/// Of so many seeds one starts few instances at a time: the one with this remainder.
const PACED: u64 = 8;
const PACED_BY: u64 = 1;

impl Scenario {
    /// The scenario of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Purpose::Scenario);
        let roughness = match rng.below(10) {
            0 | 1 => Roughness::Calm,
            2..=5 => Roughness::Control,
            _ => Roughness::Machine,
        };
        let mut stack = first_stack(&mut rng);
        // A stream of their own, so that they change nothing of what a seed describes otherwise.
        let mut asks = Rng::new(seed, Purpose::Checks);
        add_checks(&mut stack, roughness, &mut asks);
        // Not drawn, so that the seeds which once found something still tell the same story.
        if seed % PACED == PACED_BY {
            stack.pace.starts = u32::try_from(seed / PACED % 3 + 1).ok();
        }
        let mut of_jobs = Rng::new(seed, Purpose::Jobs);
        jobs::add(&mut stack, &mut of_jobs);
        affinity(&mut stack, &mut of_jobs);
        let mut of_databases = Rng::new(seed, Purpose::Databases);
        databases::add(&mut stack, &mut of_databases);
        let mut acts = vec![Act {
            when: When::Settled,
            delay_ms: 0,
            what: What::Apply { stack: Box::new(stack.clone()), force: false },
        }];
        for version in 0..rng.between(1, 3) {
            let mut changed = change(&stack, version, &mut rng);
            add_checks(&mut changed, roughness, &mut asks);
            jobs::change(&mut changed, version, &mut of_jobs);
            databases::change(&mut changed, version, &mut of_databases);
            let when = if rng.chance(650) { When::Settled } else { When::Later };
            let force = rng.chance(100);
            acts.push(Act {
                when,
                delay_ms: rng.between(0, 4_000),
                what: What::Apply { stack: Box::new(changed.clone()), force },
            });
            for _ in 0..rng.below(3) {
                acts.push(meddle(&changed, &mut rng));
            }
            // People repair what they broke before they change something else.
            stack = repaired(changed);
        }
        Self { roughness, acts }
    }
}

fn first_stack(rng: &mut Rng) -> Stack {
    let mut stack = Stack::empty("sim".parse().expect("a name"));
    stack.edge = Edge { listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))], ..Edge::default() };
    for name in &["api", "db", "web"][..usize::try_from(rng.between(1, 3)).unwrap_or(1)] {
        add_service(&mut stack, name, rng);
    }
    add_route(&mut stack, rng);
    stack
}

fn add_service(stack: &mut Stack, name: &str, rng: &mut Rng) {
    let others: Vec<ServiceName> = stack.services.keys().cloned().collect();
    let uses: BTreeSet<_> = others.into_iter().filter(|_| rng.chance(500)).collect();
    let exclusive = rng.chance(60);
    let replicas = if exclusive { 1 } else { rng.small(1, 5) };
    let ms = Duration::from_millis;
    let workload = Workload {
        run: vec![format!("./{name}")],
        dir: "/".to_owned(),
        env: BTreeMap::new(),
        env_files: Vec::new(),
        files: BTreeMap::new(),
        databases: BTreeMap::new(),
        uses,
        health: Health::default(),
        stop: Stop {
            drain: ms(rng.between(300, 1_200)),
            drain_long_lived: ms(rng.between(500, 2_000)),
            ..Stop::default()
        },
        limits: Limits::default(),
        exclusive,
        config: Vec::new(),
        secrets: BTreeMap::new(),
        restarts: 0,
        once: false,
        protocol: Protocol::default(),
        tls: None,
    };
    let rollout = Rollout {
        strategy: strategy(exclusive, rng),
        min_ready: ms(rng.between(100, 600)),
        start_deadline: ms(12_000),
        progress_deadline: ms(22_000),
        failure_budget: None,
        bake: ms(rng.between(3_000, 5_000)),
        auto_rollback: !rng.chance(50),
        // No requests are simulated one by one.
        analysis: Analysis { min_requests: Some(0), ..Analysis::default() },
        checks: BTreeMap::new(),
        affinity: false,
        exposed: Exposed::default(),
    };
    let service = Service { workload, replicas, rollout, scale: None, traffic: Traffic::default() };
    stack.services.insert(name.parse().expect("a name"), service);
}

/// Now and then a service is asked more, until its file is edited again.
fn add_checks(stack: &mut Stack, roughness: Roughness, rng: &mut Rng) {
    for service in stack.services.values_mut() {
        service.rollout.checks.clear();
        for when in [CheckWhen::Before, CheckWhen::During, CheckWhen::After] {
            if !rng.chance(120) {
                continue;
            }
            let check = Check {
                ask: Ask::Command { run: vec!["./ask".to_owned()], dir: "/".to_owned() },
                when,
                every: Duration::from_millis(rng.between(300, 2_000)),
                timeout: Duration::from_secs(1),
                failures: rng.small(1, 2),
                // A good release gets through all but a broken machine.
                errors: if roughness < Roughness::Machine { 100 } else { 3 },
                dry_run: rng.chance(100),
            };
            service.rollout.checks.insert(when.to_string().parse().expect("a name"), check);
        }
    }
}

/// Lets some services follow their callers.
fn affinity(stack: &mut Stack, rng: &mut Rng) {
    for service in stack.services.values_mut() {
        service.rollout.affinity = rng.chance(250) && !service.workload.exclusive;
    }
}

fn strategy(exclusive: bool, rng: &mut Rng) -> Strategy {
    if exclusive {
        return Strategy::Rolling { max_surge: Share::Count(0), max_unavailable: Share::Count(1) };
    }
    match rng.below(3) {
        0 => Strategy::Rolling {
            max_surge: *rng.pick(&[
                Share::Count(0),
                Share::Count(1),
                Share::Count(2),
                Share::Percent(Weight(2_500)),
                Share::Percent(Weight::ALL),
            ]),
            max_unavailable: *rng.pick(&[Share::Count(0), Share::Count(0), Share::Count(1)]),
        },
        1 => Strategy::BlueGreen { preview: rng.chance(500).then(|| "next.test".to_owned()) },
        _ => Strategy::Canary { steps: canary_steps(rng) },
    }
}

fn canary_steps(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    for weight in [100, 1_000, 2_500, 5_000] {
        if rng.chance(450) {
            let bake = Duration::from_millis(rng.between(200, 1_500));
            let exposure = match rng.chance(800) {
                true => Exposure::Weight(Weight(weight)),
                false => Exposure::Instances(rng.small(1, 3)),
            };
            steps.push(Step { exposure, bake, gate: None });
        }
    }
    steps
}

fn add_route(stack: &mut Stack, rng: &mut Rng) {
    let names: Vec<_> = stack.services.keys().cloned().collect();
    let to = rng.pick(&names).clone();
    let path = (*rng.pick(&["/", "/api"])).to_owned();
    let name = if path == "/" { "all" } else { "api" };
    stack.routes.insert(name.parse().expect("a name"), Route::plain(None, path, to));
}

/// The stack file after a person has edited it.
fn change(stack: &Stack, version: u64, rng: &mut Rng) -> Stack {
    let mut stack = stack.clone();
    let names: Vec<ServiceName> = stack.services.keys().cloned().collect();
    for (i, name) in names.iter().enumerate() {
        if i > 0 && !rng.chance(400) {
            continue;
        }
        let Some(service) = stack.services.get_mut(name) else { continue };
        service.workload.env.insert("VERSION".to_owned(), version.to_string());
        let behaviour = match rng.below(10) {
            0 => Behaviour::NeverHealthy,
            1 => Behaviour::CrashLoop,
            2 => Behaviour::FailsRequests,
            3 => Behaviour::TurnsSick,
            _ => Behaviour::Good,
        };
        service.workload.env.insert(BEHAVIOUR.to_owned(), behaviour.name().to_owned());
        if rng.chance(150) && !service.workload.exclusive {
            service.replicas = rng.small(1, 5);
        }
        if rng.chance(150) && !service.workload.exclusive {
            service.rollout.strategy = strategy(false, rng);
        }
    }
    if rng.chance(120) && stack.services.len() < 3 {
        let free = ["api", "db", "web"]
            .iter()
            .find(|name| !stack.services.keys().any(|taken| taken.as_str() == **name));
        if let Some(name) = free {
            add_service(&mut stack, name, rng);
        }
    }
    if rng.chance(120) && stack.services.len() > 1 {
        remove_service(&mut stack, rng);
    }
    if rng.chance(150) {
        add_route(&mut stack, rng);
    }
    stack
}

fn remove_service(stack: &mut Stack, rng: &mut Rng) {
    let names: Vec<ServiceName> = stack.services.keys().cloned().collect();
    let gone = rng.pick(&names).clone();
    stack.services.remove(&gone);
    for service in stack.services.values_mut() {
        service.workload.uses.remove(&gone);
    }
    stack.routes.retain(|_, route| route.to() != Some(&gone));
}

/// The same stack with every revision good.
fn repaired(mut stack: Stack) -> Stack {
    for (_, workload) in stack.workloads_mut() {
        workload.env.insert(BEHAVIOUR.to_owned(), Behaviour::Good.name().to_owned());
    }
    stack
}

/// What a person does while a release is under way.
fn meddle(stack: &Stack, rng: &mut Rng) -> Act {
    let names: Vec<ServiceName> = stack.services.keys().cloned().collect();
    let service = rng.pick(&names).clone();
    let what = match rng.below(11) {
        0 => What::Pause,
        1 | 2 => What::Resume,
        3 => What::Promote { full: false },
        4 => What::Promote { full: true },
        5 | 6 => What::Abort,
        7 | 8 => What::Rollback,
        9 => What::Scale { service, replicas: rng.small(1, 5) },
        _ => What::Restart { service },
    };
    let when = match rng.below(4) {
        0 => When::Later,
        _ => When::Phase(rng.pick::<&'static str>(&PHASES)),
    };
    Act { when, delay_ms: rng.between(0, 2_500), what }
}
