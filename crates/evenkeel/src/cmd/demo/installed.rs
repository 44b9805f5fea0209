//! The PostgreSQL that this machine has, wherever it keeps its programs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The versions whose schemas can be changed.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;
/// What a server is made and run with.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];
/// Where packages put them: a folder, how the names of folders in it begin, and what is below those.
const PLACES: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
];

/// A PostgreSQL, and where its programs are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Installed {
    /// Such as 15.4.
    pub(super) version: (u32, u32),
    pub(super) folder: PathBuf,
}

/// The newest one that can be used, in `only` this folder or wherever one may be.
pub(super) fn newest(only: Option<&Path>) -> Option<Installed> {
    let folders = match only {
        Some(folder) => BTreeSet::from([folder.to_owned()]),
        None => everywhere(),
    };
    let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|it| folder.join(it).is_file());
    // They are run in another folder than this one.
    let folders = folders.into_iter().filter_map(|it| std::path::absolute(it).ok());
    let found = folders.filter(has_all).filter_map(|folder| {
        let version = version(&said(folder.join("postgres"), "--version")?)?;
        VERSIONS.contains(&version.0).then_some(Installed { version, folder })
    });
    found.max()
}

/// Every folder that may hold one.
fn everywhere() -> BTreeSet<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: BTreeSet<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(said("pg_config", "--bindir").map(PathBuf::from));
    for (parent, prefix, below) in PLACES {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let named = entries.filter(|it| it.file_name().to_string_lossy().starts_with(prefix));
        folders.extend(named.map(|it| it.path().join(below)));
    }
    folders
}

/// The first line that a program says.
fn said(program: impl AsRef<OsStr>, argument: &str) -> Option<String> {
    let out = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Reads `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`; 0 for the smaller number of one that is not
/// out yet.
fn version(line: &str) -> Option<(u32, u32)> {
    let (_, rest) = line.split_once("(PostgreSQL) ")?;
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    let smaller = rest.split_once('.').and_then(|(_, smaller)| number(smaller));
    Some((number(rest)?, smaller.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn versions_are_read_as_packages_write_them() {
        for (line, expected) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Some((15, 14))),
            ("postgres (PostgreSQL) 18.4", Some((18, 4))),
            ("postgres (PostgreSQL) 19beta1", Some((19, 0))),
            ("postgres (EnterpriseDB)", None),
            ("", None),
        ] {
            assert_eq!(version(line), expected, "{line}");
        }
    }

    #[test]
    fn a_folder_counts_that_has_every_program_in_a_version_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let found = |text: &str, programs: &[&str]| {
            for name in PROGRAMS {
                drop(std::fs::remove_file(folder.path().join(name)));
            }
            for name in programs {
                let file = folder.path().join(name);
                std::fs::write(&file, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {text}'\n"))
                    .unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            newest(Some(folder.path())).map(|it| it.version)
        };
        assert_eq!(found("14.2", &PROGRAMS), Some((14, 2)));
        assert_eq!(found("13.9", &PROGRAMS), None);
        assert_eq!(found("19.1", &PROGRAMS), None);
        assert_eq!(found("15.1", &PROGRAMS[1..]), None);
    }
}
