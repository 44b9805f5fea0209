//! The licences of everything this workspace is built from, against the list in `deny.toml`.
//!
//! `cargo deny` checks the same and more, but is not installed everywhere; this runs everywhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use toml::Table;

use super::Problem;
use super::tree::Files;

const LIST: &str = "deny.toml";

/// Every outside crate whose licence is not on the list.
pub(crate) fn check(root: &Path, files: &Files) -> anyhow::Result<Vec<Problem>> {
    let Some(text) = files.get(LIST) else {
        return Ok(vec![Problem::new(LIST, 1, "is missing: it lists the licences allowed")]);
    };
    let allowed = allowed(text)?;
    let metadata = metadata(root)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("could not find the packages in cargo's metadata")?;
    Ok(packages
        .iter()
        .filter(|package| package.get("source").is_some_and(|source| !source.is_null()))
        .filter_map(|package| {
            let text = |key: &str| package.get(key).and_then(Value::as_str);
            let licence = text("license").unwrap_or("none");
            let says = format!("{} has the licence {licence}", text("name")?);
            (!permits(licence, &allowed)).then(|| Problem::new(LIST, 1, says))
        })
        .collect())
}

fn allowed(text: &str) -> anyhow::Result<Vec<String>> {
    let table: Table = text.parse().with_context(|| format!("could not read {LIST}"))?;
    let list = table.get("licenses").and_then(|it| it.get("allow")?.as_array());
    let list = list.with_context(|| format!("{LIST} has no list `licenses.allow`"))?;
    Ok(list.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect())
}

/// Of what is built on Linux: the other platforms' crates are never compiled.
fn metadata(root: &Path) -> anyhow::Result<Value> {
    let platform = concat!("--filter-platform=", "x86_64-unknown-linux-gnu");
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked", platform])
        .current_dir(root)
        .output()
        .context("could not run cargo metadata")?;
    let because = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not list the packages: {because}");
    serde_json::from_slice(&output.stdout).context("could not read cargo's metadata")
}

/// Whether a licence expression can be satisfied by what is allowed.
fn permits(expression: &str, allowed: &[String]) -> bool {
    // Old manifests write `/` for a choice.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let permitted = any(&mut words, allowed);
    permitted && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut permitted = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= all(words, allowed);
    }
    permitted
}

fn all(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut permitted = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let permitted = any(words, allowed);
        return words.next_if_eq(&")").is_some() && permitted;
    }
    let Some(word) = words.next() else { return false };
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        let exception = words.next().unwrap_or_default();
        licence = format!("{word} WITH {exception}");
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_permitted_when_one_choice_is_allowed_as_a_whole() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        let permitted = |expression: &&str| permits(expression, &allowed);
        let good = [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            "GPL-3.0 AND X OR MIT",
        ];
        assert_eq!(good.iter().filter(|it| !permitted(it)).count(), 0);
        let bad = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT",
            "MIT MIT",
        ];
        assert_eq!(bad.iter().filter(|it| permitted(it)).count(), 0);
    }
}
