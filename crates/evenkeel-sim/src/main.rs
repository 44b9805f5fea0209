//! `evenkeel-sim`: runs seeds, replays one, proves that planted design errors are found.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel_sim::{Bug, Report, run};

const USAGE: &str = "usage:
  evenkeel-sim run [--seeds N] [--from S] [--jobs J] [--bug NAME]
  evenkeel-sim replay SEED [--bug NAME] [-v]
  evenkeel-sim bugs [--seeds N]";

/// Failing seeds that are printed; more of them say nothing new.
const FAILURES_MAX: usize = 10;
/// Seeds among which every planted error must be found.
const BUG_SEEDS: u64 = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            print(&format!("{problem}\n\n{USAGE}"));
            ExitCode::from(2)
        }
    }
}

fn command(arguments: &[String]) -> Result<bool, String> {
    let (name, rest) = arguments.split_first().ok_or("no command")?;
    let bug = option(rest, "--bug")?.map(|name| name.parse::<Bug>()).transpose()?;
    match name.as_str() {
        "run" => {
            let seeds = number(rest, "--seeds", 100_000)?;
            let from = number(rest, "--from", 0)?;
            let jobs = number(rest, "--jobs", 2)?.clamp(1, 64);
            Ok(run_many(from, seeds, jobs, bug))
        }
        "replay" => {
            let seed = rest.first().ok_or("no seed")?;
            let seed = seed.parse().map_err(|_error| format!("{seed} is no seed"))?;
            Ok(replay(seed, bug, rest.iter().any(|it| it == "-v")))
        }
        "bugs" => Ok(bugs(number(rest, "--seeds", BUG_SEEDS)?)),
        other => Err(format!("there is no command {other}")),
    }
}

fn option<'a>(arguments: &'a [String], name: &str) -> Result<Option<&'a str>, String> {
    let Some(at) = arguments.iter().position(|it| it == name) else { return Ok(None) };
    let value = arguments.get(at + 1).ok_or(format!("{name} needs a value"))?;
    Ok(Some(value))
}

fn number(arguments: &[String], name: &str, default: u64) -> Result<u64, String> {
    let Some(text) = option(arguments, name)? else { return Ok(default) };
    text.parse().map_err(|_error| format!("{name} needs a number, not {text}"))
}

#[expect(
    clippy::disallowed_types,
    reason = "how long the seeds take is real time; none of it reaches them"
)]
fn run_many(from: u64, seeds: u64, jobs: u64, bug: Option<Bug>) -> bool {
    let started = std::time::Instant::now();
    let next = AtomicU64::new(from);
    let end = from.saturating_add(seeds);
    let work = || {
        let mut reports = Vec::new();
        let (mut commits, mut releases) = (0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (reports, commits, releases);
            }
            // A seed at which the kernel gives up must be named as any other that fails.
            let report = std::panic::catch_unwind(|| run(seed, bug, false))
                .unwrap_or_else(|_told_already| Report::of_panic(seed));
            commits += report.commits;
            releases += report.releases;
            if report.violation.is_some() {
                reports.push(report);
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let complete = results.len() as u64 == jobs;
    let commits: u64 = results.iter().map(|it| it.1).sum();
    let releases: usize = results.iter().map(|it| it.2).sum();
    let mut failures: Vec<Report> = results.into_iter().flat_map(|it| it.0).collect();
    failures.sort_by_key(|report| report.seed);
    for report in failures.iter().take(FAILURES_MAX) {
        print_failure(report, bug);
    }
    print(&format!(
        "{seeds} seeds from {from}, {} failed; {releases} releases, {commits} commits, {:.1} s",
        failures.len(),
        started.elapsed().as_secs_f64()
    ));
    failures.is_empty() && complete
}

fn print_failure(report: &Report, bug: Option<Bug>) {
    let Some(violation) = &report.violation else { return };
    let planted = bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    let seed = report.seed;
    print(&format!("seed {seed}: {violation}\n  evenkeel-sim replay {seed}{planted} -v"));
}

fn replay(seed: u64, bug: Option<Bug>, verbose: bool) -> bool {
    let report = run(seed, bug, verbose);
    for line in &report.story {
        print(line);
    }
    match &report.violation {
        Some(violation) => print(&format!("seed {seed}: {violation}")),
        None => print(&format!(
            "seed {seed}: all well; {} releases, {} commits, {} s of virtual time",
            report.releases,
            report.commits,
            report.virtual_ms / 1000
        )),
    }
    report.violation.is_none()
}

fn bugs(seeds: u64) -> bool {
    let mut all = true;
    for bug in Bug::ALL {
        let found =
            (0..seeds).find_map(|seed| run(seed, Some(bug), false).violation.map(|it| (seed, it)));
        match found {
            Some((seed, violation)) => print(&format!("{bug:<22} seed {seed:>5}: {violation}")),
            None => {
                all = false;
                print(&format!("{bug:<22} not found in {seeds} seeds"));
            }
        }
    }
    all
}

#[expect(clippy::print_stdout, reason = "the output of this program")]
fn print(line: &str) {
    println!("{line}");
}
