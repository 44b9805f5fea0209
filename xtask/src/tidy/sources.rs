//! Rules on the text of single files.
//!
//! They read lines, not syntax: a rule that is sometimes wrong would be worked around, so each looks
//! for something that is not written by accident. The words looked for are put together here from
//! parts, so that this file does not break its own rules.

use super::Problem;
use super::tree::Files;

/// The one crate in which the operating system may be spoken to with unsafe code.
const UNSAFE_CRATE: &str = "crates/evenkeel-local/";
/// Words that promise work instead of doing it.
const PROMISES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
/// Macros that promise code instead of having it.
const STUBS: [&str; 2] = [concat!("to", "do!"), concat!("unimple", "mented!")];
/// A test that is not run is not a test.
const IGNORED: &str = concat!("#[ig", "nore");
/// Folders of one person's machine.
const MACHINE: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/tar", "get")];
/// Endings of files that hold code.
const CODE: [&str; 8] = [".rs", ".toml", ".sh", ".py", ".js", ".html", ".css", ".c"];

/// Every problem in the files.
pub(crate) fn check(files: &Files) -> Vec<Problem> {
    files.iter().flat_map(|(file, text)| check_file(file, text)).collect()
}

fn check_file(file: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let rust = file.ends_with(".rs");
    if rust && !text.starts_with("//!") {
        problems.push(Problem::new(file, 1, "does not begin with `//!`: say what it decides"));
    }
    if is_crate_root(file) && !text.contains("#![forbid(unsafe_code)]") {
        problems.push(Problem::new(file, 1, "lacks `#![forbid(unsafe_code)]`"));
    }
    let code = CODE.iter().any(|ending| file.ends_with(ending)) || file.starts_with(".ci/");
    for (line, number) in text.lines().zip(1..) {
        let mut say = |says: String| problems.push(Problem::new(file, number, says));
        if let Some(path) = MACHINE.iter().find(|path| has_path(line, path)) {
            say(format!("names `{path}`, a folder of one machine"));
        }
        if code && let Some(word) = PROMISES.iter().find(|word| has_word(line, word)) {
            say(format!("`{word}`: do it, or say in a decision why not"));
        }
        if rust {
            check_rust_line(file, line, say);
        }
    }
    problems
}

fn check_rust_line(file: &str, line: &str, mut say: impl FnMut(String)) {
    if let Some(stub) = STUBS.iter().find(|stub| has_word(line, stub)) {
        say(format!("`{stub}` is a promise, not code"));
    }
    if line.contains(IGNORED) {
        say("a test that is ignored is no test".to_owned());
    }
    if !file.starts_with(UNSAFE_CRATE) && has_unsafe(line) {
        say("unsafe code belongs into evenkeel-local".to_owned());
    }
}

/// `lib.rs` or `main.rs` of a crate that must forbid unsafe code.
fn is_crate_root(file: &str) -> bool {
    let root = file.ends_with("/src/lib.rs") || file.ends_with("/src/main.rs");
    root && file.matches('/').count() <= 3 && !file.starts_with(UNSAFE_CRATE)
}

/// The keyword, not the lint of that name and not the word in a comment or sentence.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    let after = ["{", "fn ", "impl ", "extern ", "trait ", "(no_mangle", "(link_section"];
    code.match_indices("unsafe").any(|(at, word)| {
        let rest = code[at + word.len()..].trim_start();
        !continues(&code[..at]) && after.iter().any(|start| rest.starts_with(start))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, word)| {
        let ends = word.ends_with('!') || !begins(&line[at + word.len()..]);
        !continues(&line[..at]) && ends
    })
}

/// A path from the root of the machine, not one that only ends alike.
fn has_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c == '/' || c == '.' || c == '}' || c == '$';
    line.match_indices(path).any(|(at, _)| {
        let before = &line[..at];
        !continues(before) && !before.ends_with(inside)
    })
}

fn continues(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn begins(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `~` stands for the place where a forbidden word is split, so that this file stays tidy.
    fn found(file: &str, text: &str) -> Vec<String> {
        let text = text.replace('~', "");
        check_file(file, &text).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn everything_forbidden_is_found_at_its_line() {
        let text = "fn a() { todo~!() }\n// TO~DO later\n#[ign~ore = \"slow\"]\n\nunsafe~ { b() }\nlet p = \"/wo~rk/x\";\n";
        let lines: Vec<_> = found("crates/evenkeel-sim/src/lib.rs", text);
        let places: Vec<_> = lines.iter().filter_map(|line| line.split(':').nth(1)).collect();
        assert_eq!(places, ["1", "1", "1", "2", "3", "5", "6"], "{lines:#?}");
    }

    #[test]
    fn what_only_looks_alike_is_left_alone() {
        let text = "\
//! A file about TO~DOS and unsafe things, see https://example.com/wo~rk/ or /wo~rkspace/.
#![forbid(unsafe_code)]
// An unsafe { } in a comment.
fn unsafe_plan() { say(\"this is unsafe for readers\"); todo_list!() }
const PATH: &str = concat!(\"/home/ro~ot/\", \"$HOME/wo~rk/\", \"/wo~rk\");
";
        assert_eq!(found("crates/evenkeel-sim/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn the_local_platform_may_be_unsafe() {
        let text = "//! Local.\nunsafe~ { b() }\n";
        assert_eq!(found("crates/evenkeel-local/src/lib.rs", text), [""; 0]);
        assert_eq!(found("crates/evenkeel-edge/src/a.rs", text).len(), 1);
    }

    #[test]
    fn prose_may_speak_of_open_work_but_not_of_a_machine() {
        assert_eq!(found("docs/plan.md", "a TO~DO list"), [""; 0]);
        assert_eq!(found("docs/plan.md", "cd /ro~ot/x").len(), 1);
    }
}
