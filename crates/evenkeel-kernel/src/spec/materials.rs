//! Materials: what the files beside a stack file say, and their binding to the stack.
//!
//! Knows which files matter; the caller reads them, on the machine where they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::env_file;
use super::path;
use super::value::VARIABLES_MAX;
use super::word::is_reserved;
use crate::model::{Digest, Stack, Workload};

/// The longest path a kernel takes, in bytes (Linux: 4096 with its end).
const PATH_MAX: usize = 4095;

/// The files that a stack needs, by absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Environment files; each must exist.
    pub env_files: BTreeSet<String>,
    /// What could be a file that `run` names; most are not. Only regular files count.
    pub candidates: BTreeSet<String>,
}

/// What the caller has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Materials {
    /// The text of each environment file, or why it could not be read.
    pub env_files: BTreeMap<String, Result<String, String>>,
    /// The digests of those candidates that are files.
    pub files: BTreeMap<String, Digest>,
}

/// One mistake in a file beside the stack file. Never contains a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvProblem {
    /// The absolute path of the file.
    pub file: String,
    /// The line, from 1; `None` if the file as a whole is the problem.
    pub line: Option<usize>,
    /// The column, in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// What would be right there.
    pub expected: Option<String>,
}

impl EnvProblem {
    fn whole(file: &str, message: impl Into<String>) -> Self {
        let file = file.to_owned();
        Self { file, line: None, column: None, message: message.into(), expected: None }
    }

    /// The problem on one line: `/srv/shop/.env:3:1: error: …`. The line itself is not shown, as
    /// it may hold a secret.
    #[must_use]
    pub fn render(&self) -> String {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            (_, _) => self.file.clone(),
        };
        let expected = self.expected.as_ref().map(|it| format!(", expected {it}"));
        format!("{place}: error: {}{}\n", self.message, expected.unwrap_or_default())
    }
}

/// Which files the caller has to read.
#[must_use]
pub fn materials_of(stack: &Stack) -> Needs {
    let mut needs = Needs::default();
    for service in stack.services.values() {
        needs.env_files.extend(service.workload.env_files.iter().cloned());
        needs.candidates.extend(candidates(&service.workload));
    }
    needs
}

/// The paths that a command could name. A program without a `/` is looked for by name where it
/// is started, and belongs to the machine rather than to the revision.
fn candidates(workload: &Workload) -> impl Iterator<Item = String> {
    let program = workload.run.first().filter(|program| program.contains('/'));
    let arguments = workload.run.iter().skip(1).filter_map(|argument| {
        match (argument.starts_with('-'), argument.split_once('=')) {
            (true, Some((_, value))) => Some(value),
            (true, None) => None,
            (false, _) => Some(argument.as_str()),
        }
    });
    program
        .map(String::as_str)
        .into_iter()
        .chain(arguments)
        .filter(|it| !it.is_empty() && !it.contains(['\0', '\n']) && !it.contains("$PORT"))
        .map(|it| path::resolve(&workload.dir, it))
        .filter(|it| it.len() <= PATH_MAX)
}

/// Completes a stack with what its files say: the variables of environment files below `env`, and
/// the digests of what `run` names.
///
/// There is a stack exactly if there is no problem.
#[must_use]
pub fn bind(mut stack: Stack, materials: &Materials) -> (Option<Stack>, Vec<EnvProblem>) {
    let mut problems = Vec::new();
    let mut read: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for file in materials_of(&stack).env_files {
        match materials.env_files.get_key_value(&file) {
            Some((name, Ok(text))) => {
                let (variables, mistakes) = env_file::parse(text);
                read.insert(name, variables);
                problems.extend(mistakes.into_iter().map(|it| problem(&file, it)));
            }
            Some((_, Err(why))) => {
                problems.push(EnvProblem::whole(&file, format!("could not be read: {why}")));
            }
            None => problems.push(EnvProblem::whole(&file, "was not read")),
        }
    }
    for service in stack.services.values_mut() {
        complete(&mut service.workload, &read, materials, &mut problems);
    }
    (problems.is_empty().then_some(stack), problems)
}

fn complete(
    workload: &mut Workload,
    read: &BTreeMap<&str, BTreeMap<String, String>>,
    materials: &Materials,
    problems: &mut Vec<EnvProblem>,
) {
    let given: BTreeSet<String> = workload.uses.iter().map(|used| used.url_variable()).collect();
    let mut env = BTreeMap::new();
    for file in &workload.env_files {
        let variables = read.get(file.as_str()).into_iter().flatten();
        // A file shared with other tools may well set PORT; the instance's own wins, so the line
        // is not part of the revision.
        let kept = variables.filter(|(name, _)| !is_reserved(name) && !given.contains(*name));
        env.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        if env.len() > VARIABLES_MAX {
            let wrong = format!("brings the variables of a service to more than {VARIABLES_MAX}");
            problems.push(EnvProblem::whole(file, wrong));
            return;
        }
    }
    env.append(&mut workload.env);
    workload.env = env;
    workload.files = candidates(workload)
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
        line: Some(line),
        column: Some(column),
        message: mistake.message,
        expected: Some(mistake.expected.to_owned()),
    }
}
