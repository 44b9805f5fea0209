//! Services: checked fields to model values, with what only several keys together can say.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Fields, Named, last};
use super::door;
use super::hint::{did_you_mean, one_among};
use super::path;
use super::problem::{Mistake, Mistakes};
use super::traffic;
use super::{rollout, scale};
use crate::model::{
    Database, DatabaseName, Health, Limits, Probe, Protocol, Secret, SecretSource, Service,
    ServiceName, Signal, Stop, Workload,
};

/// The signals that ask a process to end, without their `SIG`.
pub(crate) const SIGNALS: &[&str] = &["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"];

/// The ways to ask whether an instance is well.
const PROBES: [&str; 6] = ["http", "grpc", "tcp", "exec", "notify", "process"];

/// What a service is built beside.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// The folder of the file, absolute.
    pub(crate) base: &'a str,
    /// The names of all services of the file.
    pub(crate) services: &'a [&'a str],
    /// Its databases.
    pub(crate) databases: &'a BTreeMap<DatabaseName, Database>,
}

/// Builds one service. What could not be read has been said, and stands here by its default.
pub(crate) fn build(
    named: &Named,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<(ServiceName, Service)> {
    let fields = named.fields.as_ref()?;
    let name: ServiceName = named.name.parse().ok()?;
    let scale = fields.table("scale").map(|it| scale::build(it, mistakes));
    let replicas = fields.count("replicas").or(scale.as_ref().map(|it| it.min.max(1))).unwrap_or(1);
    let exclusive = fields.flag("exclusive").copied().unwrap_or(false);
    scale::agree(fields, scale.as_ref(), exclusive, mistakes);
    if exclusive && replicas > 1 {
        let wrong = format!("`{name}` is exclusive but has {replicas} replicas");
        mistakes.add(
            Mistake::at(&fields.place("replicas"), &fields.at("replicas"), wrong)
                .expected("1 replica, or no `exclusive`"),
        );
    }
    let uses = uses(&name, fields, around, mistakes);
    let databases = databases(fields, around, mistakes);
    let tls = fields.table("tls").and_then(|it| door::upstream(it, around.base, mistakes));
    let protocol = fields.text("protocol").map_or_else(Protocol::default, |it| Protocol::of(it));
    let mut workload = workload(fields, uses, around.base, mistakes);
    attach(&mut workload, databases, around);
    let workload = Workload { exclusive, tls, protocol, ..workload };
    let rollout =
        rollout::build(fields.table("rollout"), around.base, replicas, exclusive, mistakes);
    let traffic = traffic::build(fields.table("traffic"), scale.as_ref(), mistakes);
    Some((name, Service { workload, replicas, rollout, scale, traffic }))
}

/// What a service or a job runs, as far as both are described alike.
pub(super) fn workload(
    fields: &Fields,
    uses: BTreeSet<ServiceName>,
    base: &str,
    mistakes: &mut Mistakes,
) -> Workload {
    no_home(fields, mistakes);
    Workload {
        run: words(fields, "run"),
        dir: path::resolve(base, fields.text("dir").map_or(".", String::as_str)),
        env: env(fields, &uses, mistakes),
        env_files: words(fields, "env_file").iter().map(|it| path::resolve(base, it)).collect(),
        files: BTreeMap::new(),
        config: config(fields, base, mistakes),
        secrets: secrets(fields, base, mistakes),
        uses,
        databases: BTreeMap::new(),
        health: fields.table("health").map_or_else(Health::default, |it| health(it, mistakes)),
        stop: fields.table("stop").map_or_else(Stop::default, stop),
        limits: fields.table("limits").map_or_else(Limits::default, limits),
        exclusive: false,
        restarts: 0,
        once: false,
        protocol: Protocol::default(),
        tls: None,
    }
}

fn words(fields: &Fields, key: &str) -> Vec<String> {
    fields.texts(key).into_iter().flatten().map(|(word, _)| word.clone()).collect()
}

/// Configuration files, by absolute path.
fn config(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> Vec<String> {
    let mut names: BTreeMap<&str, &String> = BTreeMap::new();
    for (file, span) in fields.texts("config").into_iter().flatten() {
        let name = file.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            let wrong = "this part of `config` names no file";
            mistakes.add(Mistake::at(span, &fields.at("config"), wrong).expected("a file"));
        } else if let Some(other) = names.insert(name, file) {
            let wrong = format!("`{other}` has the same name, and both lie in one folder");
            mistakes.add(
                Mistake::at(span, &fields.at("config"), wrong).expected("files of different names"),
            );
        }
    }
    words(fields, "config").iter().map(|file| path::resolve(base, file)).collect()
}

/// Secrets by name: where each comes from. What stands in the file is never repeated, as it may be
/// the secret itself.
fn secrets(fields: &Fields, base: &str, mistakes: &mut Mistakes) -> BTreeMap<String, Secret> {
    let in_env: Vec<_> = fields.texts("secrets_in_env").into_iter().flatten().collect();
    let given = fields.variables("secrets");
    let known: Vec<&str> = given.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    for (name, span) in &in_env {
        let word = super::hint::brief(name);
        let twice = fields.variables("env").is_some_and(|env| env.contains_key(name));
        let (wrong, expected) = match known.contains(&name.as_str()) {
            true if twice => (format!("`{word}` stands in `env` too"), "one of the two".to_owned()),
            true => continue,
            false => (format!("there is no secret `{word}`"), one_among(&known)),
        };
        let mistake = Mistake::at(span, &fields.at("secrets_in_env"), wrong);
        mistakes.add(mistake.expected(expected));
    }
    let mut secrets = BTreeMap::new();
    for (name, (text, span)) in given.into_iter().flatten() {
        match source(text, base) {
            Some(from) => {
                let in_env = in_env.iter().any(|(it, _)| it == name);
                secrets.insert(name.clone(), Secret { from, in_env, digest: None });
            }
            None => {
                let at = format!("{}.{name}", fields.at("secrets"));
                let wrong = format!("`{name}` does not say where it comes from");
                mistakes.add(
                    Mistake::at(span, &at, wrong)
                        .expected("`env:NAME`, `file:PATH` or `age:PATH`")
                        .hint("a secret itself never stands in this file".to_owned()),
                );
            }
        }
    }
    secrets
}

/// Where a secret comes from.
pub(crate) fn source(text: &str, base: &str) -> Option<SecretSource> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "env" => super::word::is_variable(rest).then(|| SecretSource::Env(rest.to_owned())),
        "file" if !rest.is_empty() => Some(SecretSource::File(path::resolve(base, rest))),
        "age" if !rest.is_empty() => Some(SecretSource::Age(path::resolve(base, rest))),
        _ => None,
    }
}

/// `~/data` is a shell's abbreviation, and would be a folder called `~` here.
fn no_home(fields: &Fields, mistakes: &mut Mistakes) {
    let dir = fields.text("dir").map(|dir| (dir, fields.place("dir"), "dir"));
    let files = fields.texts("env_file").into_iter().flatten();
    let files = files.map(|(file, span)| (file, span.clone(), "env_file"));
    for (text, span, key) in dir.into_iter().chain(files) {
        if text == "~" || text.starts_with("~/") {
            let wrong = format!("`~` in `{key}` is not replaced: no shell is involved");
            let expected = "a path from the file's folder, or one that begins with `/`";
            mistakes.add(Mistake::at(&span, &fields.at(key), wrong).expected(expected));
        }
        if text.is_empty() {
            let wrong = format!("a path in `{key}` is empty");
            mistakes.add(Mistake::at(&span, &fields.at(key), wrong).expected("a path"));
        }
    }
}

fn uses(
    name: &ServiceName,
    fields: &Fields,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> BTreeSet<ServiceName> {
    let mut uses = BTreeSet::new();
    let at = fields.at("uses");
    for (text, span) in fields.texts("uses").into_iter().flatten() {
        if text.starts_with(DATABASE) {
            continue;
        }
        if text.strip_prefix("service.").unwrap_or(text) == name.as_str() {
            let wrong = format!("`{name}` uses itself");
            mistakes.add(Mistake::at(span, &at, wrong).expected("other services of this file"));
            continue;
        }
        let others: Vec<&str> =
            around.services.iter().copied().filter(|other| *other != name.as_str()).collect();
        uses.extend(reference(text, span, &at, &others, mistakes));
    }
    uses
}

/// What the names of databases begin with in `uses`.
pub(super) const DATABASE: &str = "database.";

/// The databases that `uses` names.
pub(super) fn databases(
    fields: &Fields,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> BTreeSet<DatabaseName> {
    let mut found = BTreeSet::new();
    let known: Vec<&str> = around.databases.keys().map(DatabaseName::as_str).collect();
    for (text, span) in fields.texts("uses").into_iter().flatten() {
        let Some(name) = text.strip_prefix(DATABASE) else { continue };
        if let Some(name) = around.databases.keys().find(|it| it.as_str() == name) {
            found.insert(name.clone());
            let variable = name.url_variable();
            for key in ["env", "secrets"] {
                let given = fields.variables(key).and_then(|it| it.get(&variable));
                let Some((_, span)) = given else { continue };
                let at = format!("{}.{variable}", fields.at(key));
                let wrong = format!("`{variable}` is given by `uses`");
                let hint = format!("leave it out, or take `{DATABASE}{name}` out of `uses`");
                mistakes.add(Mistake::at(span, &at, wrong).hint(hint));
            }
            continue;
        }
        let wrong = format!("there is no database `{}`", super::hint::brief(name));
        mistakes.add(
            Mistake::at(span, &fields.at("uses"), wrong)
                .expected(one_among(&known))
                .hint(did_you_mean(name, known.iter().copied()))
                .absence(),
        );
    }
    found
}

/// Gives a workload the addresses of its databases, as secrets.
pub(super) fn attach(
    workload: &mut Workload,
    databases: BTreeSet<DatabaseName>,
    around: &Surroundings<'_>,
) {
    for name in databases {
        let Some(database) = around.databases.get(&name) else { continue };
        let from = database.url.from.clone();
        let secret = Secret { from, in_env: true, digest: None };
        workload.secrets.insert(name.url_variable(), secret);
        workload.databases.insert(name, database.search_path());
    }
}

/// Finds the service that `service.web` or `web` names.
pub(crate) fn reference(
    text: &str,
    span: &super::check::Span,
    at: &str,
    services: &[&str],
    mistakes: &mut Mistakes,
) -> Option<ServiceName> {
    let name = text.strip_prefix("service.").unwrap_or(text);
    if services.contains(&name) {
        return name.parse().ok();
    }
    let wrong = format!("there is no service `{}`", super::hint::brief(name));
    mistakes.add(
        Mistake::at(span, at, wrong)
            .expected(one_among(services))
            .hint(did_you_mean(name, services.iter().copied()))
            .absence(),
    );
    None
}

fn env(
    fields: &Fields,
    uses: &BTreeSet<ServiceName>,
    mistakes: &mut Mistakes,
) -> BTreeMap<String, String> {
    let Some(variables) = fields.variables("env") else { return BTreeMap::new() };
    for used in uses {
        let variable = used.url_variable();
        if let Some((_, span)) = variables.get(&variable) {
            let wrong = format!("`{variable}` is given by `uses`");
            let at = format!("{}.{variable}", fields.at("env"));
            let hint = format!("leave it out, or take `{used}` out of `uses`");
            mistakes.add(Mistake::at(span, &at, wrong).hint(hint));
        }
    }
    variables.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
}

fn health(fields: &Fields, mistakes: &mut Mistakes) -> Health {
    let preset = Health::default();
    let asked: Vec<_> = PROBES.iter().filter_map(|key| fields.first(&[*key])).collect();
    if let [(first, _), (second, field), ..] = asked.as_slice() {
        let wrong = format!("`{}` has both `{first}` and `{second}`", last(&fields.path));
        mistakes.add(
            Mistake::at(&field.key, &fields.at(second), wrong)
                .expected("one of `http`, `grpc`, `tcp`, `exec`, `notify` and `process`"),
        );
    }
    let probe = match asked.first() {
        Some(("http", _)) => fields.text("http").map(|path| Probe::Http { path: path.clone() }),
        Some(("grpc", _)) => {
            fields.text("grpc").map(|service| Probe::Grpc { service: service.clone() })
        }
        Some(("exec", _)) => Some(Probe::Exec { command: words(fields, "exec") }),
        Some(("tcp", _)) => Some(Probe::Tcp),
        Some(("notify", _)) => Some(Probe::Notify),
        Some(_) => Some(Probe::Process),
        None => None,
    };
    Health {
        probe,
        interval: fields.span("interval").copied().unwrap_or(preset.interval),
        timeout: fields.span("timeout").copied().unwrap_or(preset.timeout),
        healthy_after: fields.count("healthy_after").unwrap_or(preset.healthy_after),
        unhealthy_after: fields.count("unhealthy_after").unwrap_or(preset.unhealthy_after),
    }
}

fn stop(fields: &Fields) -> Stop {
    let preset = Stop::default();
    let signal = match fields.text("signal").map(String::as_str) {
        Some("INT") => Signal::Int,
        Some("QUIT") => Signal::Quit,
        Some("HUP") => Signal::Hup,
        Some("USR1") => Signal::Usr1,
        Some("USR2") => Signal::Usr2,
        Some(_) => Signal::Term,
        None => preset.signal,
    };
    Stop {
        signal,
        grace: fields.span("grace").copied().unwrap_or(preset.grace),
        drain: fields.span("drain").copied().unwrap_or(preset.drain),
        drain_long_lived: fields
            .span("drain_long_lived")
            .copied()
            .unwrap_or(preset.drain_long_lived),
    }
}

fn limits(fields: &Fields) -> Limits {
    Limits {
        memory: fields.long("memory").copied(),
        cpu_milli: fields.cpu("cpu").copied(),
        files: fields.long("files").copied(),
    }
}
