//! Materials: what the files beside a stack file say, and their binding to the stack.
//!
//! Knows which files matter; the caller reads them, on the machine where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check::{Fields, Named, Span};
use super::env_file;
use super::freeze;
use super::path;
use super::problem::{Mistake, Mistakes, Problem};
use super::service;
use super::value::VARIABLES_MAX;
use super::word::is_reserved;
use crate::model::{
    Database, DatabaseName, Digest, SchemaChange, SecretSource, ServiceName, Stack, Workload,
};

/// The longest path a kernel takes, in bytes (Linux: 4096 with its end).
const PATH_MAX: usize = 4095;

/// The files that a stack needs, by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Environment files; each must exist.
    pub env_files: BTreeSet<String>,
    /// What could be a file that `run` names; most are not. Only regular files count.
    pub candidates: BTreeSet<String>,
    /// Configuration files; each must exist.
    pub config: BTreeSet<String>,
    /// Where secrets come from.
    pub secrets: BTreeSet<SecretSource>,
}

/// What the caller has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Materials {
    /// The text of each environment file, or why it could not be read.
    pub env_files: BTreeMap<String, Result<String, String>>,
    /// The digests of those candidates that are files, and of the configuration files.
    pub files: BTreeMap<String, Digest>,
    /// Why a configuration file could not be read.
    #[serde(default)]
    pub unread: BTreeMap<String, String>,
    /// The digest of each secret by where it comes from, or why it could not be read.
    #[serde(default)]
    pub secrets: BTreeMap<String, Result<Digest, String>>,
    /// The candidates at whose path there is nothing at all.
    #[serde(default)]
    pub missing: BTreeSet<String>,
    /// How the schema of each database comes to what its migrations say, where it is not there yet.
    #[serde(default)]
    pub schemas: BTreeMap<DatabaseName, Arc<SchemaChange>>,
    /// What is not there, or cannot be used.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
}

/// Why a service could not start as it is described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Which service.
    pub service: ServiceName,
    /// What in its description is to blame.
    pub part: Part,
    /// What is wrong: a lower-case fragment without a full stop.
    pub reason: String,
}

/// The part of a service that refers to something on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Its working folder.
    Dir,
    /// Its program.
    Run,
    /// The program of its probe.
    Probe,
    /// An environment file.
    EnvFile,
    /// A configuration file.
    Config,
    /// A secret.
    Secret,
}

/// One mistake in an environment file. Never contains a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvProblem {
    /// The absolute path of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// What would be right there.
    pub expected: String,
}

impl EnvProblem {
    /// The problem on one line: `/srv/shop/.env:3:1: error: …`. The line itself is not shown, as
    /// it may hold a secret.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { file, line, column, message, expected } = self;
        format!("{file}:{line}:{column}: error: {message}, expected {expected}\n")
    }
}

/// A place in the stack file that refers to something on the machine.
#[derive(Clone, Debug)]
pub(crate) struct Mention {
    /// None for what control itself needs.
    service: Option<ServiceName>,
    part: Part,
    /// The absolute path of a file, or where a secret comes from.
    file: String,
    /// Its path in the stack: `service.web.run`.
    at: String,
    span: Span,
}

impl Mention {
    /// A secret that control itself needs.
    pub(crate) fn secret(from: &SecretSource, at: String, span: Span) -> Self {
        Self { service: None, part: Part::Secret, file: from.to_string(), at, span }
    }
}

/// Everything one service mentions, as far as it could be read.
pub(crate) fn mentions(named: &Named, base: &str) -> Vec<Mention> {
    let (Some(fields), Ok(service)) = (&named.fields, named.name.parse::<ServiceName>()) else {
        return Vec::new();
    };
    let mention = |part, file, within: &Fields, key, span: Span| Mention {
        service: Some(service.clone()),
        part,
        file,
        at: within.at(key),
        span,
    };
    let mut all = Vec::new();
    let plain =
        |part, within: &Fields, key| mention(part, String::new(), within, key, within.place(key));
    if fields.text("dir").is_some() {
        all.push(plain(Part::Dir, fields, "dir"));
    }
    if fields.texts("run").is_some() {
        all.push(plain(Part::Run, fields, "run"));
    }
    if let Some(health) = fields.table("health").filter(|health| health.texts("exec").is_some()) {
        all.push(plain(Part::Probe, health, "exec"));
    }
    for (file, span) in fields.texts("env_file").into_iter().flatten() {
        let file = path::resolve(base, file);
        all.push(mention(Part::EnvFile, file, fields, "env_file", span.clone()));
    }
    for (file, span) in fields.texts("config").into_iter().flatten() {
        let file = path::resolve(base, file);
        all.push(mention(Part::Config, file, fields, "config", span.clone()));
    }
    for (text, span) in fields.variables("secrets").into_iter().flatten().map(|(_, it)| it) {
        if let Some(from) = service::source(text, base) {
            all.push(mention(Part::Secret, from.to_string(), fields, "secrets", span.clone()));
        }
    }
    all.extend(freeze::mentions(fields, base));
    // Where the folder could not be read, everything else would be looked for in the wrong place.
    if fields.field("dir").is_some() && fields.text("dir").is_none() {
        let beside = [Part::EnvFile, Part::Config, Part::Secret];
        all.retain(|mention| beside.contains(&mention.part));
    }
    all
}

/// A stack file as far as it could be read, not yet bound to what it mentions.
#[derive(Debug)]
pub struct Draft<'t> {
    pub(super) text: &'t str,
    pub(super) stack: Option<Stack>,
    pub(super) mistakes: Mistakes,
    pub(super) mentions: Vec<Mention>,
}

/// What a draft and its materials make together. There is a stack exactly if there is no problem.
#[derive(Debug)]
pub struct Bound {
    /// The stack, with the variables of its environment files and the digests of what it runs.
    pub stack: Option<Stack>,
    /// What is wrong in the stack file, or with what it mentions.
    pub problems: Vec<Problem>,
    /// What is wrong inside of environment files.
    pub env_problems: Vec<EnvProblem>,
}

impl Draft<'_> {
    /// Which files the caller has to read.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for (_, workload) in self.stack.iter().flat_map(Stack::workloads) {
            needs.env_files.extend(workload.env_files.iter().cloned());
            needs.candidates.extend(candidates(workload));
            needs.config.extend(workload.config.iter().cloned());
            needs.secrets.extend(workload.secrets.values().map(|it| it.from.clone()));
        }
        let kept = self.stack.iter().flat_map(Stack::kept_secrets);
        needs.secrets.extend(kept.map(|it| it.from.clone()));
        needs
    }

    /// The databases that services may use.
    #[must_use]
    pub fn databases(&self) -> BTreeMap<DatabaseName, Database> {
        self.stack.iter().flat_map(|it| it.databases.clone()).collect()
    }

    /// The databases whose schema follows files.
    pub fn migrated(&self) -> impl Iterator<Item = (&DatabaseName, &Database)> {
        let all = self.stack.iter().flat_map(|stack| &stack.databases);
        all.filter(|(_, database)| database.follows().is_some())
    }

    /// What is to be looked for on the machine: each service and job with the parts of it that are
    /// there. The variables of environment files are among its own already.
    #[must_use]
    pub fn workloads(&self, materials: &Materials) -> Vec<(ServiceName, Workload, Vec<Part>)> {
        let read = variables(&materials.env_files).0;
        let run = self.stack.iter().flat_map(Stack::workloads);
        let all = run.map(|(name, workload)| {
            let mut workload = workload.clone();
            complete(&mut workload, &read, materials);
            let of_it =
                self.mentions.iter().filter(|mention| mention.service.as_ref() == Some(name));
            (name.clone(), workload, of_it.map(|mention| mention.part).collect())
        });
        all.collect()
    }

    /// Completes the stack with what its files say: the variables of environment files below
    /// `env`, and the digests of what `run` names.
    #[must_use]
    pub fn bind(self, materials: &Materials) -> Bound {
        let Self { text, mut stack, mut mistakes, mentions } = self;
        let (read, env_problems) = variables(&materials.env_files);
        for mention in &mentions {
            let wrong = match mention.part {
                Part::EnvFile => unreadable(&mention.file, materials),
                Part::Config if materials.files.contains_key(&mention.file) => None,
                Part::Config => Some(match materials.unread.get(&mention.file) {
                    Some(why) => format!("{} could not be read: {why}", mention.file),
                    None => format!("{} was not read", mention.file),
                }),
                Part::Secret => match materials.secrets.get(&mention.file) {
                    Some(Ok(_)) => None,
                    Some(Err(why)) => Some(format!("{} could not be read: {why}", mention.file)),
                    None => Some(format!("{} was not read", mention.file)),
                },
                Part::Dir | Part::Run | Part::Probe => {
                    let obstacles = materials.obstacles.iter();
                    let mut of_it = obstacles.filter(|it| {
                        Some(&it.service) == mention.service.as_ref() && it.part == mention.part
                    });
                    of_it.next().map(|obstacle| obstacle.reason.clone())
                }
            };
            mistakes.extend(wrong.map(|wrong| Mistake::at(&mention.span, &mention.at, wrong)));
        }
        for (name, workload) in stack.iter_mut().flat_map(Stack::workloads_mut) {
            complete(workload, &read, materials);
            let count = workload.env.len();
            let last = mentions
                .iter()
                .rfind(|it| it.service.as_ref() == Some(name) && it.part == Part::EnvFile);
            if let Some(mention) = last.filter(|_| count > VARIABLES_MAX) {
                let wrong = format!("brings the variables of `{name}` to {count}");
                let at_most = format!("at most {VARIABLES_MAX}");
                mistakes.add(Mistake::at(&mention.span, &mention.at, wrong).expected(at_most));
            }
        }
        for secret in stack.iter_mut().flat_map(Stack::kept_secrets_mut) {
            let read = materials.secrets.get(&secret.from.to_string());
            secret.digest = read.and_then(|read| read.as_ref().ok()).cloned();
        }
        for (name, database) in stack.iter_mut().flat_map(|stack| &mut stack.databases) {
            database.change = materials.schemas.get(name).cloned();
        }
        let problems = mistakes.into_problems(text);
        let sound = problems.is_empty() && env_problems.is_empty();
        Bound { stack: stack.filter(|_| sound), problems, env_problems }
    }
}

/// Why an environment file has nothing to say.
fn unreadable(file: &str, materials: &Materials) -> Option<String> {
    match materials.env_files.get(file) {
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(format!("{file} could not be read: {why}")),
        None => Some(format!("{file} was not read")),
    }
}

type Variables<'m> = BTreeMap<&'m str, BTreeMap<String, String>>;

/// The variables of each environment file, and every mistake in them.
fn variables(
    env_files: &BTreeMap<String, Result<String, String>>,
) -> (Variables<'_>, Vec<EnvProblem>) {
    let (mut read, mut problems) = (BTreeMap::new(), Vec::new());
    for (file, text) in env_files {
        let Ok(text) = text else { continue };
        let (variables, mistakes) = env_file::parse(text);
        read.insert(file.as_str(), variables);
        problems.extend(mistakes.into_iter().map(|it| problem(file, it)));
    }
    (read, problems)
}

/// The paths that a command could name. A program without a `/` is looked for by name where it
/// is started, and belongs to the machine rather than to the revision.
fn candidates(workload: &Workload) -> impl Iterator<Item = String> {
    let program = workload.run.first().filter(|program| program.contains('/'));
    program
        .map(String::as_str)
        .into_iter()
        .chain(arguments(workload))
        .filter(|it| !it.is_empty() && !it.contains(['\0', '\n', '$']))
        .map(|it| path::resolve(&workload.dir, it))
        .filter(|it| it.len() <= PATH_MAX)
}

/// What a command hands its program: arguments, and the values of options.
fn arguments(workload: &Workload) -> impl Iterator<Item = &str> {
    workload.run.iter().skip(1).filter_map(|argument| {
        match (argument.starts_with('-'), argument.split_once('=')) {
            (true, Some((_, value))) => Some(value),
            (true, None) => None,
            (false, _) => Some(argument.as_str()),
        }
    })
}

/// The arguments of a command that look like files of its folder, and are not there.
pub(crate) fn absent<'w>(workload: &'w Workload, materials: &Materials) -> Vec<&'w str> {
    let missing =
        |argument: &&str| materials.missing.contains(&path::resolve(&workload.dir, argument));
    arguments(workload).filter(|it| looks_like_a_file(it)).filter(missing).collect()
}

/// Endings of scripts, which are most often what an interpreter is started with.
const SCRIPTS: [&str; 14] =
    ["cjs", "exs", "jar", "js", "lua", "mjs", "php", "pl", "ps1", "py", "rb", "sh", "ts", "war"];

/// Whether an argument is most likely a file of the folder: it ends like a script, or leads through
/// folders from there. `/healthz`, `text/html; q=1` and addresses do not.
fn looks_like_a_file(argument: &str) -> bool {
    let ending = argument.rsplit_once('.').map(|(_, ending)| ending);
    let script = ending.is_some_and(|ending| SCRIPTS.contains(&ending));
    let odd = argument.contains(|c: char| {
        c.is_whitespace() || matches!(c, ':' | '@' | ',' | ';' | '*' | '{' | '\'')
    });
    let path = argument.contains('/') && !argument.starts_with('/');
    !odd && (script || path)
}

fn complete(workload: &mut Workload, read: &Variables<'_>, materials: &Materials) {
    let given: BTreeSet<String> = workload.uses.iter().map(|used| used.url_variable()).collect();
    let mut env = BTreeMap::new();
    for file in &workload.env_files {
        let variables = read.get(file.as_str()).into_iter().flatten();
        // A file shared with other tools may well set PORT; the instance's own wins, so the line
        // is not part of the revision.
        let kept = variables.filter(|(name, _)| !is_reserved(name) && !given.contains(*name));
        env.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
    }
    env.append(&mut workload.env);
    workload.env = env;
    for secret in workload.secrets.values_mut() {
        let read = materials.secrets.get(&secret.from.to_string());
        secret.digest = read.and_then(|read| read.as_ref().ok()).cloned();
    }
    workload.files = candidates(workload)
        .chain(workload.config.iter().cloned())
        .filter_map(|path| {
            let digest = materials.files.get(&path)?.clone();
            Some((path, digest))
        })
        .collect();
}

fn problem(file: &str, mistake: env_file::Mistake) -> EnvProblem {
    let (line, column) = mistake.position;
    EnvProblem {
        file: file.to_owned(),
        line,
        column,
        message: mistake.message,
        expected: mistake.expected.to_owned(),
    }
}
