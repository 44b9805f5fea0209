//! The tree: every text file that is tracked or about to be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Text by path below the root, with `/` between folders.
pub(crate) type Files = BTreeMap<String, String>;

/// Reads the tree. A file that is not UTF-8 is no text and is left out, as is one that was removed
/// and not yet committed.
pub(crate) fn read(root: &Path) -> anyhow::Result<Files> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("could not run git")?;
    ensure!(output.status.success(), "could not list the files of the repository");
    let listed = String::from_utf8(output.stdout).context("could not read a file name")?;
    let names = listed.split('\0').filter(|name| !name.is_empty());
    Ok(names
        .filter_map(|name| {
            let bytes = std::fs::read(root.join(name)).ok()?;
            Some((name.to_owned(), String::from_utf8(bytes).ok()?))
        })
        .collect())
}
