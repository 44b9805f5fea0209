//! The stack file on disk: found, read, and sent with everything it refers to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use evenkeel_control::api::types::Submission;
use evenkeel_control::{api, client};
use evenkeel_kernel::model::{Stack, Workload};
use evenkeel_kernel::spec::{self, Materials, Obstacle, Part};
use evenkeel_local::{self as local, artifact, look, secret};

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

/// Reads the file and everything it refers to, and keeps a copy of the programs it names in
/// `home`, so that an old revision can always start again.
pub(crate) fn read(path: &Path, home: &Path) -> anyhow::Result<Submission> {
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
    let materials = gather(&text, &base_dir, home)?;
    let file_name = path.display().to_string();
    Ok(Submission { file_name, text, base_dir, materials, force: false, hotfix: None })
}

/// Says everything that is wrong with a submission, as control would.
pub(crate) fn check(submission: &Submission) -> anyhow::Result<Stack> {
    Ok(api::check(submission).map_err(client::CallError::Refused)?)
}

/// Reads what the file refers to, and looks for what it needs. Whatever is wrong with the file
/// itself, control reports all of it together.
fn gather(text: &str, base_dir: &str, home: &Path) -> anyhow::Result<Materials> {
    let mut materials = Materials::default();
    let draft = spec::draft(text, base_dir);
    let needs = draft.needs();
    for path in needs.env_files {
        let content = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        materials.env_files.insert(path, content);
    }
    for path in needs.candidates {
        if std::fs::metadata(&path).is_ok_and(|it| it.is_file()) {
            let digest = artifact::pin(home, Path::new(&path))
                .with_context(|| format!("could not keep a copy of {path}"))?;
            materials.files.insert(path, digest);
        }
    }
    for path in needs.config {
        match artifact::pin(home, Path::new(&path)) {
            Ok(digest) => drop(materials.files.insert(path, digest)),
            Err(error) => drop(materials.unread.insert(path, error.to_string())),
        }
    }
    for from in needs.secrets {
        materials.secrets.insert(from.to_string(), secret::keep(home, &from));
    }
    for (service, workload, parts) in draft.workloads(&materials) {
        let found = obstacles(home, &workload, &parts).into_iter();
        let named = found.map(|(part, reason)| Obstacle { service: service.clone(), part, reason });
        materials.obstacles.extend(named);
    }
    Ok(materials)
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
