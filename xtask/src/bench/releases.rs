//! A thousand tiny instances rolled from r1 to r2, beside the bare loop; and what control and the
//! shims cost meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use super::bare::Fleet;
use super::house::{House, free_addr};
use super::process::{cpu, private_kib};

/// How many instances.
const COUNT: usize = 1_000;
/// How many of them are on their way at once, on both sides.
const WIDTH: usize = 250;
/// First ports of the two generations of the bare loop: outside Evenkeel's own range.
const BARE_PORTS: [u16; 2] = [10_000, 12_000];
/// How long the idle control is watched.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn run(program: &Path) -> anyhow::Result<()> {
    let tiny = std::env::current_exe()?;
    println!("\nreleases: {COUNT} tiny instances from r1 to r2, {WIDTH} at a time");

    let fleet = Fleet::start(&tiny, COUNT, WIDTH, BARE_PORTS[0])?;
    let began = Instant::now();
    fleet.roll(&tiny, "2", WIDTH, BARE_PORTS[1])?;
    let bare = began.elapsed();
    drop(fleet);
    println!("  bare loop             {:>7.2} s", bare.as_secs_f64());

    let house = House::new(program, &[])?;
    let listen = free_addr()?;
    house.write(&stack(&tiny, &listen.to_string(), "1"))?;
    let began = Instant::now();
    house.run(&["up"])?;
    let first = began.elapsed();
    let control = house.pid("control")?;

    std::thread::sleep(Duration::from_secs(2));
    let before = cpu(control);
    let edge_before = cpu(house.pid("edge")?);
    std::thread::sleep(IDLE);
    let idle = (cpu(control) - before).as_secs_f64() / IDLE.as_secs_f64();
    let edge_idle = (cpu(house.pid("edge")?) - edge_before).as_secs_f64() / IDLE.as_secs_f64();
    let shims = shims(&house)?;

    house.write(&stack(&tiny, &listen.to_string(), "2"))?;
    let before = cpu(control);
    let began = Instant::now();
    house.run(&["apply", "--yes"])?;
    let rolled = began.elapsed();
    let rolling = (cpu(control) - before).as_secs_f64() / rolled.as_secs_f64();

    let ratio = rolled.as_secs_f64() / bare.as_secs_f64();
    println!("  evenkeel apply        {:>7.2} s   ratio {ratio:.2}", rolled.as_secs_f64());
    println!("  evenkeel up (first)   {:>7.2} s", first.as_secs_f64());
    println!("  control, idle         {:>7.2} % of a core", idle * 100.0);
    println!("  edge, idle (probing)  {:>7.2} % of a core", edge_idle * 100.0);
    println!("  control, rolling      {:>7.2} % of a core", rolling * 100.0);
    println!("  control, memory       {:>7} KiB private", private_kib(control));
    println!("  a shim, memory        {shims:>7} KiB private (median)");
    Ok(())
}

/// The median private memory of the shims, in KiB.
fn shims(house: &House) -> anyhow::Result<u64> {
    let status = house.status()?;
    let pools = status["services"][0]["pools"].as_array().cloned().unwrap_or_default();
    let instances =
        pools.iter().flat_map(|pool| pool["instances"].as_array().into_iter().flatten());
    let mut sizes: Vec<u64> = instances
        .filter_map(|instance| instance["pid"].as_u64())
        .filter_map(|pid| parent(u32::try_from(pid).ok()?))
        .map(private_kib)
        .collect();
    sizes.sort_unstable();
    Ok(sizes.get(sizes.len() / 2).copied().unwrap_or(0))
}

/// The parent of a process: an instance's shim.
fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn stack(tiny: &Path, listen: &str, version: &str) -> String {
    format!(
        r#"
stack = "bench"
[edge]
listen = ["{listen}"]
[service.tiny]
run = ["{}", "tiny"]
replicas = {COUNT}
env = {{ VERSION = "{version}" }}
health = {{ http = "/", healthy_after = 1 }}
[service.tiny.rollout]
strategy = "rolling"
max_surge = {WIDTH}
min_ready = "0s"
bake = "10m"
[route.tiny]
to = "tiny"
"#,
        tiny.display()
    )
}
