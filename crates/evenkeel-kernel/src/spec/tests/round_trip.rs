//! Any stack, printed as a file, is read back as the same stack; any text is read without panic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::{control, outside};
use crate::model::{
    Address, Analysis, Channel, Discovery, Exposure, Gate, Health, Job, JobWhen, KeptSecret,
    Limits, NoData, Probe, Protocol, Receiver, ReceiverName, Rollout, Scale, SecretSource, Service,
    ServiceName, Share, Signal, Stack, Step, Stop, Strategy as Shape, Tolerance, Weight, Workload,
};
use crate::spec::read;
use crate::spec::starter::quoted;

/// The services that a generated stack is made of.
const NAMES: [&str; 4] = ["web", "catalog", "mail-worker", "x9"];

/// The jobs.
const JOBS: [&str; 2] = ["migrate", "a-warm-up"];

fn text() -> impl Strategy<Value = String> {
    "[^\0]{1,12}"
}

fn span(max_secs: u64) -> impl Strategy<Value = Duration> {
    (1_000..=max_secs * 1_000).prop_map(Duration::from_millis)
}

fn probe() -> impl Strategy<Value = Option<Probe>> {
    prop_oneof![
        Just(None),
        "/[a-z0-9]{0,8}".prop_map(|path| Some(Probe::Http { path })),
        Just(Some(Probe::Grpc { service: String::new() })),
        "[a-z]{1,8}(\\.[A-Z][a-z]{0,5})?".prop_map(|service| Some(Probe::Grpc { service })),
        Just(Some(Probe::Tcp)),
        vec(text(), 1..3).prop_map(|command| Some(Probe::Exec { command })),
        Just(Some(Probe::Notify)),
        Just(Some(Probe::Process)),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    (probe(), span(3_600), span(600), 1_u32..=100, 1_u32..=100).prop_map(
        |(probe, interval, timeout, healthy_after, unhealthy_after)| Health {
            probe,
            interval,
            timeout,
            healthy_after,
            unhealthy_after,
        },
    )
}

fn stop() -> impl Strategy<Value = Stop> {
    let signals =
        [Signal::Term, Signal::Int, Signal::Quit, Signal::Hup, Signal::Usr1, Signal::Usr2];
    (select(signals.to_vec()), span(3_600), span(3_600), span(86_400)).prop_map(
        |(signal, grace, drain, drain_long_lived)| Stop { signal, grace, drain, drain_long_lived },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    let memory = proptest::option::of((1_u64 << 20)..(1 << 50));
    let cpu = proptest::option::of(1_u32..=1_000_000);
    (memory, cpu, proptest::option::of(16_u64..=1 << 20))
        .prop_map(|(memory, cpu_milli, files)| Limits { memory, cpu_milli, files })
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![
        (1_u32..=10_000).prop_map(Share::Count),
        (1_u16..=10_000).prop_map(|weight| Share::Percent(Weight(weight))),
    ]
}

fn shape(exclusive: bool) -> BoxedStrategy<Shape> {
    if exclusive {
        let max_unavailable = Share::Count(1);
        return Just(Shape::Rolling { max_surge: Share::Count(0), max_unavailable }).boxed();
    }
    let steps = btree_set(1_u16..10_000, 1..6).prop_flat_map(|weights| {
        let count = weights.len();
        (Just(weights), vec((span(86_400), control::gate()), count))
    });
    let steps = steps.prop_map(|(weights, bakes)| {
        let step = |(weight, (bake, gate)): (u16, (Duration, Option<Gate>))| Step {
            exposure: Exposure::Weight(Weight(weight)),
            bake,
            gate,
        };
        weights.into_iter().zip(bakes).map(step).collect()
    });
    prop_oneof![
        (share(), share())
            .prop_map(|(max_surge, max_unavailable)| Shape::Rolling { max_surge, max_unavailable }),
        Just(Shape::BlueGreen { preview: None }),
        steps.prop_map(|steps| Shape::Canary { steps }),
    ]
    .boxed()
}

fn analysis() -> impl Strategy<Value = Analysis> {
    let requests = proptest::option::of(0_u64..=1_000_000_000);
    (1_u32..=1_000, requests, any::<bool>(), span(3_600), any::<bool>()).prop_map(
        |(more, min_requests, hold, warm_up, latency)| Analysis {
            tolerance: Tolerance(1_000 + more),
            min_requests,
            no_data: if hold { NoData::Hold } else { NoData::Promote },
            warm_up,
            latency,
        },
    )
}

fn rollout(exclusive: bool) -> impl Strategy<Value = Rollout> {
    let spans = (span(3_600), span(86_400), span(7 * 86_400), span(86_400));
    let budget = proptest::option::of(0_u32..=10_000);
    let parts = (any::<[bool; 2]>(), outside::exposed(exclusive));
    (shape(exclusive), spans, budget, parts, analysis()).prop_map(
        move |(strategy, spans, failure_budget, parts, analysis)| Rollout {
            strategy,
            min_ready: spans.0,
            start_deadline: spans.1,
            progress_deadline: spans.2,
            failure_budget,
            bake: spans.3,
            auto_rollback: parts.0[0],
            analysis,
            checks: BTreeMap::new(),
            affinity: parts.0[1] && !exclusive,
            exposed: parts.1,
        },
    )
}

fn scale(exclusive: bool) -> impl Strategy<Value = Option<Scale>> {
    let targets = (proptest::option::of(1_u32..=1_000), proptest::option::of(1_u16..=10_000));
    let spans = (span(3_600), span(86_400), span(86_400));
    let parts = (0_u32..=5_000, 1_u32..=5_000, targets, spans);
    let some =
        parts.prop_map(|(min, more, (in_flight, cpu), (up_after, down_after, zero_after))| Scale {
            min,
            max: min + more,
            in_flight: in_flight.or(cpu.is_none().then_some(Scale::IN_FLIGHT)),
            cpu: cpu.map(Weight),
            up_after,
            down_after,
            zero_after,
        });
    if exclusive { Just(None).boxed() } else { proptest::option::of(some).boxed() }
}

fn service(name: &ServiceName, all: &[ServiceName]) -> impl Strategy<Value = Service> + use<> {
    let others: Vec<ServiceName> = all.iter().filter(|other| *other != name).cloned().collect();
    let uses = (0..=others.len())
        .prop_map(move |count| others.iter().take(count).cloned().collect::<BTreeSet<_>>());
    let env = btree_map("[A-Za-z_][A-Z0-9_]{0,6}x", "[^\0]{0,12}", 0..4);
    let files = vec("/[a-z]{1,5}(/[a-z]{1,5}){0,2}", 0..3);
    let texts = (vec(text(), 1..4), "/[a-z]{1,5}", env, files, uses).boxed();
    any::<bool>().prop_flat_map(move |exclusive| {
        let sizes = (1_u32..=10_000, scale(exclusive));
        let talk = (protocol(), outside::upstream_tls(), outside::traffic());
        let parts = (texts.clone(), health(), stop(), limits(), rollout(exclusive), sizes, talk);
        parts.prop_map(move |(texts, health, stop, limits, rollout, (replicas, scale), talk)| {
            let (run, dir, env, env_files, uses) = texts;
            let workload = Workload {
                run,
                dir,
                env,
                env_files,
                files: BTreeMap::new(),
                databases: BTreeMap::new(),
                uses,
                health,
                stop,
                limits,
                exclusive,
                config: Vec::new(),
                secrets: BTreeMap::new(),
                restarts: 0,
                once: false,
                protocol: talk.0,
                tls: talk.1,
            };
            let replicas = match &scale {
                Some(scale) => scale.within(replicas),
                None if exclusive => 1,
                None => replicas,
            };
            Service { workload, replicas, rollout, scale, traffic: talk.2 }
        })
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Http, Protocol::H2c, Protocol::Tcp])
}

/// A secret that control itself needs.
pub(super) fn kept() -> impl Strategy<Value = KeptSecret> {
    let source = prop_oneof![
        "[A-Z_]{1,6}".prop_map(SecretSource::Env),
        "/[a-z]{1,5}".prop_map(SecretSource::File),
        "/[a-z]{1,5}".prop_map(SecretSource::Age),
    ];
    source.prop_map(|from| KeptSecret { from, digest: None })
}

/// A URL, or where it is read from.
pub(super) fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        "https?://[a-z]{1,5}(:[1-9]{2})?/[a-z0-9?=]{0,8}".prop_map(Address::Url),
        kept().prop_map(Address::Secret),
    ]
}

fn receiver() -> impl Strategy<Value = Receiver> {
    let way = prop_oneof![
        (address(), proptest::option::of(kept()))
            .prop_map(|(to, secret)| (Channel::Webhook(to), secret)),
        address().prop_map(|to| (Channel::Slack(to), None)),
        vec(text(), 1..3).prop_map(|run| (Channel::Command { run, dir: "/srv".to_owned() }, None)),
    ];
    let events = vec(select(vec!["*", "release.*", "gate.reached"]), 0..3);
    (way, events).prop_map(|((to, secret), events)| Receiver {
        to,
        secret,
        events: events.into_iter().map(str::to_owned).collect(),
    })
}

fn job(
    place: usize,
    name: &ServiceName,
    all: &[ServiceName],
) -> impl Strategy<Value = Job> + use<> {
    let times = (span(7 * 86_400), 0_u32..=100);
    // The second may follow the first, which then comes as early.
    let first: BTreeSet<ServiceName> = JOBS[..place].iter().map(|it| it.parse().unwrap()).collect();
    (service(name, all), times, any::<[bool; 3]>()).prop_map(
        move |(service, (timeout, retries), [late, on_rollback, follows])| Job {
            workload: Workload {
                health: Health::default(),
                exclusive: false,
                once: true,
                protocol: Protocol::default(),
                tls: None,
                ..service.workload
            },
            when: if place > 0 && late { JobWhen::After } else { JobWhen::Before },
            follows: if follows { first.clone() } else { BTreeSet::new() },
            timeout,
            retries,
            on_rollback,
        },
    )
}

fn discovery() -> impl Strategy<Value = Discovery> {
    let addrs = |ip: [u8; 4]| {
        let addr = (1_u16..).prop_map(move |port| SocketAddr::from((ip, port)));
        btree_set(addr, 0..3).prop_map(|all| all.into_iter().collect::<Vec<_>>())
    };
    let own = [127, 0, 0, 1];
    let linger = (0_u64..100_000).prop_map(Duration::from_millis);
    (addrs(own), addrs(own), addrs(own), "[a-z]{1,5}", addrs([192, 0, 2, 1]), linger).prop_map(
        |(dns, http, xds, domain, forward, linger)| Discovery {
            dns,
            http,
            xds,
            domain,
            forward,
            linger,
        },
    )
}

fn stack() -> impl Strategy<Value = Stack> {
    (0..=NAMES.len()).prop_flat_map(|count| {
        let names: Vec<ServiceName> =
            NAMES.iter().take(count).map(|name| name.parse().unwrap()).collect();
        let services: Vec<_> = names.iter().map(|name| service(name, &names)).collect();
        let jobs: Vec<_> = (0..JOBS.len().min(count))
            .map(|place| job(place, &JOBS[place].parse().unwrap(), &names))
            .collect();
        let to = || names.first().cloned();
        let routes = (outside::routes(to()), outside::tcp(to()));
        let doors = (outside::edge(), outside::certificates());
        let notify = btree_map("[a-z]{1,5}", receiver(), 0..3);
        let control = (control::freezes(), control::pace(), discovery());
        let parts = (Just(names), services, jobs, routes, doors, notify, control);
        parts.prop_map(
            |(names, services, jobs, routes, doors, notify, (freezes, pace, discovery))| {
                let (edge, certificates) = doors;
                Stack {
                    name: "shop".parse().unwrap(),
                    routes: routes.0,
                    tcp: routes.1,
                    services: names.into_iter().zip(services).collect(),
                    jobs: JOBS.iter().map(|it| it.parse().unwrap()).zip(jobs).collect(),
                    databases: BTreeMap::new(),
                    edge,
                    certificates,
                    notify: notify
                        .into_iter()
                        .map(|(name, it)| (name.parse().unwrap(), it))
                        .collect(),
                    freezes,
                    pace,
                    discovery,
                }
            },
        )
    })
}

fn ms(span: Duration) -> String {
    format!("\"{}ms\"", span.as_millis())
}

pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|it| quoted(it)).collect();
    format!("[{}]", texts.join(", "))
}

fn share_text(share: Share) -> String {
    match share {
        Share::Count(count) => count.to_string(),
        Share::Percent(part) => format!("\"{part}\""),
    }
}

/// Prints a stack as a file that says everything.
fn print(stack: &Stack) -> String {
    let mut out = format!("stack = \"{}\"\n", stack.name);
    for (name, service) in &stack.services {
        print_service(&mut out, name, service).unwrap();
    }
    for (name, job) in &stack.jobs {
        print_job(&mut out, name, job).unwrap();
    }
    outside::print(&mut out, stack).unwrap();
    for (name, receiver) in &stack.notify {
        print_receiver(&mut out, name, receiver).unwrap();
    }
    control::print(&mut out, stack);
    print_discovery(&mut out, &stack.discovery).unwrap();
    out
}

fn print_discovery(out: &mut String, it: &Discovery) -> std::fmt::Result {
    writeln!(out, "[discovery]\ndomain = \"{}\"\nlinger = {}", it.domain, ms(it.linger))?;
    let all = [("dns", &it.dns), ("http", &it.http), ("xds", &it.xds), ("forward", &it.forward)];
    all.into_iter().try_for_each(|(key, addrs)| {
        let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        writeln!(out, "{key} = {}", list(&addrs))
    })
}

fn print_receiver(out: &mut String, name: &ReceiverName, it: &Receiver) -> std::fmt::Result {
    writeln!(out, "[notify.{name}]")?;
    match &it.to {
        Channel::Webhook(Address::Url(to)) | Channel::Slack(Address::Url(to)) => {
            writeln!(out, "{} = {}", it.to.key(), quoted(to))?;
        }
        Channel::Webhook(Address::Secret(to)) | Channel::Slack(Address::Secret(to)) => {
            writeln!(out, "{} = \"{}\"", it.to.key(), to.from)?;
        }
        Channel::Command { run, .. } => writeln!(out, "command = {}", list(run))?,
    }
    if let Some(secret) = &it.secret {
        writeln!(out, "secret = \"{}\"", secret.from)?;
    }
    match it.events.is_empty() {
        true => Ok(()),
        false => writeln!(out, "events = {}", list(&it.events)),
    }
}

fn print_service(out: &mut String, name: &ServiceName, service: &Service) -> std::fmt::Result {
    let Service { workload, replicas, rollout, scale, traffic } = service;
    writeln!(out, "[service.{name}]\nreplicas = {replicas}")?;
    writeln!(out, "exclusive = {}", workload.exclusive)?;
    writeln!(out, "protocol = \"{}\"", workload.protocol.as_str())?;
    let uses: Vec<String> = workload.uses.iter().map(ToString::to_string).collect();
    writeln!(out, "uses = {}", list(&uses))?;
    print_workload(out, workload)?;
    if let Some(tls) = &workload.tls {
        outside::print_tls(out, tls)?;
    }
    print_health(out, name, &workload.health)?;
    outside::print_traffic(out, name, traffic)?;
    print_rollout(out, name, rollout)?;
    scale.iter().try_for_each(|scale| print_scale(out, name, scale))
}

fn print_job(out: &mut String, name: &ServiceName, job: &Job) -> std::fmt::Result {
    writeln!(out, "[job.{name}]\nwhen = \"{}\"\ntimeout = {}", job.when, ms(job.timeout))?;
    writeln!(out, "retries = {}\non_rollback = {}", job.retries, job.on_rollback)?;
    let services = job.workload.uses.iter().map(|it| format!("service.{it}"));
    let uses: Vec<String> =
        services.chain(job.follows.iter().map(|it| format!("job.{it}"))).collect();
    writeln!(out, "uses = {}", list(&uses))?;
    print_workload(out, &job.workload)
}

/// What services and jobs are described by alike, below their header.
fn print_workload(out: &mut String, workload: &Workload) -> std::fmt::Result {
    writeln!(out, "run = {}", list(&workload.run))?;
    writeln!(out, "dir = {}\nenv_file = {}", quoted(&workload.dir), list(&workload.env_files))?;
    for (name, value) in &workload.env {
        writeln!(out, "env.{name} = {}", quoted(value))?;
    }
    let limits = &workload.limits;
    for (key, value) in [
        ("memory", limits.memory.map(|it| it.to_string())),
        ("cpu", limits.cpu_milli.map(|it| format!("{}.{:03}", it / 1_000, it % 1_000))),
        ("files", limits.files.map(|it| it.to_string())),
    ] {
        if let Some(value) = value {
            writeln!(out, "limits.{key} = {value}")?;
        }
    }
    let stop = &workload.stop;
    let signal = format!("{:?}", stop.signal).to_uppercase();
    writeln!(out, "stop.signal = \"SIG{signal}\"\nstop.grace = {}", ms(stop.grace))?;
    let (drain, long) = (ms(stop.drain), ms(stop.drain_long_lived));
    writeln!(out, "stop.drain = {drain}\nstop.drain_long_lived = {long}")
}

fn print_scale(out: &mut String, name: &ServiceName, scale: &Scale) -> std::fmt::Result {
    writeln!(out, "[service.{name}.scale]\nmin = {}\nmax = {}", scale.min, scale.max)?;
    if let Some(in_flight) = scale.in_flight {
        writeln!(out, "in_flight = {in_flight}")?;
    }
    if let Some(cpu) = scale.cpu {
        writeln!(out, "cpu = \"{cpu}\"")?;
    }
    writeln!(out, "zero_after = {}", ms(scale.zero_after))?;
    writeln!(out, "up_after = {}\ndown_after = {}", ms(scale.up_after), ms(scale.down_after))
}

fn print_health(out: &mut String, name: &ServiceName, health: &Health) -> std::fmt::Result {
    writeln!(out, "[service.{name}.health]")?;
    writeln!(out, "interval = {}\ntimeout = {}", ms(health.interval), ms(health.timeout))?;
    writeln!(out, "healthy_after = {}", health.healthy_after)?;
    writeln!(out, "unhealthy_after = {}", health.unhealthy_after)?;
    match &health.probe {
        Some(Probe::Http { path }) => writeln!(out, "http = {}", quoted(path)),
        Some(Probe::Grpc { service }) if service.is_empty() => writeln!(out, "grpc = true"),
        Some(Probe::Grpc { service }) => writeln!(out, "grpc = {}", quoted(service)),
        Some(Probe::Tcp) => writeln!(out, "tcp = true"),
        Some(Probe::Exec { command }) => writeln!(out, "exec = {}", list(command)),
        Some(Probe::Notify) => writeln!(out, "notify = true"),
        Some(Probe::Process) => writeln!(out, "process = true"),
        None => Ok(()),
    }
}

fn print_rollout(out: &mut String, name: &ServiceName, rollout: &Rollout) -> std::fmt::Result {
    writeln!(out, "[service.{name}.rollout]\nmin_ready = {}", ms(rollout.min_ready))?;
    writeln!(out, "start_deadline = {}", ms(rollout.start_deadline))?;
    writeln!(out, "progress_deadline = {}", ms(rollout.progress_deadline))?;
    writeln!(out, "bake = {}\nauto_rollback = {}", ms(rollout.bake), rollout.auto_rollback)?;
    let Analysis { tolerance, min_requests, no_data, warm_up, latency } = &rollout.analysis;
    let more = f64::from(tolerance.as_more().0) / 100.0;
    let no_data = if *no_data == NoData::Hold { "hold" } else { "promote" };
    write!(out, "analysis = {{ tolerance = \"{more}%\", warm_up = {}, ", ms(*warm_up))?;
    if let Some(requests) = min_requests {
        write!(out, "min_requests = {requests}, ")?;
    }
    writeln!(out, "no_data = \"{no_data}\", latency = {latency} }}")?;
    writeln!(out, "affinity = {}", rollout.affinity)?;
    outside::print_exposed(out, &rollout.exposed)?;
    if let Some(budget) = rollout.failure_budget {
        writeln!(out, "failure_budget = {budget}")?;
    }
    match &rollout.strategy {
        Shape::Rolling { max_surge, max_unavailable } => {
            writeln!(out, "max_surge = {}", share_text(*max_surge))?;
            writeln!(out, "max_unavailable = {}", share_text(*max_unavailable))
        }
        Shape::BlueGreen { preview } => {
            writeln!(out, "strategy = \"blue-green\"")?;
            preview.iter().try_for_each(|host| writeln!(out, "preview = \"{host}\""))
        }
        Shape::Canary { steps } => {
            writeln!(out, "strategy = \"canary\"\nsteps = [")?;
            for step in steps {
                let exposure = match step.exposure {
                    Exposure::Weight(weight) => format!("weight = \"{weight}\""),
                    Exposure::Instances(count) => format!("instances = {count}"),
                };
                writeln!(
                    out,
                    "  {{ {exposure}, bake = {}, gate = {} }},",
                    ms(step.bake),
                    control::gate_text(step.gate.as_ref())
                )?;
            }
            writeln!(out, "]")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_stack_that_is_printed_is_read_back(stack in stack()) {
        let text = print(&stack);
        let (read, problems) = read(&text, "/srv");
        prop_assert_eq!(problems, vec![], "{}", text);
        prop_assert_eq!(read, Some(stack), "{}", text);
    }

    #[test]
    fn a_damaged_file_is_read_without_panic(
        stack in stack(),
        cuts in vec((any::<prop::sample::Index>(), 0_usize..20, "[\\[\\]{}=\"'#,.\né0a ]{0,4}"), 1..4),
    ) {
        let mut text = print(&stack);
        for (at, length, instead) in cuts {
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.ceil_char_boundary((at + length).min(text.len()));
            text.replace_range(at..end, &instead);
        }
        let (stack, problems) = read(&text, "/srv");
        prop_assert_eq!(stack.is_some(), problems.is_empty());
        for problem in problems {
            prop_assert!(problem.line >= 1 && problem.column >= 1 && problem.length >= 1);
            prop_assert!(problem.render("evenkeel.toml", &text).contains(" error: "));
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in any::<String>(), toml in "[a-c=\\[\\]{}\"'.,# \n\\\\é0-9]{0,80}") {
        for text in [text, toml] {
            let (stack, problems) = read(&text, "/srv");
            prop_assert_eq!(stack.is_some(), problems.is_empty());
            for problem in problems {
                prop_assert!(problem.render("evenkeel.toml", &text).contains(" error: "));
            }
        }
    }
}
