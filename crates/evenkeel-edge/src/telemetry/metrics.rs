//! The page that Prometheus reads.
//!
//! How many series there are is bounded by the table: routes, pools and instances of it, and what
//! has left it is shown no more. What is counted per pool goes on over a successor, what is counted
//! per route begins anew, as counters of a process that starts do.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use evenkeel_kernel::model::PoolId;
use evenkeel_kernel::world::{Counts, Health, latency_bounds};

use super::requests::{BOUNDS_US, CODES, Requests};
use super::text::put;
use crate::observe;
use crate::shared::Shared;
use crate::table::{Pool, Table};

/// Every so many bounds of the latency are shown: each is twice the one before.
const LATENCY_STEP: usize = 4;

/// The page.
pub(super) fn page(shared: &Shared) -> String {
    let mut page = Page { out: String::with_capacity(64 * 1024) };
    let table = shared.table.load_full();
    edge(&mut page, shared, &table);
    requests(&mut page, shared, &table);
    upstream(&mut page, shared, &table);
    page.out.push_str(&process());
    page.out
}

struct Page {
    out: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        put(
            &mut self.out,
            format_args!("# HELP evenkeel_{name} {help}\n# TYPE evenkeel_{name} {kind}\n"),
        );
    }

    fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        let braces = if labels.is_empty() { ("", "") } else { ("{", "}") };
        put(
            &mut self.out,
            format_args!("evenkeel_{name}{}{labels}{} {value}\n", braces.0, braces.1),
        );
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.value(name, "", value);
    }

    /// A histogram: what falls into each bound, in microseconds, and beyond the last.
    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        buckets: &[(u64, u64)],
        rest: u64,
        sum_us: Option<u64>,
    ) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bound_us, counted) in buckets {
            count += counted;
            let le = seconds(*bound_us);
            self.value(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{le}\""), count);
        }
        count += rest;
        self.value(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"+Inf\""), count);
        if let Some(sum_us) = sum_us {
            self.value(&format!("{name}_sum"), labels, seconds(sum_us));
        }
        self.value(&format!("{name}_count"), labels, count);
    }
}

/// Microseconds as seconds, without the noise of binary fractions.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn edge(page: &mut Page, shared: &Shared, table: &Table) {
    page.family("build_info", "gauge", "The program.");
    page.value("build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    let fence = table.source.fence;
    page.one("table_epoch", "gauge", "Which controller made the routing table.", fence.epoch.0);
    let help = "Which decision the routing table comes from.";
    page.one("table_generation", "gauge", help, fence.generation.0);
    let leaving = shared.succession.elders().living().count();
    let help = "Former edge processes that still hold requests.";
    page.one("leaving_edges", "gauge", help, leaving);
    let open = shared.connections.load(Ordering::Relaxed);
    page.one("connections", "gauge", "Open connections of clients.", open);
    let help = "How many there may be.";
    page.one("connections_max", "gauge", help, shared.connections_max);
    for (name, fate) in
        [("access_log_lines", &shared.telemetry.lines), ("spans", &shared.telemetry.spans)]
    {
        let (told, dropped) = fate.read();
        let (told_name, dropped_name) = (format!("{name}_total"), format!("{name}_dropped_total"));
        page.one(&told_name, "counter", "Written or sent.", told);
        page.one(&dropped_name, "counter", "Dropped because of no room, or of an error.", dropped);
    }
}

/// Requests as clients see them.
fn requests(page: &mut Page, shared: &Shared, table: &Table) {
    let mut all: Vec<(String, &Requests)> = Vec::new();
    let nowhere = labels(None, None);
    all.push((nowhere, &shared.telemetry.nowhere));
    for target in table.routes.all() {
        let route = match target.source.revision {
            // The preview of a new revision is a route of its own.
            Some(revision) => format!("{}@{revision}", target.source.name),
            None => target.source.name.to_string(),
        };
        all.extend(target.requests.all().map(|(pool, it)| (labels(Some(&route), pool), it)));
    }
    let pools = pools(table);
    all.extend(pools.iter().map(|pool| (labels(None, Some(&pool.id)), &*pool.inside)));
    let all: Vec<_> = all.into_iter().map(|(labels, it)| (labels, it.read())).collect();

    page.family(
        "requests_total",
        "counter",
        "Requests by the class of the status that clients got.",
    );
    for (labels, sum) in &all {
        for (code, count) in CODES.iter().zip(sum.codes).filter(|(_, count)| *count > 0) {
            page.value("requests_total", &format!("{labels},code=\"{code}\""), count);
        }
    }
    page.family("response_bytes_total", "counter", "Bytes of bodies that were sent to clients.");
    for (labels, sum) in all.iter().filter(|(_, sum)| sum.count() > 0) {
        page.value("response_bytes_total", labels, sum.bytes);
    }
    let help = "Time from the head of a request to the end of its answer.";
    page.family("request_duration_seconds", "histogram", help);
    for (labels, sum) in all.iter().filter(|(_, sum)| sum.count() > 0) {
        let buckets: Vec<_> = BOUNDS_US.iter().copied().zip(sum.durations).collect();
        let rest = sum.durations.last().copied().unwrap_or(0);
        page.histogram("request_duration_seconds", labels, &buckets, rest, Some(sum.sum_us));
    }
}

/// Requests as instances see them.
fn upstream(page: &mut Page, shared: &Shared, table: &Table) {
    let seen = observe::all(shared);
    let counts: BTreeMap<&PoolId, &Counts> = seen.pools.iter().map(|(id, it)| (id, it)).collect();
    let pools = pools(table);
    let of = |pool: &Arc<Pool>| counts.get(&pool.id).copied();

    let help = "Requests by how they ended at the instances.";
    page.family("upstream_requests_total", "counter", help);
    for (pool, counts) in pools.iter().filter_map(|pool| Some((pool, of(pool)?))) {
        for (outcome, count) in [
            ("1xx", counts.status_1xx),
            ("2xx", counts.status_2xx),
            ("3xx", counts.status_3xx),
            ("4xx", counts.status_4xx),
            ("5xx", counts.status_5xx),
            ("connect_failure", counts.connect_failures),
            ("reset", counts.resets),
            ("timeout", counts.timeouts),
            ("client_gone", counts.client_gone),
        ] {
            let labels = format!("{},outcome=\"{outcome}\"", pool_labels(&pool.id));
            page.value("upstream_requests_total", &labels, count);
        }
    }
    let help = "Tries that failed and were made again elsewhere.";
    page.family("upstream_retries_total", "counter", help);
    for pool in &pools {
        for (cause, count) in pool.counts.retries() {
            let labels = format!("{},cause=\"{cause}\"", pool_labels(&pool.id));
            page.value("upstream_retries_total", &labels, count);
        }
    }
    let help = "Times an instance was taken out because of what became of its requests.";
    page.family("ejections_total", "counter", help);
    for pool in &pools {
        page.value("ejections_total", &pool_labels(&pool.id), pool.counts.ejections());
    }
    page.family("requests_in_flight", "gauge", "Requests that instances are answering.");
    for (pool, counts) in pools.iter().filter_map(|pool| Some((pool, of(pool)?))) {
        page.value("requests_in_flight", &pool_labels(&pool.id), counts.in_flight);
    }
    let mut upgraded: BTreeMap<&PoolId, u32> = pools.iter().map(|pool| (&pool.id, 0)).collect();
    for instance in &seen.instances {
        if let Some(sum) = upgraded.get_mut(&instance.id.pool) {
            *sum += instance.long_lived;
        }
    }
    page.family("upgraded_connections", "gauge", "Connections that have become something else.");
    for (pool, count) in upgraded {
        page.value("upgraded_connections", &pool_labels(pool), count);
    }
    page.family("requests_waiting", "gauge", "Requests that wait for an instance.");
    for (name, service) in &table.services {
        page.value("requests_waiting", &format!("service=\"{name}\""), service.queue.waiting());
    }
    page.family("held", "gauge", "Whether the requests of a service wait by somebody's order.");
    for (name, service) in &table.services {
        let held = u8::from(service.held().is_some());
        page.value("held", &format!("service=\"{name}\""), held);
    }
    let help = "Requests that the edge answered itself, by cause.";
    page.family("rejected_total", "counter", help);
    for (cause, count) in [
        ("no_route", seen.unrouted.no_route),
        ("no_instance", seen.unrouted.no_instance),
        ("overloaded", seen.unrouted.overloaded),
        ("rejected", seen.unrouted.rejected),
    ] {
        page.value("rejected_total", &format!("cause=\"{cause}\""), count);
    }
    page.family("instances", "gauge", "Instances by what their probes say.");
    for pool in &pools {
        for (word, health) in [
            ("healthy", Health::Healthy),
            ("unhealthy", Health::Unhealthy),
            ("unknown", Health::Unknown),
        ] {
            let count = pool.instances.iter().filter(|it| it.reported() == health).count();
            let labels = format!("{},health=\"{word}\"", pool_labels(&pool.id));
            page.value("instances", &labels, count);
        }
    }
    let help = "Time from a request to the first byte of the instance's answer.";
    page.family("upstream_first_byte_seconds", "histogram", help);
    let bounds = latency_bounds();
    for (pool, counts) in pools.iter().filter_map(|pool| Some((pool, of(pool)?))) {
        let mut buckets = Vec::new();
        for (group, counted) in bounds.chunks(LATENCY_STEP).zip(counts.latency.chunks(LATENCY_STEP))
        {
            let Some(bound) = group.last() else { continue };
            buckets.push((*bound, counted.iter().take(group.len()).sum()));
        }
        let shown: u64 = buckets.iter().map(|(_, count)| count).sum();
        let rest = counts.latency.iter().sum::<u64>() - shown.min(counts.latency.iter().sum());
        let labels = pool_labels(&pool.id);
        page.histogram("upstream_first_byte_seconds", &labels, &buckets, rest, None);
    }
}

fn pools(table: &Table) -> Vec<Arc<Pool>> {
    table.services.values().flat_map(|service| &service.pools).map(Arc::clone).collect()
}

/// All names are DNS labels or numbers, so nothing in them needs to be escaped.
fn labels(route: Option<&str>, pool: Option<&PoolId>) -> String {
    let route = format!("route=\"{}\"", route.unwrap_or_default());
    match pool {
        Some(pool) => format!("{route},{}", pool_labels(pool)),
        None => format!("{route},service=\"\",revision=\"\""),
    }
}

fn pool_labels(pool: &PoolId) -> String {
    format!("service=\"{}\",revision=\"{}\"", pool.service, pool.revision)
}

/// What every exporter says of its process, by the names that all use.
fn process() -> String {
    let mut out = String::new();
    let mut say = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            put(
                &mut out,
                format_args!("# HELP process_{name} {help}\n# TYPE process_{name} {kind}\n"),
            );
            put(&mut out, format_args!("process_{name} {value}\n"));
        }
    };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).ok();
    let stat = read("stat");
    let field = |number: usize| -> Option<f64> {
        let rest = stat.as_deref()?.rsplit_once(") ")?.1;
        rest.split(' ').nth(number - 3)?.parse().ok()
    };
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks);
    say("cpu_seconds_total", "counter", "User and system time.", cpu);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let page = rustix::param::page_size() as f64;
    say("resident_memory_bytes", "gauge", "Resident memory.", field(24).map(|it| it * page));
    say("virtual_memory_bytes", "gauge", "Virtual memory.", field(23));
    #[expect(clippy::cast_precision_loss, reason = "files are thousands")]
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|it| it.count() as f64);
    say("open_fds", "gauge", "Open files.", files);
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    say(
        "max_fds",
        "gauge",
        "Files that may be open.",
        most.and_then(|it| u32::try_from(it).ok()).map(f64::from),
    );
    let boot = std::fs::read_to_string("/proc/stat").ok();
    let boot = boot.as_deref().and_then(|it| it.lines().find_map(|it| it.strip_prefix("btime ")));
    let boot: Option<f64> = boot.and_then(|it| it.trim().parse().ok());
    let start = boot.zip(field(22)).map(|(boot, after)| boot + after / ticks);
    say("start_time_seconds", "gauge", "When it started.", start);
    say("threads", "gauge", "Its threads.", field(20));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_plain_numbers() {
        let all = [0, 1, 100, 1_000, 2_500, 1_000_000, 2_500_000, 60_000_000].map(seconds);
        assert_eq!(all, ["0", "0.000001", "0.0001", "0.001", "0.0025", "1", "2.5", "60"]);
    }
}
