//! The reference of the stack file: the description as Markdown that also reads well in a
//! terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::keys::STACK;
use super::schema::{Key, Kind, Preset, Table};
use crate::release::news;

/// The width that prose is wrapped at.
const WIDTH: usize = 96;

const OPENING: &str = "\
# The stack file

`evenkeel.toml` describes a stack: services, and which requests from outside reach them. It is
TOML; every key that may stand in it is below, and any other is an error. Nothing in it is given to
a shell.

- Durations are `\"500ms\"`, `\"2m\"`, `\"1m30s\"`, `\"1.5h\"`, `\"1d\"`.
- Sizes are `\"64MiB\"` (1024s), `\"64MB\"` (1000s), or a bare number of bytes.
- Parts are `\"5%\"`, `\"0.5%\"`.
- Names are 1 to 63 lower-case letters, digits and dashes, and begin with a letter.
- Paths of files are seen from the folder of the file.

A small one:

```toml
stack = \"shop\"

[service.web]
run      = [\"./web\", \"--port\", \"$PORT\"]
replicas = 4
health   = \"/healthz\"

[service.web.rollout]
strategy = \"canary\"

[route.shop]
host = \"shop.example.com\"
to   = \"web\"
```
";

/// The whole reference.
#[must_use]
pub fn reference() -> String {
    let mut out = OPENING.to_owned();
    table(&mut out, &STACK, &mut BTreeSet::new());
    events(&mut out);
    out
}

fn events(out: &mut String) {
    line(out, "\n## Events\n");
    line(out, &wrapped("What `events` of a `[notify.NAME]` can name.", ""));
    line(out, "");
    for event in news::EVENTS {
        let told = if event.told { " (told to everybody)" } else { "" };
        line(out, &format!("- `{}`{told}: {}", event.name, event.doc));
    }
}

/// Writes a table and those below it, each of them once.
fn table(out: &mut String, of: &Table, told: &mut BTreeSet<&'static str>) {
    if !told.insert(of.id) {
        return;
    }
    let header = if of.header.is_empty() { "At the top" } else { of.header };
    let quoted = if of.header.is_empty() { header.to_owned() } else { format!("`{header}`") };
    line(out, &format!("\n## {quoted}\n"));
    line(out, &wrapped(of.doc, ""));
    for one in of.keys {
        line(out, "");
        key(out, one);
    }
    for inner in of.keys.iter().filter_map(|key| below(key.kind)) {
        table(out, inner, told);
    }
}

fn below(kind: Kind) -> Option<&'static Table> {
    if let Kind::Table(of) | Kind::FlagOr(of) | Kind::Tables { of, .. } | Kind::List { of, .. } =
        kind
    {
        return Some(of);
    }
    None
}

fn key(out: &mut String, key: &Key) {
    let preset = match key.preset {
        Preset::Value(value) => format!(", otherwise `{}`", value()),
        Preset::Words(words) => format!(", otherwise {words}"),
        Preset::None => String::new(),
    };
    let note = match key.strategy {
        Some(owner) => format!(" ({owner} only)"),
        None if key.required => " (required)".to_owned(),
        None => String::new(),
    };
    line(out, &format!("- `{}`{note}: {}{preset}.", key.name, key.kind.expected()));
    line(out, &wrapped(key.doc, "  "));
    if !matches!(key.kind, Kind::Tables { .. }) {
        line(out, &format!("  Example: `{} = {}`", key.name, key.example));
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

/// Wraps prose at [`WIDTH`], each line behind `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= WIDTH => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    #[test]
    fn the_reference_is_what_was_read_by_a_person() {
        expect_file!["golden/reference.md"].assert_eq(&reference());
    }

    #[test]
    fn its_lines_fit_a_terminal() {
        // Lines of one key, its kind and its default are not wrapped: they are searched for.
        let long: Vec<String> = reference()
            .lines()
            .filter(|line| !line.starts_with("- `") && !line.starts_with("  Example"))
            .filter(|line| line.chars().count() > 100)
            .map(str::to_owned)
            .collect();
        assert_eq!(long, [""; 0]);
    }
}
