//! `evenkeel status`: services, traffic, instances, the release under way; with `--watch` redrawn
//! in place.

use std::time::Duration;

use evenkeel_control::api::types::{
    CertificateView, JobView, LedgerView, PoolView, ReleaseView, SchemaView, ServiceView, WaitView,
};
use evenkeel_control::client::CallError;

use super::Context;
use crate::cli;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// Time between two pictures.
const REDRAW: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context<'_>, args: &cli::Status) -> anyhow::Result<Exit> {
    if !args.watch {
        let status: evenkeel_control::api::types::Status = context.client.get("/v1/status").await?;
        if context.json {
            term::json(&status)?;
        } else {
            term::line(&lines(&status, args.instances).join("\n"));
        }
        return Ok(Exit::Done);
    }
    watch(context, args).await
}

async fn watch(context: &Context<'_>, args: &cli::Status) -> anyhow::Result<Exit> {
    let in_place = term::has_colour() && !context.json;
    loop {
        let picture = match context.client.get("/v1/status").await {
            Ok(status) if context.json => {
                serde_json::to_string::<evenkeel_control::api::types::Status>(&status)?
            }
            Ok(status) => lines(&status, args.instances).join("\x1b[K\n"),
            // It may be restarting; what is shown says so.
            Err(CallError::Unreachable { .. } | CallError::Broken(_)) if in_place => {
                paint(Tone::Warn, "control does not answer; the keeper restarts it")
            }
            Err(error) => return Err(error.into()),
        };
        if in_place {
            // Home, the picture, and everything below it cleared.
            term::raw(&format!("\x1b[H{picture}\x1b[K\n\x1b[J"));
        } else {
            term::line(&picture);
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(Exit::Done);
            }
        }
    }
}

fn lines(status: &evenkeel_control::api::types::Status, instances: bool) -> Vec<String> {
    let Some(stack) = &status.stack else {
        return vec!["nothing is released yet; `evenkeel up` releases the stack".to_owned()];
    };
    let mut lines = vec![paint(Tone::Bold, &format!("stack {stack}"))];
    if let Some(release) = &status.release {
        lines.push(release_line(release));
    }
    lines.push(String::new());
    lines.extend(term::table(&service_rows(&status.services)));
    lines.extend(status.services.iter().filter_map(scale_line));
    lines.extend(status.services.iter().filter_map(|it| hold_line(it, status.at_ms)));
    if instances {
        lines.push(String::new());
        lines.extend(term::table(&instance_rows(status)));
    }
    lines.push(String::new());
    lines.extend(term::table(&route_rows(status)));
    if !status.edge.certificates.is_empty() {
        lines.push(String::new());
        lines.extend(term::table(&certificate_rows(&status.edge.certificates)));
    }
    if let Some(release) = &status.release {
        if !release.jobs.is_empty() {
            lines.push(String::new());
            lines.extend(term::table(&job_rows(&release.jobs)));
        }
        if !release.schemas.is_empty() {
            lines.push(String::new());
            lines.extend(term::table(&schema_rows(&release.schemas)));
        }
        lines.push(String::new());
        lines.extend(ledger_lines(&release.ledger));
        for rows in [judged_rows(release), check_rows(release)] {
            if rows.len() > 1 {
                lines.push(String::new());
                lines.extend(term::table(&rows));
            }
        }
    }
    if !status.waits.is_empty() {
        lines.push(String::new());
        for wait in &status.waits {
            lines.extend(wait_lines(wait, status.at_ms));
        }
    }
    lines
}

/// What a release moves: `web r1 -> r2, catalog r3`.
pub(super) fn moved(release: &ReleaseView) -> String {
    let moved = release.rollouts.iter().map(|it| match &it.from {
        Some(from) => format!("{} {from} -> {}", it.service, it.to),
        None => format!("{} {}", it.service, it.to),
    });
    moved.collect::<Vec<_>>().join(", ")
}

/// One line on a release.
pub(super) fn release_line(release: &ReleaseView) -> String {
    let moved = moved(release);
    let phase = match (&release.outcome, &release.step) {
        (Some(outcome), _) => match outcome.as_str() {
            "promoted" | "fast_promoted" => paint(Tone::Good, outcome),
            _ => paint(Tone::Bad, outcome),
        },
        (None, Some(step)) => {
            format!("shifting {}, step {} of {}", step.service, step.step, step.of)
        }
        (None, None) if release.promoted => {
            paint(Tone::Good, &format!("promoted, {}", release.phase))
        }
        (None, None) => release.phase.clone(),
    };
    let mut text = format!("release #{} {phase}", release.id);
    if !moved.is_empty() {
        text = format!("{text}: {moved}");
    }
    if let Some(reason) = &release.hotfix {
        text = format!("{text}  {}", paint(Tone::Bad, &format!("HOTFIX: {reason}")));
    }
    if release.waits_at_gate {
        let whom = match release.approvers.is_empty() {
            true => String::new(),
            false => format!(" for {}", release.approvers.join(" or ")),
        };
        let answer = release.gate_answer.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let waits = format!("waits at its gate{whom}{answer}");
        text = format!("{text}  {}", paint(Tone::Warn, &waits));
    }
    if let Some(last) = release.approvals.last() {
        let by = format!("step {} approved by {}", last.step, last.by);
        text = match &last.forced {
            Some(reason) => {
                format!("{text}  {}", paint(Tone::Bad, &format!("{by}, FORCED: {reason}")))
            }
            None => format!("{text}  {by} at {}", term::clock(last.at_ms)),
        };
    }
    if let Some(reason) = &release.held {
        text = format!("{text}  {}", paint(Tone::Warn, &format!("held: {reason}")));
    } else if let Some(paused) = &release.paused {
        text = format!("{text}  {}", paint(Tone::Warn, &format!("paused by {paused}")));
    }
    if let Some(because) = &release.because {
        text = format!("{text}  {}", paint(Tone::Bad, because));
    }
    text
}

fn service_rows(services: &[ServiceView]) -> Vec<Vec<String>> {
    let head = ["SERVICE", "REVISION", "ROLE", "TRAFFIC", "READY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for service in services {
        if service.pools.is_empty() && service.replicas == 0 {
            // Who asks for it wakes it.
            let cells = [service.name.as_str(), "", "asleep", "", "0/0"];
            rows.push(cells.map(str::to_owned).to_vec());
        }
        for (i, pool) in service.pools.iter().enumerate() {
            let name = if i == 0 { service.name.clone() } else { String::new() };
            rows.push(vec![
                name,
                pool.revision.clone(),
                pool.role.clone(),
                format!("{} %", pool.weight),
                ready(pool),
            ]);
        }
    }
    rows
}

/// `web: replicas 4 (2 to 10, by in_flight 8.1 of 10)`
fn scale_line(service: &ServiceView) -> Option<String> {
    let scale = service.scale.as_ref()?;
    let by = scale.by.iter().map(|gauge| {
        let unit = if gauge.metric == "cpu" { " %" } else { "" };
        let (metric, target) = (&gauge.metric, gauge.target);
        match gauge.now {
            Some(now) => format!("{metric} {now}{unit} of {target}{unit}"),
            None => format!("{metric}, not known yet, of {target}{unit}"),
        }
    });
    let by = by.collect::<Vec<_>>().join(" and ");
    let (name, replicas) = (&service.name, service.replicas);
    Some(format!("{name}: replicas {replicas} ({} to {}, by {by})", scale.min, scale.max))
}

/// `web: HELD by ann for 7s more; 12 requests wait, 3 are still being answered`
fn hold_line(service: &ServiceView, now_ms: u64) -> Option<String> {
    let hold = service.hold.as_ref()?;
    let count =
        |it: Option<u64>| it.map_or_else(|| "an unknown number".to_owned(), |it| it.to_string());
    let (waiting, answered) = (count(service.waiting.map(u64::from)), count(hold.in_flight));
    let left = term::span(hold.until_ms.saturating_sub(now_ms));
    let held = format!("HELD by {} for {left} more", hold.by);
    Some(format!(
        "{}: {}; {waiting} requests wait, {answered} are still being answered",
        service.name,
        paint(Tone::Warn, &held)
    ))
}

fn job_rows(jobs: &[JobView]) -> Vec<Vec<String>> {
    let head = ["JOB", "REVISION", "RUNS", "STATE", "ATTEMPTS", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().map(|job| {
        let tone = match job.state.as_str() {
            "done" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Dim,
        };
        vec![
            job.name.clone(),
            job.revision.clone(),
            job.when.clone(),
            paint(tone, &job.state),
            job.attempts.to_string(),
            job.last_failure.clone().unwrap_or_default(),
        ]
    }));
    rows
}

fn schema_rows(schemas: &[SchemaView]) -> Vec<Vec<String>> {
    let head = ["SCHEMA OF", "REVISION", "STAGE", "ROWS", "A SECOND", "LEFT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(schemas.iter().map(|schema| {
        let tone = match (&schema.trouble, schema.stage.as_str()) {
            (Some(_), _) => Tone::Warn,
            (None, "ready" | "contracted") => Tone::Good,
            (None, _) => Tone::Dim,
        };
        let filled = schema.rows.zip(schema.of_rows);
        let number = |it: Option<u64>| it.map(|it| it.to_string()).unwrap_or_default();
        vec![
            schema.database.clone(),
            schema.revision.to_string(),
            paint(tone, &schema.stage),
            filled.map(|(rows, of)| format!("{rows} of about {of}")).unwrap_or_default(),
            number(schema.rows_per_s),
            schema.left_s.map(term::long).unwrap_or_default(),
        ]
    }));
    rows
}

fn ready(pool: &PoolView) -> String {
    let text = format!("{}/{}", pool.ready, pool.size);
    let tone = if pool.ready < pool.size { Tone::Warn } else { Tone::Good };
    let leaving = pool.instances.len().saturating_sub(pool.size as usize);
    match leaving {
        0 => paint(tone, &text),
        _ => format!("{}  {leaving} leaving", paint(tone, &text)),
    }
}

fn instance_rows(status: &evenkeel_control::api::types::Status) -> Vec<Vec<String>> {
    let head = ["INSTANCE", "PORT", "PID", "STATE", "SINCE", "EXITS", "IN FLIGHT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let pools = status.services.iter().flat_map(|service| &service.pools);
    for instance in pools.flat_map(|pool| &pool.instances) {
        let tone = match instance.state.as_str() {
            "healthy" => Tone::Good,
            "starting" | "draining" | "stopping" => Tone::Dim,
            _ => Tone::Bad,
        };
        rows.push(vec![
            instance.id.clone(),
            instance.port.to_string(),
            instance.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            paint(tone, &instance.state),
            term::span(status.at_ms.saturating_sub(instance.since_ms)),
            match &instance.last_exit {
                Some(exit) if instance.exits > 0 => format!("{} ({exit})", instance.exits),
                Some(_) | None => instance.exits.to_string(),
            },
            (instance.in_flight + instance.long_lived).to_string(),
        ]);
    }
    rows
}

fn route_rows(status: &evenkeel_control::api::types::Status) -> Vec<Vec<String>> {
    let edge = &status.edge;
    let with = |all: &[String], word: &str| -> Vec<String> {
        all.iter().map(|addr| format!("{addr} ({word})")).collect()
    };
    let listen = [edge.listen.clone(), with(&edge.tls, "TLS"), with(&edge.tcp, "TCP")].concat();
    let listen = listen.join(", ");
    let head = ["ROUTE", "HOST", "PATH", "TO"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.routes.iter().map(|route| {
        vec![
            route.name.clone(),
            route.host.clone().unwrap_or_else(|| "any".to_owned()),
            route.path.clone(),
            route.to.clone(),
        ]
    }));
    let state = if status.edge.known { listen } else { format!("{listen} (does not answer)") };
    rows.push(vec!["edge".to_owned(), state]);
    rows
}

fn certificate_rows(all: &[CertificateView]) -> Vec<Vec<String>> {
    let head = ["CERTIFICATE", "GOOD FOR", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|it| {
        let good = match it.left_s {
            Some(0) => paint(Tone::Bad, "nothing, it has run out"),
            Some(left) => term::long(left),
            None => paint(Tone::Warn, "there is none yet"),
        };
        // Why is among what is waited for.
        let failed = match (&it.failed, it.again_s) {
            (Some(_), Some(again)) => {
                format!("could not be ordered, next try in {}", term::span(again * 1000))
            }
            (Some(_), None) => "cannot be read".to_owned(),
            (None, _) => String::new(),
        };
        vec![it.name.clone(), good, paint(Tone::Bad, &failed)]
    }));
    rows
}

/// The request ledger, one line per pool.
pub(super) fn ledger_lines(ledger: &LedgerView) -> Vec<String> {
    let head = ["REQUESTS", "SERVED", "RETRIED", "FAILED", "CLIENT GONE", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for account in &ledger.pools {
        let causes: Vec<String> = account
            .failed_by
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        let failed = account.failed.to_string();
        rows.push(vec![
            format!("{} {}", account.service, account.revision),
            account.served.to_string(),
            account.retried.to_string(),
            if account.failed > 0 { paint(Tone::Bad, &failed) } else { failed },
            account.client_gone.to_string(),
            causes.join(", "),
        ]);
    }
    term::table(&rows)
}

/// How the new revisions compare with those they replace, one line per kind of bad request.
pub(super) fn judged_rows(release: &ReleaseView) -> Vec<Vec<String>> {
    let head = ["JUDGED", "BY", "NEW", "OLD", "EVIDENCE (100 % GOES BACK)"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for rollout in &release.rollouts {
        for track in &rollout.analysis {
            let evidence = format!("{:.0} %", track.evidence * 100.0);
            rows.push(vec![
                format!("{} {}", rollout.service, rollout.to),
                track.track.clone(),
                part(track.canary_bad, track.canary_requests),
                part(track.stable_bad, track.stable_requests),
                match track.evidence {
                    it if it >= 1.0 => paint(Tone::Bad, &evidence),
                    it if it >= 0.5 => paint(Tone::Warn, &evidence),
                    _ => evidence,
                },
            ]);
        }
    }
    rows
}

/// How the checks of a release stand, one line each.
fn check_rows(release: &ReleaseView) -> Vec<Vec<String>> {
    let head = ["CHECK", "OF", "WHEN", "ASKED", "VERDICT", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for rollout in &release.rollouts {
        for check in &rollout.checks {
            let verdict = check.verdict.as_deref().unwrap_or(match check.open {
                true => "asking",
                false => "not yet",
            });
            let tone = match verdict {
                "pass" => Tone::Good,
                "fail" => Tone::Bad,
                "error" => Tone::Warn,
                _ => Tone::Dim,
            };
            let dry = if check.dry_run { " (told only)" } else { "" };
            rows.push(vec![
                check.name.clone(),
                format!("{} {}", rollout.service, rollout.to),
                check.when.clone(),
                check.asked.to_string(),
                format!("{}{dry}", paint(tone, verdict)),
                check.text.clone().unwrap_or_else(|| check.ask.clone()),
            ]);
        }
    }
    rows
}

/// `1.2 % of 487`
fn part(bad: u64, of: u64) -> String {
    let rate = evenkeel_kernel::analysis::Tally { requests: of, bad }.rate();
    format!("{} of {of}", evenkeel_kernel::analysis::percent(rate))
}

/// One wait, in two or three lines.
pub(super) fn wait_lines(wait: &WaitView, now_ms: u64) -> Vec<String> {
    let since = term::span(now_ms.saturating_sub(wait.since_ms));
    let mut lines = vec![format!("{}  (for {since})", paint(Tone::Bold, &wait.what))];
    if let Some(until) = wait.until_ms {
        let then = wait.then.as_deref().unwrap_or("the wait ends");
        let left = term::span(until.saturating_sub(now_ms));
        lines.push(format!("  until {} (in {left}): {then}", term::clock(until)));
    }
    if let Some(error) = &wait.last_error {
        lines.push(format!("  last: {}", paint(Tone::Bad, error)));
    }
    lines.push(format!("  {}", wait.unblock));
    lines
}
