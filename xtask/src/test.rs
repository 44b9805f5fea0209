//! `cargo xtask test`: everything that must hold before a change is shared, in the order in which
//! it is cheapest to learn that it does not.
//!
//! A failed step does not stop the next one: all that is wrong is said in one run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::tidy;

/// Names a file to which tests add a line for what they could not test here, because a test harness
/// hides what a passing test prints.
const SKIPPED: &str = "EVENKEEL_TESTS_SKIPPED";
/// The same seeds on every machine; a longer run takes others.
const SEEDS: &str = "100000";

/// One thing to run.
struct Step {
    name: &'static str,
    cargo: Vec<&'static str>,
}

/// Runs every step. Says whether all of them passed.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let skipped = std::env::temp_dir().join(format!("evenkeel-skipped-{}", std::process::id()));
    fs::write(&skipped, "").with_context(|| format!("could not write {}", skipped.display()))?;
    let start = Instant::now();
    let mut done = vec![timed("tidy", || tidy::run(root))?];
    for step in steps() {
        done.push(timed(step.name, || cargo(root, &step.cargo, &skipped))?);
    }
    let notes = fs::read_to_string(&skipped).unwrap_or_default();
    fs::remove_file(&skipped).with_context(|| format!("could not remove {}", skipped.display()))?;
    Ok(report(&done, &notes, start.elapsed()))
}

/// What is run after tidy (which includes the format). The last one plants design errors and sees
/// that the simulator finds each of them.
fn steps() -> Vec<Step> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    let tests = if has_nextest() {
        vec!["nextest", "run", "--workspace", "--locked", "--profile", "ci"]
    } else {
        vec!["test", "--workspace", "--locked", "--no-fail-fast"]
    };
    let sim = |words: &[&'static str]| {
        [&["run", "--profile", "sim", "--locked", "-p", "evenkeel-sim", "--"], words].concat()
    };
    vec![
        Step { name: "clippy", cargo: clippy.to_vec() },
        Step { name: "tests", cargo: tests },
        Step { name: "seeds", cargo: sim(&["run", "--seeds", SEEDS]) },
        Step { name: "bugs", cargo: sim(&["bugs"]) },
    ]
}

fn has_nextest() -> bool {
    let found = Command::new("cargo").args(["nextest", "--version"]).output();
    found.is_ok_and(|output| output.status.success())
}

fn cargo(root: &Path, words: &[&str], skipped: &Path) -> anyhow::Result<bool> {
    println!("    cargo {}", words.join(" "));
    let status = Command::new("cargo")
        .args(words)
        .current_dir(root)
        .env(SKIPPED, skipped)
        .status()
        .with_context(|| format!("could not run cargo {}", words.join(" ")))?;
    Ok(status.success())
}

/// What came of one step.
struct Done {
    name: &'static str,
    passed: bool,
    took: Duration,
}

fn timed(name: &'static str, work: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<Done> {
    println!("==> {name}");
    let start = Instant::now();
    let passed = work()?;
    let done = Done { name, passed, took: start.elapsed() };
    println!("{}", line(&done));
    Ok(done)
}

fn line(done: &Done) -> String {
    let word = if done.passed { "ok" } else { "FAILED" };
    format!("<== {:<8} {word:<6} {:>7.1} s", done.name, done.took.as_secs_f64())
}

fn report(done: &[Done], skipped: &str, took: Duration) -> bool {
    println!("\nsummary");
    for done in done {
        println!("{}", line(done));
    }
    for note in skipped.lines() {
        println!("skipped: {note}");
    }
    let failed = done.iter().filter(|done| !done.passed).count();
    let seconds = took.as_secs_f64();
    match failed {
        0 => println!("all steps passed in {seconds:.1} s"),
        1 => println!("1 step failed, after {seconds:.1} s"),
        _ => println!("{failed} steps failed, after {seconds:.1} s"),
    }
    failed == 0
}
