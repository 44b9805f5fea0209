//! `evenkeel init`: writes a commented starter file for what it finds in the folder.

use std::path::Path;

use anyhow::{Context as _, bail};
use evenkeel_kernel::spec::{self, Found};

use crate::cli::Init;
use crate::exit::Exit;
use crate::stackfile;
use crate::term;

/// Files looked at by name; a folder with more tells nothing more.
const FILES_MAX: usize = 2_000;
/// The largest file that is read for hints.
const HINT_BYTES_MAX: u64 = 1 << 20;

pub(super) fn run(args: &Init, json: bool) -> anyhow::Result<Exit> {
    let folder = std::path::absolute(&args.folder)
        .with_context(|| format!("could not use {}", args.folder.display()))?;
    let text = spec::starter(&look(&folder)?);
    if args.stdout {
        term::line(text.trim_end());
        return Ok(Exit::Done);
    }
    let path = folder.join(stackfile::NAME);
    write_new(&path, &text)?;
    if json {
        term::json(&serde_json::json!({ "file": path }))?;
    } else {
        term::line(&format!("wrote {}", path.display()));
        term::line("look through it, then: evenkeel up");
    }
    Ok(Exit::Done)
}

/// Writes a file that is not there yet; one that is there is never touched.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::fs::File::create_new(path) {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .with_context(|| format!("could not write {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => bail!(
            "{} is there already; `evenkeel init --stdout` prints what a new one would say",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("could not write {}", path.display())),
    }
}

fn look(folder: &Path) -> anyhow::Result<Found> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("could not look into {}", folder.display()))?;
    let mut files: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|it| it.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .take(FILES_MAX)
        .collect();
    files.sort();
    let read = |name: &str| {
        let path = folder.join(name);
        let small = std::fs::metadata(&path).is_ok_and(|it| it.len() <= HINT_BYTES_MAX);
        if small { std::fs::read_to_string(path).ok() } else { None }
    };
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok(Found {
        folder_name: name.to_owned(),
        files,
        procfile: read("Procfile"),
        package_json: read("package.json"),
        cargo_toml: read("Cargo.toml"),
        go_mod: read("go.mod"),
    })
}
