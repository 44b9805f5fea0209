//! Rules on the manifests: who may import whom, and which outside crates there are.

use anyhow::Context as _;
use toml::{Table, Value};

use super::Problem;
use super::tree::Files;

/// What each crate may import of this workspace, in the order of the house. The rooms between
/// kernel and control never import one another: they meet as values that the kernel defines.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("evenkeel-kernel", &[]),
    ("evenkeel-sim", &["evenkeel-kernel"]),
    ("evenkeel-journal", &["evenkeel-kernel"]),
    ("evenkeel-discovery", &["evenkeel-kernel"]),
    ("evenkeel-edge", &["evenkeel-kernel"]),
    ("evenkeel-postgres", &["evenkeel-kernel"]),
    ("evenkeel-local", &["evenkeel-kernel"]),
    (
        "evenkeel-control",
        &[
            "evenkeel-kernel",
            "evenkeel-sim",
            "evenkeel-journal",
            "evenkeel-edge",
            "evenkeel-local",
            "evenkeel-postgres",
        ],
    ),
    (
        "evenkeel",
        &[
            "evenkeel-kernel",
            "evenkeel-sim",
            "evenkeel-journal",
            "evenkeel-discovery",
            "evenkeel-edge",
            "evenkeel-postgres",
            "evenkeel-local",
            "evenkeel-control",
        ],
    ),
    // Its benchmarks measure the rooms themselves.
    ("xtask", &["evenkeel-kernel", "evenkeel-discovery", "evenkeel-journal", "evenkeel-postgres"]),
];
/// Where every outside crate has its reason.
const RECORD: &str = "docs/decisions/0002-dependencies.md";
/// The licence of every crate here.
const LICENCE: &str = "Apache-2.0";
const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// One manifest.
struct Manifest<'a> {
    file: &'a str,
    text: &'a str,
    table: Table,
}

impl Manifest<'_> {
    /// The line that starts with `key`, or the first.
    fn line(&self, key: &str) -> usize {
        let starts = |line: &str| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '=', '.', ']']))
        };
        self.text.lines().position(starts).map_or(1, |at| at + 1)
    }

    fn says(&self, key: &str, says: impl Into<String>) -> Problem {
        Problem::new(self.file, self.line(key), says)
    }

    /// Names and values of its dependencies, of whichever kind.
    fn dependencies(&self) -> impl Iterator<Item = (&str, &Value)> {
        let tables = KINDS.iter().filter_map(|kind| self.table.get(*kind)?.as_table());
        tables.flatten().map(|(name, value)| (name.as_str(), value))
    }
}

/// Every problem in the manifests.
pub(crate) fn check(files: &Files) -> anyhow::Result<Vec<Problem>> {
    let root = parse("Cargo.toml", files.get("Cargo.toml").context("there is no Cargo.toml")?)?;
    let mut crates = Vec::new();
    for (file, text) in files {
        let depth = file.matches('/').count();
        let member = file.starts_with("crates/") && depth == 2 || file.starts_with("xtask/");
        if member && file.ends_with("/Cargo.toml") {
            crates.push(parse(file, text)?);
        }
    }
    let mut problems: Vec<_> = crates.iter().flat_map(check_crate).collect();
    problems.extend(check_outside(&root, &crates, files.get(RECORD)));
    Ok(problems)
}

fn parse<'a>(file: &'a str, text: &'a str) -> anyhow::Result<Manifest<'a>> {
    let table = text.parse().with_context(|| format!("could not read {file}"))?;
    Ok(Manifest { file, text, table })
}

fn check_crate(manifest: &Manifest<'_>) -> Vec<Problem> {
    let inherits = |value: Option<&Value>| {
        value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
    };
    let package = manifest.table.get("package");
    let name = package.and_then(|package| package.get("name")).and_then(Value::as_str);
    let mut problems = Vec::new();
    if !inherits(manifest.table.get("lints")) {
        problems.push(manifest.says("[lints]", "lacks `[lints] workspace = true`"));
    }
    if !inherits(package.and_then(|package| package.get("license"))) {
        problems.push(manifest.says("license", "lacks `license.workspace = true`"));
    }
    let Some((_, may)) = MAY_IMPORT.iter().find(|(crate_name, _)| Some(*crate_name) == name) else {
        let says = "is a crate whose place in the house is not written down in xtask's tidy";
        problems.push(manifest.says("name", says));
        return problems;
    };
    for (dependency, value) in manifest.dependencies() {
        if !inherits(Some(value)) {
            let says = format!("`{dependency}` must take its version from the workspace");
            problems.push(manifest.says(dependency, says));
        }
        if dependency.starts_with("evenkeel") && !may.contains(&dependency) {
            let says = format!("may not import `{dependency}`");
            problems.push(manifest.says(dependency, says));
        }
    }
    problems
}

fn check_outside(
    root: &Manifest<'_>,
    crates: &[Manifest<'_>],
    record: Option<&String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let workspace = root.table.get("workspace");
    let licence = workspace.and_then(|it| it.get("package")?.get("license")?.as_str());
    if licence != Some(LICENCE) {
        problems.push(root.says("license", format!("the licence must be {LICENCE}")));
    }
    if record.is_none() {
        let says = "is missing: it gives the reason of every outside crate";
        problems.push(Problem::new(RECORD, 1, says));
    }
    let declared = workspace.and_then(|it| it.get("dependencies")?.as_table());
    for (name, value) in declared.into_iter().flatten() {
        if value.get("path").is_some() {
            continue;
        }
        if !crates.iter().any(|it| it.dependencies().any(|(used, _)| used == name)) {
            problems.push(root.says(name, format!("no crate uses `{name}`")));
        }
        if record.is_some_and(|record| !record.contains(&format!("`{name}`"))) {
            problems.push(root.says(name, format!("`{name}` has no reason in {RECORD}")));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const ROOT: &str = "\
[workspace.package]
license = \"Apache-2.0\"
[workspace.dependencies]
evenkeel-kernel = { path = \"crates/evenkeel-kernel\" }
serde = \"1\"
";

    fn check(manifest: &str, record: Option<&str>, expect: &Expect) {
        let mut files = Files::new();
        files.insert("Cargo.toml".to_owned(), ROOT.to_owned());
        files.insert("crates/it/Cargo.toml".to_owned(), manifest.to_owned());
        files.extend(record.map(|record| (RECORD.to_owned(), record.to_owned())));
        let found = super::check(&files).unwrap();
        let lines: Vec<_> = found.iter().map(Problem::to_string).collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_good_crate_is_silent() {
        check(
            "[package]\nname = \"evenkeel-edge\"\nlicense.workspace = true\n[lints]\nworkspace = true\n\
             [dependencies]\nevenkeel-kernel.workspace = true\nserde = { workspace = true }\n",
            Some("- `serde`: wire formats"),
            &expect![[""]],
        );
    }

    #[test]
    fn everything_wrong_is_said_at_its_line() {
        check(
            "[package]\nname = \"evenkeel-edge\"\nlicense = \"MIT\"\n\
             [dependencies]\nevenkeel-kernel.workspace = true\n\
             [dev-dependencies]\nevenkeel-local.workspace = true\nrand = \"0.9\"\n",
            Some("- `tokio`: the reactor"),
            &expect![[r#"
                crates/it/Cargo.toml:1: lacks `[lints] workspace = true`
                crates/it/Cargo.toml:3: lacks `license.workspace = true`
                crates/it/Cargo.toml:7: may not import `evenkeel-local`
                crates/it/Cargo.toml:8: `rand` must take its version from the workspace
                Cargo.toml:5: no crate uses `serde`
                Cargo.toml:5: `serde` has no reason in docs/decisions/0002-dependencies.md"#]],
        );
    }

    #[test]
    fn a_stranger_and_a_missing_record_are_said() {
        check(
            "[package]\nname = \"evenkeel-new\"\nlicense.workspace = true\n[lints]\nworkspace = true\n\
             [dependencies]\nserde.workspace = true\n",
            None,
            &expect![[r#"
                crates/it/Cargo.toml:2: is a crate whose place in the house is not written down in xtask's tidy
                docs/decisions/0002-dependencies.md:1: is missing: it gives the reason of every outside crate"#]],
        );
    }
}
