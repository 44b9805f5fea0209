//! Benchmarks that print both sides of their ratio, measured in the same run.

mod abort;
mod bare;
mod busy;
mod changes;
mod discovery;
mod dns;
pub(crate) mod echo;
mod edge;
mod house;
mod judgement;
pub(crate) mod load;
mod nginx;
mod peer;
mod process;
mod protocols;
mod releases;
mod schema;
pub(crate) mod stand_in;
pub(crate) mod tiny;

use std::path::Path;

/// Runs the named benchmarks, or all of them. The product is built first, in release profile.
pub(crate) fn run(root: &Path, names: &[&str]) -> anyhow::Result<bool> {
    // It has options of its own.
    if let ["schema", words @ ..] = names {
        println!("{}", process::machine());
        schema::run(words)?;
        return Ok(true);
    }
    let all = names.is_empty();
    let wants = |name: &str| all || names.contains(&name);
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(name)) {
        println!("there is no benchmark {unknown}; there are {}", NAMES.join(", "));
        return Ok(false);
    }
    println!("{}", process::machine());
    // It needs the kernel and the journal only.
    if wants("judgement") {
        judgement::run()?;
    }
    // It needs discovery only.
    if wants("dns") {
        dns::run(root)?;
    }
    if wants("discovery") {
        discovery::run(root)?;
    }
    // It needs PostgreSQL only.
    if all {
        schema::run(&[])?;
    }
    if !all && names.iter().all(|name| ["judgement", "dns", "discovery"].contains(name)) {
        return Ok(true);
    }
    let program = house::build(root)?;
    if wants("releases") {
        releases::run(&program)?;
    }
    if wants("edge") {
        edge::run(&program)?;
    }
    if wants("protocols") {
        protocols::run(&program, &house::build_xtask(root)?)?;
    }
    if wants("changes") {
        changes::run(&program, &house::build_xtask(root)?)?;
    }
    if wants("abort") {
        abort::run(&program)?;
    }
    Ok(true)
}

const NAMES: [&str; 8] =
    ["releases", "edge", "protocols", "changes", "abort", "judgement", "dns", "discovery"];

/// The median of measured values. Empty values have none, so 0.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
