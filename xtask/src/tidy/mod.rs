//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! Every rule looks at the whole tree and adds what it finds; all of it is said at once, each with
//! its place. The rules decide on texts that are handed to them, so that their tests need no files.

mod licences;
mod manifests;
mod scenarios;
mod sources;
mod tree;
mod walls;

use std::fmt;
use std::path::Path;

use anyhow::Context as _;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// The file, below the root of the workspace.
    file: String,
    /// The line in it, from 1.
    line: usize,
    /// What is wrong, and what to do.
    says: String,
}

impl Problem {
    fn new(file: &str, line: usize, says: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, says: says.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.says)
    }
}

/// Says every problem. Says whether there is none.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let problems = problems(root)?;
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => println!("tidy"),
        1 => println!("1 problem"),
        count => println!("{count} problems"),
    }
    Ok(problems.is_empty())
}

/// Every problem in the tree, ordered by place.
pub(crate) fn problems(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let files = tree::read(root)?;
    let mut problems = sources::check(&files);
    problems.extend(manifests::check(&files)?);
    problems.extend(walls::check(root)?);
    problems.extend(licences::check(root, &files)?);
    problems.extend(scenarios::check(&files));
    problems.extend(format(root)?);
    problems.sort();
    problems.dedup();
    Ok(problems)
}

fn format(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let output = std::process::Command::new("cargo")
        .args(["fmt", "--all", "--", "--check", "-l"])
        .current_dir(root)
        .output()
        .context("could not run cargo fmt")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let mut problems: Vec<_> = listed
        .lines()
        .map(|file| {
            let file = file.strip_prefix(&format!("{}/", root.display())).unwrap_or(file);
            Problem::new(file, 1, "is not formatted; run `cargo fmt`")
        })
        .collect();
    if !output.status.success() && problems.is_empty() {
        let because = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        problems.push(Problem::new("Cargo.toml", 1, format!("cargo fmt failed: {because}")));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let problems = problems(&crate::root().unwrap()).unwrap();
        let text: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert!(text.is_empty(), "{}", text.join("\n"));
    }
}
