//! Files that say what a schema is: which they are, in which order, and which part of them counts.

use std::path::Path;

use anyhow::{Context as _, bail};
use evenkeel_postgres::plan::File;

/// The most files in one folder; a file a day for decades.
const FILES_MAX: usize = 10_000;
/// The largest file, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// How deep folders are looked into: tools that keep a folder for each migration need one.
const DEPTH_MAX: usize = 2;

/// A migration with its text.
#[derive(Clone, Debug)]
pub(crate) struct Migration {
    /// Its name, below the folder.
    pub(crate) name: String,
    /// As it stands in the file, but for parts that undo it.
    pub(crate) text: String,
}

impl Migration {
    pub(super) fn file(&self) -> File {
        File::of(&*self.name, &self.text)
    }
}

/// A desired schema, under the name of its file.
pub(crate) fn desired(file: &Path) -> anyhow::Result<Migration> {
    let name = file.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Migration { text: text(file)?, name })
}

/// The migrations in a folder, in the order in which they are run.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<Migration>> {
    let mut names = Vec::new();
    walk(folder, "", 0, &mut names)
        .with_context(|| format!("could not read the migrations in {}", folder.display()))?;
    names.sort_by_key(|name| natural(name));
    names.into_iter().map(|name| one(folder, name)).collect()
}

fn walk(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            if depth + 1 < DEPTH_MAX {
                walk(&entry.path(), &format!("{name}/"), depth + 1, names)?;
            }
        } else if goes_forward(&name) {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            bail!("there are more than {FILES_MAX} files");
        }
    }
    Ok(())
}

/// Whether a file is a migration, and not the way back from one.
fn goes_forward(name: &str) -> bool {
    let lower = name.to_lowercase();
    let Some(stem) = lower.strip_suffix(".sql") else { return false };
    let last = stem.rsplit('/').next().unwrap_or(stem);
    let undoes = ["down", "undo", "rollback"];
    let flyway = last
        .strip_prefix('u')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains("__"));
    let ending = last.rsplit(['.', '_', '-']).next().unwrap_or_default();
    !(undoes.contains(&ending) || flyway)
}

/// Sorts numbers by what they are: `2_b` before `10_a`.
fn natural(name: &str) -> Vec<(u8, u128, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(match part.parse().ok().filter(|_| digits) {
            Some(number) => (0, number, String::new()),
            None => (1, 0, part.to_owned()),
        });
        rest = after;
    }
    parts
}

fn one(folder: &Path, name: String) -> anyhow::Result<Migration> {
    let text = forward_part(&text(&folder.join(&name))?);
    Ok(Migration { name, text })
}

fn text(path: &Path) -> anyhow::Result<String> {
    let doing = || format!("could not read {}", path.display());
    if std::fs::metadata(path).with_context(doing)?.len() > FILE_MAX {
        bail!("{} has more than {FILE_MAX} bytes: data is not schema", path.display());
    }
    std::fs::read_to_string(path).with_context(doing)
}

/// The part of a file that goes forward, where it has the way back too. Lines keep their numbers.
fn forward_part(text: &str) -> String {
    let mut forward = true;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let words: Vec<String> = line
            .trim()
            .trim_start_matches("--")
            .split_whitespace()
            .map(str::to_lowercase)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if line.trim_start().starts_with("--") {
            match words.as_slice() {
                ["+goose" | "+migrate", "up", ..] | ["migrate:up", ..] => forward = true,
                ["+goose" | "+migrate", "down", ..] | ["migrate:down", ..] => forward = false,
                _ => {}
            }
        }
        if forward {
            out.push_str(line);
        } else if line.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_undo_others_are_no_migrations_and_numbers_are_numbers() {
        for (name, forward) in [
            ("1_a.sql", true),
            ("1_a.up.sql", true),
            ("1_a.down.sql", false),
            ("1_a_down.sql", false),
            ("U2__x.sql", false),
            ("users.sql", true),
            ("20240101_init/migration.sql", true),
            ("readme.md", false),
        ] {
            assert_eq!(goes_forward(name), forward, "{name}");
        }
        let mut names = ["10_a.sql", "2_b.sql", "2_a/migration.sql", "V1.10__x.sql", "V1.9__x.sql"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(
            names,
            ["2_a/migration.sql", "2_b.sql", "10_a.sql", "V1.9__x.sql", "V1.10__x.sql"]
        );
    }

    #[test]
    fn the_way_back_in_a_file_is_left_out_and_lines_keep_their_numbers() {
        let text = "-- +goose Up\nCREATE TABLE a ();\n-- +goose Down\nDROP TABLE a;\n";
        assert_eq!(forward_part(text), "-- +goose Up\nCREATE TABLE a ();\n\n\n");
        let text = "-- migrate:up\nA;\n\n-- migrate:down\nB;";
        assert_eq!(forward_part(text), "-- migrate:up\nA;\n\n\n");
    }
}
