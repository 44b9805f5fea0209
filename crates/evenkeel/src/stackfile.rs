//! The stack file on disk: found, read, and sent with everything it refers to.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::Submission;
use evenkeel_control::{api, client};
use evenkeel_kernel::model::{Stack, Workload};
use evenkeel_kernel::spec::{self, Materials, Obstacle, Part};
use evenkeel_local::{self as local, artifact, look, secret};

use crate::migrations;

/// The name that is looked for when none is given.
pub(crate) const NAME: &str = "evenkeel.toml";

/// The file to use: the one given, or `evenkeel.toml` here.
pub(crate) fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = given.unwrap_or(Path::new(NAME));
    if path.is_dir() {
        return find(Some(&path.join(NAME)));
    }
    if !path.exists() {
        match given {
            Some(_) => bail!("there is no file {}", path.display()),
            None => bail!(
                "there is no {NAME} in this folder; name one with -f, or write one with \
                 `evenkeel init`"
            ),
        }
    }
    Ok(path.to_owned())
}

/// What happens to the files that a stack file refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// A copy of them is kept in the home, so that an old revision can always start again.
    Keep,
    /// They are only looked at; nothing is written.
    LookAt,
}

/// Reads the file and everything it refers to.
pub(crate) fn read(path: &Path, home: &Path, files: Files) -> anyhow::Result<Submission> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let text = String::from_utf8(text)
        .with_context(|| format!("could not read {}: it is not UTF-8 text", path.display()))?;
    let absolute = std::path::absolute(path)
        .with_context(|| format!("could not find the folder of {}", path.display()))?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let base_dir = folder
        .to_str()
        .with_context(|| format!("the folder {} is not UTF-8", folder.display()))?
        .to_owned();
    let materials = gather(&text, &base_dir, home, files)?;
    let file_name = path.display().to_string();
    let plain = (false, None, None);
    let (force, hotfix, expect_destroy) = plain;
    Ok(Submission { file_name, text, base_dir, materials, force, hotfix, expect_destroy })
}

/// Says everything that is wrong with a submission, as control would.
pub(crate) fn check(submission: &Submission) -> anyhow::Result<Stack> {
    Ok(api::check(submission).map_err(client::CallError::Refused)?)
}

/// Reads what the file refers to, and looks for what it needs. Whatever is wrong with the file
/// itself, control reports all of it together.
fn gather(text: &str, base_dir: &str, home: &Path, files: Files) -> anyhow::Result<Materials> {
    let pin = |path: &str| match files {
        Files::Keep => artifact::pin(home, Path::new(path)),
        Files::LookAt => artifact::digest(home, Path::new(path)),
    };
    let unread = |error: io::Error| unreadable(&error, home);
    let mut materials = Materials::default();
    let draft = spec::draft(text, base_dir);
    let needs = draft.needs();
    for path in needs.env_files {
        let content = std::fs::read_to_string(&path).map_err(unread);
        materials.env_files.insert(path, content);
    }
    for path in needs.candidates {
        match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => {
                let digest = pin(&path).map_err(|error| {
                    let doing = format!("could not keep a copy of {path}");
                    anyhow::Error::msg(unreadable(&error, home)).context(doing)
                })?;
                materials.files.insert(path, digest);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                materials.missing.insert(path);
            }
            Ok(_) | Err(_) => {}
        }
    }
    for path in needs.config {
        match pin(&path) {
            Ok(digest) => drop(materials.files.insert(path, digest)),
            Err(error) => drop(materials.unread.insert(path, unread(error))),
        }
    }
    for from in needs.secrets {
        let read = match files {
            Files::Keep => secret::keep(home, &from),
            Files::LookAt => secret::look(home, &from),
        };
        // Why it cannot be read stands there already as a text; who reads it does not.
        let read = read.map_err(|why| match why.starts_with("Permission denied") {
            true => unreadable(&io::Error::other(why), home),
            false => why,
        });
        materials.secrets.insert(from.to_string(), read);
    }
    if draft.migrated().next().is_some() {
        materials.schemas = migrations::changes(draft.databases())?;
    }
    for (service, workload, parts) in draft.workloads(&materials) {
        let found = obstacles(home, &workload, &parts).into_iter();
        let named = found.map(|(part, reason)| Obstacle { service: service.clone(), part, reason });
        materials.obstacles.extend(named);
    }
    Ok(materials)
}

/// Why a file could not be read; where it may not be, who tried, and who Evenkeel is.
fn unreadable(error: &io::Error, home: &Path) -> String {
    let text = error.to_string();
    if error.kind() != io::ErrorKind::PermissionDenied && !text.starts_with("Permission denied") {
        return text;
    }
    let reader = local::own_uid();
    let owner = std::fs::metadata(home).map_or(reader, |it| it.uid());
    let (reader, owner) = (local::user_name(reader), local::user_name(owner));
    let who = match reader == owner {
        true => format!("{reader} reads it, as whom Evenkeel runs here"),
        false => format!("{reader} reads it, and Evenkeel runs here as {owner}"),
    };
    format!("{text}: {who}")
}

/// What stands in the way of a service on this machine.
fn obstacles(home: &Path, workload: &Workload, parts: &[Part]) -> Vec<(Part, String)> {
    let mut found = Vec::new();
    let commands = [(Part::Run, Some(&workload.run)), (Part::Probe, workload.health.command())];
    for (part, command) in commands {
        let Some(command) = command.filter(|_| parts.contains(&part)) else { continue };
        match look(home, workload, command) {
            Ok(()) => {}
            Err(local::Obstacle::Program(reason)) => found.push((part, reason)),
            // Without its folder nothing else can be found.
            Err(local::Obstacle::Folder(reason)) => return vec![(Part::Dir, reason)],
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_says_who_tried() {
        let home = tempfile::tempdir().unwrap();
        let me = local::user_name(local::own_uid());
        let denied = io::Error::from_raw_os_error(13);
        assert_eq!(
            unreadable(&denied, home.path()),
            format!("Permission denied (os error 13): {me} reads it, as whom Evenkeel runs here")
        );
        if std::os::unix::fs::chown(home.path(), Some(65_534), None).is_ok() {
            let owner = local::user_name(65_534);
            assert_eq!(
                unreadable(&denied, home.path()),
                format!(
                    "Permission denied (os error 13): {me} reads it, and Evenkeel runs here as \
                     {owner}"
                )
            );
        }
        let other = io::Error::from_raw_os_error(2);
        assert_eq!(unreadable(&other, home.path()), other.to_string());
    }
}
