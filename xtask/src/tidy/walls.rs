//! The walls: what must not come in, by however long a way.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::Problem;

/// What would let a crate do I/O.
const IO: &[&str] = &["tokio", "mio", "hyper", "rusqlite", "rustix"];
/// Crates, and what must not be among all that they are built from.
const WALLS: &[(&str, &[&str])] =
    &[("evenkeel-kernel", IO), ("evenkeel-sim", IO), ("evenkeel-local", &["tokio"])];

/// Every wall with a hole.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (name, banned) in WALLS {
        let file = format!("crates/{name}/Cargo.toml");
        let holes = holes(&tree(root, name)?, banned);
        let say = |hole: String| {
            Problem::new(
                &file,
                1,
                format!(
                    "is built from `{hole}`, which must not come in; see `cargo tree -p {name} -i {hole}`"
                ),
            )
        };
        problems.extend(holes.into_iter().map(say));
    }
    Ok(problems)
}

/// Tests may use what the crate may not, so only what it is built from is listed.
fn tree(root: &Path, name: &str) -> anyhow::Result<String> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build", "-p", name])
        .current_dir(root)
        .output()
        .context("could not run cargo tree")?;
    let because = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not list what {name} is built from: {because}");
    String::from_utf8(output.stdout).context("could not read the answer of cargo tree")
}

fn holes(tree: &str, banned: &[&str]) -> Vec<String> {
    let mut holes: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| banned.contains(name))
        .map(str::to_owned)
        .collect();
    holes.sort();
    holes.dedup();
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_found_once_and_by_its_whole_name() {
        let tree =
            "evenkeel-kernel v0.0.0 (x)\ntokio-util v1\nmio v1.0.0\nserde v1.0.0\nmio v1.0.0 (*)\n";
        assert_eq!(holes(tree, IO), ["mio"]);
    }
}
