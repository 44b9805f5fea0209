//! Which fields of a component differ, as names and texts that people know from their file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{
    Balance, Certificate, CertificateSource, Discovery, Edge, Exposed, Exposure, Freeze, Gate,
    Health, Job, Leads, Limits, Matches, NoData, Pace, Probe, Protocol, Rate, Rollout, Route,
    RoutePolicy, Scale, Service, Stop, Strategy, TcpRoute, Telemetry, Traffic, Workload,
};
use crate::time::human;

/// One field before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its name as in the file, with dots: `env.LOG`.
    pub field: String,
    /// Its value before; `None` if it was not there.
    pub from: Option<String>,
    /// Its value after; `None` if it is gone.
    pub to: Option<String>,
}

impl FieldChange {
    /// A field that has a value before and after.
    pub(crate) fn between(field: &str, from: &impl ToString, to: &impl ToString) -> Self {
        let (from, to) = (Some(from.to_string()), Some(to.to_string()));
        Self { field: field.to_owned(), from, to }
    }
}

/// The fields in which two services differ. Of one that is new: all that say more than the
/// defaults do.
pub(super) fn of_service(old: Option<&Service>, new: &Service) -> Vec<FieldChange> {
    if old == Some(new) {
        return Vec::new();
    }
    let fields = service_fields(new);
    match old {
        Some(old) => {
            let mut all = differences(&service_fields(old), &fields);
            all.extend(another_url(old, new, &fields).filter(|_| all.is_empty()));
            all
        }
        None => {
            let usual = service_fields(&plain());
            let told = fields.into_iter().filter(|(name, value)| {
                ALWAYS_TOLD.contains(&name.as_str()) || usual.get(name) != Some(value)
            });
            differences(&Fields::new(), &told.collect())
        }
    }
}

/// Of the URL of a gate's webhook only the host is shown; this tells that the rest is another.
fn another_url(old: &Service, new: &Service, fields: &Fields) -> Option<FieldChange> {
    let same = old.gate_webhooks().eq(new.gate_webhooks());
    let shown = fields.get("rollout.steps").filter(|_| !same)?;
    let to = format!("{shown}, where the URL of a webhook is another");
    Some(FieldChange::between("rollout.steps", shown, &to))
}

/// Fields that a new service is always described by.
const ALWAYS_TOLD: [&str; 3] = ["replicas", "run", "rollout.strategy"];

/// A service of which nothing is said but that it runs.
fn plain() -> Service {
    Service {
        workload: Workload {
            run: Vec::new(),
            dir: String::new(),
            env: BTreeMap::new(),
            env_files: Vec::new(),
            files: BTreeMap::new(),
            uses: BTreeSet::new(),
            databases: BTreeMap::new(),
            health: Health::default(),
            stop: Stop::default(),
            limits: Limits::default(),
            exclusive: false,
            config: Vec::new(),
            secrets: BTreeMap::new(),
            restarts: 0,
            once: false,
            protocol: Protocol::default(),
            tls: None,
        },
        replicas: 1,
        rollout: Rollout::default(),
        scale: None,
        traffic: Traffic::default(),
    }
}

/// The fields in which two jobs differ. Of one that is new: all of them.
pub(super) fn of_job(old: Option<&Job>, new: &Job) -> Vec<FieldChange> {
    differences(&old.map(job_fields).unwrap_or_default(), &job_fields(new))
}

fn job_fields(job: &Job) -> Fields {
    let mut fields = Fields::new();
    workload_fields(&job.workload, &mut fields);
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    set("when", job.when.to_string());
    set("timeout", human(job.timeout));
    set("retries", job.retries.to_string());
    set("on_rollback", job.on_rollback.to_string());
    if !job.follows.is_empty() {
        let follows: Vec<_> = job.follows.iter().map(|name| format!("job.{name}")).collect();
        set("follows", follows.join(", "));
    }
    fields
}

/// The fields in which two routes differ.
pub(super) fn of_route(old: Option<&Route>, new: Option<&Route>) -> Vec<FieldChange> {
    differences(
        &old.map(route_fields).unwrap_or_default(),
        &new.map(route_fields).unwrap_or_default(),
    )
}

/// The fields in which two freezes differ.
pub(super) fn of_freeze(old: Option<&Freeze>, new: Option<&Freeze>) -> Vec<FieldChange> {
    differences(
        &old.map(freeze_fields).unwrap_or_default(),
        &new.map(freeze_fields).unwrap_or_default(),
    )
}

/// The fields in which two paces differ.
pub(super) fn of_pace(old: &Pace, new: &Pace) -> Vec<FieldChange> {
    differences(&pace_fields(old), &pace_fields(new))
}

/// The fields in which two discoveries differ.
pub(super) fn of_discovery(old: &Discovery, new: &Discovery) -> Vec<FieldChange> {
    differences(&discovery_fields(old), &discovery_fields(new))
}

type Fields = BTreeMap<String, String>;

fn differences(old: &Fields, new: &Fields) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            from: old.get(name).cloned(),
            to: new.get(name).cloned(),
        })
        .collect()
}

fn route_fields(route: &Route) -> Fields {
    let mut fields = Fields::new();
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    set("path", route.path.clone());
    match &route.leads {
        Leads::To(service) => drop(set("to", format!("service.{service}"))),
        Leads::Redirect(it) => drop(set("redirect", format!("{} ({})", it.to, it.status))),
    }
    if let Some(host) = &route.host {
        set("host", host.clone());
    }
    if route.exact {
        set("exact", "true".to_owned());
    }
    matches_fields("", &route.matches, &mut fields);
    policy_fields(&route.policy, &mut fields);
    fields
}

fn matches_fields(prefix: &str, matches: &Matches, fields: &mut Fields) {
    let mut set = |name: String, value: String| fields.insert(format!("{prefix}{name}"), value);
    if !matches.methods.is_empty() {
        set("methods".to_owned(), join(&matches.methods));
    }
    for (name, value) in &matches.headers {
        set(format!("headers.{name}"), value.clone());
    }
    for (name, value) in &matches.cookies {
        set(format!("cookies.{name}"), value.clone());
    }
}

fn policy_fields(policy: &RoutePolicy, fields: &mut Fields) {
    let mut set = |name: &str, value: Option<String>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    set("timeout", policy.timeout.map(human));
    set("try_timeout", policy.try_timeout.map(human));
    set("retries", policy.retries.map(|it| it.to_string()));
    set("body_max", policy.body_max.map(|it| format!("{it} bytes")));
    let rate = |it: Rate| {
        let by = if it.by_client { " for each client" } else { "" };
        format!("{} in {}, {} at once{by}", it.requests, human(it.per), it.burst)
    };
    set("rate", policy.rate.map(rate));
    set("strip", policy.strip.then(|| "true".to_owned()));
    set("maintenance", policy.maintenance.clone());
}

fn traffic_fields(traffic: &Traffic, fields: &mut Fields) {
    if *traffic == Traffic::default() {
        return;
    }
    let mut set = |name: &str, value: String| fields.insert(format!("traffic.{name}"), value);
    set("balance", traffic.balance.as_str().to_owned());
    if let Balance::Hash(key) = &traffic.balance {
        set("hash_by", key.to_string());
    }
    set("slow_start", human(traffic.slow_start));
    set("in_flight_max", traffic.in_flight_max.to_string());
    set("queue_max", traffic.queue_max.to_string());
    set("queue_wait", human(traffic.queue_wait));
    set("eject_max", traffic.eject_max.to_string());
}

fn exposed_fields(exposed: &Exposed, fields: &mut Fields) {
    if let Some(sticky) = &exposed.sticky {
        fields.insert("rollout.sticky".to_owned(), sticky.to_string());
    }
    if let Some(testers) = &exposed.testers {
        matches_fields("rollout.testers.", testers, fields);
    }
    if let Some(mirror) = &exposed.mirror {
        let text = format!("{} of {}", mirror.share, join(&mirror.methods));
        fields.insert("rollout.mirror".to_owned(), text);
    }
}

/// The fields in which two doors for what is not HTTP differ.
pub(super) fn of_tcp(old: Option<&TcpRoute>, new: Option<&TcpRoute>) -> Vec<FieldChange> {
    let fields = |it: &TcpRoute| {
        Fields::from([
            ("listen".to_owned(), it.listen.to_string()),
            ("to".to_owned(), format!("service.{}", it.to)),
            ("proxy_protocol".to_owned(), it.proxy_protocol.to_string()),
        ])
    };
    differences(&old.map(fields).unwrap_or_default(), &new.map(fields).unwrap_or_default())
}

/// The fields in which two certificates differ.
pub(super) fn of_certificate(
    old: Option<&Certificate>,
    new: Option<&Certificate>,
) -> Vec<FieldChange> {
    let fields = |it: &Certificate| {
        let mut fields = Fields::from([("hosts".to_owned(), join(&it.hosts))]);
        match &it.from {
            CertificateSource::Files { chain, key } => {
                fields.insert("chain".to_owned(), chain.clone());
                fields.insert("key".to_owned(), key.clone());
            }
            CertificateSource::Acme => drop(fields.insert("acme".to_owned(), "true".to_owned())),
        }
        fields
    };
    differences(&old.map(fields).unwrap_or_default(), &new.map(fields).unwrap_or_default())
}

/// The fields in which the doors to the outside differ.
pub(super) fn of_edge(old: &Edge, new: &Edge) -> Vec<FieldChange> {
    let fields = |edge: &Edge| {
        let mut fields = Fields::new();
        let mut set = |name: &str, value: String| {
            if !value.is_empty() {
                fields.insert(name.to_owned(), value);
            }
        };
        set("listen", join(&edge.listen));
        set("tls", join(&edge.tls));
        if !edge.tls.is_empty() {
            set("to_https", edge.to_https.to_string());
        }
        set("proxies", join(&edge.proxies));
        if let Some(acme) = &edge.acme {
            set("acme.directory", acme.directory.clone());
            set("acme.contact", acme.contact.clone().unwrap_or_default());
            set("acme.root", acme.root.clone().unwrap_or_default());
        }
        let Telemetry { metrics, access_log, traces } = &edge.telemetry;
        set("metrics", join(metrics));
        if let Some(log) = access_log {
            set("access_log.file", log.file.clone().unwrap_or_else(|| "in the home".to_owned()));
            set("access_log.sample", log.sample.to_string());
            set("access_log.query", log.query.to_string());
            set("access_log.rotate", log.rotate.to_string());
            set("access_log.keep", log.keep.to_string());
        }
        if let Some(traces) = traces {
            set("traces.to", traces.to.clone());
            set("traces.sample", traces.sample.to_string());
        }
        fields
    };
    differences(&fields(old), &fields(new))
}

fn join<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|it| it.to_string()).collect();
    all.join(", ")
}

fn freeze_fields(freeze: &Freeze) -> Fields {
    let mut fields = Fields::new();
    fields.insert("window".to_owned(), freeze.window.to_string());
    fields.insert("zone".to_owned(), freeze.zone.clone());
    fields.insert("holds".to_owned(), freeze.holds.to_string());
    if let Some(reason) = &freeze.reason {
        fields.insert("reason".to_owned(), reason.clone());
    }
    fields
}

fn pace_fields(pace: &Pace) -> Fields {
    let mut fields = Fields::new();
    if let Some(starts) = pace.starts {
        fields.insert("starts".to_owned(), starts.to_string());
    }
    if let Some(between) = pace.between {
        fields.insert("between".to_owned(), human(between));
    }
    fields
}

fn discovery_fields(discovery: &Discovery) -> Fields {
    let list =
        |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let addrs = [
        ("dns", &discovery.dns),
        ("http", &discovery.http),
        ("xds", &discovery.xds),
        ("forward", &discovery.forward),
    ];
    let addrs = addrs.into_iter().filter(|(_, all)| !all.is_empty());
    let mut fields: Fields = addrs.map(|(name, all)| (name.to_owned(), list(all))).collect();
    if !discovery.is_default() {
        fields.insert("domain".to_owned(), discovery.domain.clone());
        fields.insert("linger".to_owned(), human(discovery.linger));
    }
    fields
}

fn service_fields(service: &Service) -> Fields {
    let mut fields = Fields::new();
    fields.insert("replicas".to_owned(), service.replicas.to_string());
    workload_fields(&service.workload, &mut fields);
    health_fields(&service.workload.health, &mut fields);
    rollout_fields(service, &mut fields);
    if let Some(scale) = &service.scale {
        scale_fields(scale, &mut fields);
    }
    traffic_fields(&service.traffic, &mut fields);
    exposed_fields(&service.rollout.exposed, &mut fields);
    fields
}

/// What services and jobs are described by alike.
fn workload_fields(workload: &Workload, fields: &mut Fields) {
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    set("run", format!("{:?}", workload.run));
    set("dir", workload.dir.clone());
    for (name, value) in &workload.env {
        set(&format!("env.{name}"), value.clone());
    }
    if !workload.env_files.is_empty() {
        set("env_file", workload.env_files.join(", "));
    }
    for (path, digest) in &workload.files {
        set(&format!("file {path}"), digest.to_string());
    }
    if !workload.config.is_empty() {
        set("config", workload.config.join(", "));
    }
    for (name, secret) in &workload.secrets {
        // Of what it is only a digest is told, by which nobody can guess it.
        let digest = secret.digest.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let env = if secret.in_env { ", in the environment" } else { "" };
        set(&format!("secrets.{name}"), format!("{}{digest}{env}", secret.from));
    }
    if !workload.uses.is_empty() {
        let uses: Vec<_> = workload.uses.iter().map(|name| format!("service.{name}")).collect();
        set("uses", uses.join(", "));
    }
    for (name, path) in &workload.databases {
        set(&format!("database.{name}"), path.clone());
    }
    if workload.exclusive {
        set("exclusive", "true".to_owned());
    }
    if workload.protocol != Protocol::default() {
        set("protocol", workload.protocol.as_str().to_owned());
    }
    if let Some(tls) = &workload.tls {
        set("tls.name", tls.name.clone());
        set("tls.ca", tls.ca.clone());
        if let Some((chain, key)) = &tls.own {
            set("tls.chain", chain.clone());
            set("tls.key", key.clone());
        }
    }
    if workload.restarts > 0 {
        set("restarts", workload.restarts.to_string());
    }
    let stop = &workload.stop;
    set("stop.signal", format!("{:?}", stop.signal).to_uppercase());
    set("stop.grace", human(stop.grace));
    set("stop.drain", human(stop.drain));
    set("stop.drain_long_lived", human(stop.drain_long_lived));
    if let Some(memory) = workload.limits.memory {
        set("limits.memory", format!("{memory} bytes"));
    }
    if let Some(cpu) = workload.limits.cpu_milli {
        set("limits.cpu", format!("{cpu}m"));
    }
    if let Some(files) = workload.limits.files {
        set("limits.files", files.to_string());
    }
}

fn health_fields(health: &Health, fields: &mut Fields) {
    let mut set = |name: &str, value: String| fields.insert(name.to_owned(), value);
    match &health.probe {
        Some(Probe::Http { path }) => drop(set("health.http", path.clone())),
        Some(Probe::Grpc { service }) if service.is_empty() => {
            drop(set("health.grpc", "true".to_owned()));
        }
        Some(Probe::Grpc { service }) => drop(set("health.grpc", service.clone())),
        Some(Probe::Tcp) => drop(set("health.tcp", "true".to_owned())),
        Some(Probe::Exec { command }) => drop(set("health.exec", format!("{command:?}"))),
        Some(Probe::Notify) => drop(set("health.notify", "true".to_owned())),
        Some(Probe::Process) | None => {}
    }
    set("health.interval", human(health.interval));
    set("health.timeout", human(health.timeout));
    set("health.healthy_after", health.healthy_after.to_string());
    set("health.unhealthy_after", health.unhealthy_after.to_string());
}

/// A gate, and who opens it.
fn gate(gate: &Gate) -> String {
    let by = match gate.approvers.is_empty() {
        true => String::new(),
        false => format!(" for {}", gate.approvers.join(" or ")),
    };
    let own = if gate.own { "" } else { ", not for who asked" };
    let webhook = gate.webhook.as_ref().map(|it| format!(", asking {it}")).unwrap_or_default();
    format!(" and a gate{by}{own}{webhook}")
}

fn scale_fields(scale: &Scale, fields: &mut Fields) {
    let mut set = |name: &str, value: String| fields.insert(format!("scale.{name}"), value);
    set("min", scale.min.to_string());
    set("max", scale.max.to_string());
    if let Some(in_flight) = scale.in_flight {
        set("in_flight", in_flight.to_string());
    }
    if let Some(cpu) = scale.cpu {
        set("cpu", cpu.to_string());
    }
    set("up_after", human(scale.up_after));
    set("down_after", human(scale.down_after));
    if scale.sleeps() {
        set("zero_after", human(scale.zero_after));
    }
}

fn rollout_fields(service: &Service, fields: &mut Fields) {
    let rollout = &service.rollout;
    let mut set = |name: &str, value: String| fields.insert(format!("rollout.{name}"), value);
    match &rollout.strategy {
        Strategy::Rolling { max_surge, max_unavailable } => {
            set("strategy", "rolling".to_owned());
            set("max_surge", max_surge.to_string());
            set("max_unavailable", max_unavailable.to_string());
        }
        Strategy::BlueGreen { preview } => {
            set("strategy", "blue-green".to_owned());
            if let Some(preview) = preview {
                set("preview", preview.clone());
            }
        }
        Strategy::Canary { steps } => {
            set("strategy", "canary".to_owned());
            let steps: Vec<_> = steps
                .iter()
                .map(|step| {
                    let gate = step.gate.as_ref().map(gate).unwrap_or_default();
                    match step.exposure {
                        Exposure::Weight(weight) => {
                            format!("{weight} for {}{gate}", human(step.bake))
                        }
                        Exposure::Instances(n) => {
                            format!("{n} instances for {}{gate}", human(step.bake))
                        }
                    }
                })
                .collect();
            set("steps", steps.join(", "));
        }
    }
    set("min_ready", human(rollout.min_ready));
    set("start_deadline", human(rollout.start_deadline));
    set("progress_deadline", human(rollout.progress_deadline));
    set("bake", human(rollout.bake));
    set("auto_rollback", rollout.auto_rollback.to_string());
    let analysis = &rollout.analysis;
    set("analysis.tolerance", analysis.tolerance.as_more().to_string());
    set("analysis.warm_up", human(analysis.warm_up));
    set("analysis.latency", analysis.latency.to_string());
    set(
        "analysis.no_data",
        match analysis.no_data {
            NoData::Hold => "hold".to_owned(),
            NoData::Promote => "promote".to_owned(),
        },
    );
    for (name, check) in &rollout.checks {
        set(&format!("check.{name}"), check.to_string());
    }
    if let Some(requests) = analysis.min_requests {
        set("analysis.min_requests", requests.to_string());
    }
    if rollout.affinity {
        set("affinity", "true".to_owned());
    }
    if let Some(budget) = rollout.failure_budget {
        set("failure_budget", budget.to_string());
    }
}
