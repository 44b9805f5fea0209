//! `evenkeel doctor`: looks at everything that must be right, and says how to mend what is not.

use evenkeel_control::api::types::{CertificateView, Status, VersionView};
use evenkeel_kernel::layout;
use evenkeel_local::{Enforcement, isolation};
use serde::Serialize;

use super::Context;
use super::upgrade::is_ours;
use crate::exit::Exit;
use crate::role;
use crate::term::{self, Tone, paint};

/// Open files that one edge with a thousand connections on both sides needs.
const FILES_MIN: u64 = 4096;
/// The ports that instances listen on.
const PORTS: std::ops::RangeInclusive<u32> = 20_000..=29_999;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// `ok`, `advice` or `problem`.
    level: &'static str,
    what: String,
    /// What to do about it.
    mend: Option<String>,
}

pub(super) async fn run(context: &Context<'_>) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    home(context, &mut findings);
    roles(context, &mut findings).await;
    journal(context, &mut findings);
    machine(context, &mut findings);
    if context.json {
        term::json(&findings)?;
    } else {
        for finding in &findings {
            show(finding);
        }
    }
    let healthy = findings.iter().all(|finding| finding.level != "problem");
    Ok(if healthy { Exit::Done } else { Exit::Error })
}

fn show(finding: &Finding) {
    let (mark, tone) = match finding.level {
        "ok" => ("ok      ", Tone::Good),
        "advice" => ("advice  ", Tone::Warn),
        _ => ("problem ", Tone::Bad),
    };
    term::line(&format!("{}{}", paint(tone, mark), finding.what));
    if let Some(mend) = &finding.mend {
        term::line(&format!("        {mend}"));
    }
}

fn ok(what: impl Into<String>) -> Finding {
    Finding { level: "ok", what: what.into(), mend: None }
}

fn advice(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: "advice", what: what.into(), mend: Some(mend.into()) }
}

fn problem(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { level: "problem", what: what.into(), mend: Some(mend.into()) }
}

fn home(context: &Context<'_>, findings: &mut Vec<Finding>) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let shown = context.home.display();
    match std::fs::metadata(context.home) {
        Err(_) => findings
            .push(advice(format!("the home {shown} is not there yet"), "`evenkeel up` makes it")),
        Ok(it) if it.uid() != rustix::process::geteuid().as_raw() => findings.push(problem(
            format!("the home {shown} belongs to another user"),
            "run evenkeel as that user, or set EVENKEEL_HOME",
        )),
        Ok(it) if it.permissions().mode() & 0o077 != 0 => findings.push(problem(
            format!("the home {shown} can be read by others"),
            format!("chmod 700 {shown}"),
        )),
        Ok(_) => findings.push(ok(format!("the home is {shown}, for this user only"))),
    }
}

async fn roles(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let running = |name: &str| role::pid_of(context.home, name);
    let any = ["keeper", "control", "edge"].iter().any(|name| running(name).is_some());
    for name in ["keeper", "control", "edge"] {
        findings.push(match running(name) {
            Some(pid) if !is_ours(pid) => advice(
                format!("the {name} runs another program than this, process {pid}"),
                "`evenkeel upgrade` replaces every role by this program and loses nothing",
            ),
            Some(pid) => ok(format!("the {name} runs, process {pid}")),
            None if any => problem(
                format!("the {name} does not run"),
                format!("its log: {}/{}/{name}.log", context.home.display(), layout::LOGS),
            ),
            None => advice(format!("the {name} does not run"), "`evenkeel up` starts it"),
        });
    }
    if running("control").is_none() {
        return;
    }
    match context.client.get::<VersionView>("/v1/version").await {
        Ok(version) if version.version != env!("CARGO_PKG_VERSION") => findings.push(advice(
            format!("control is version {}, this is another", version.version),
            "`evenkeel upgrade` replaces it",
        )),
        Ok(_) => findings.push(ok("control answers")),
        Err(error) => findings.push(problem(
            format!("control does not answer: {error}"),
            "its log says more; `evenkeel logs` works without it",
        )),
    }
    if let Ok(status) = context.client.get::<Status>("/v1/status").await {
        findings.push(match status.waits.as_slice() {
            [] => ok("nothing is waited for"),
            waits => advice(
                format!("{} things are waited for", waits.len()),
                "`evenkeel why` lists them",
            ),
        });
        findings.extend(status.edge.certificates.iter().map(certificate));
    }
}

fn certificate(it: &CertificateView) -> Finding {
    let name = &it.name;
    let mend = it.failed.clone().unwrap_or_else(|| "docs/traffic.md says what it needs".to_owned());
    match it.left_s {
        Some(0) => problem(format!("certificate {name} has run out"), mend),
        Some(left) if it.failed.is_none() => {
            ok(format!("certificate {name} is good for {}", term::long(left)))
        }
        Some(left) => advice(
            format!(
                "certificate {name} is good for {}, and the next could not be had",
                term::long(left)
            ),
            mend,
        ),
        None if it.failed.is_some() => problem(format!("there is no certificate {name}"), mend),
        None => {
            advice(format!("there is no certificate {name} yet"), "it is ordered or read just now")
        }
    }
}

/// The journal can be read only while no control holds it.
fn journal(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let folder = context.home.join(layout::STATE);
    if role::is_running(context.home, "control") || !folder.join(evenkeel_journal::FILE).exists() {
        return;
    }
    findings.push(match evenkeel_journal::verify_file(&folder.join(evenkeel_journal::FILE)) {
        Ok(_) => ok("the journal is whole: every hash follows from the one before"),
        Err(error) => problem(
            format!("the journal: {error}"),
            "`evenkeel down --keep-instances`, then `evenkeel restore` and `evenkeel up`",
        ),
    });
}

fn machine(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let found = isolation(context.home);
    let by = |enforcement: Enforcement| match enforcement {
        Enforcement::System => "the system",
        Enforcement::Shim => "the shims",
        Enforcement::Nobody => "nobody",
    };
    findings.push(ok(format!(
        "memory limits are kept by {}, cpu limits by {}; own cgroups: {}",
        by(found.memory),
        by(found.cpu),
        if found.cgroup.is_some() { "yes" } else { "no" }
    )));
    findings.extend(found.advice.iter().map(|text| advice(text.clone(), "optional")));

    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match files.maximum {
        Some(most) if most < FILES_MIN => findings.push(advice(
            format!("at most {most} files may be open, too few for many connections"),
            format!("raise the hard limit (ulimit -Hn) to {FILES_MIN} or more"),
        )),
        Some(_) | None => findings.push(ok("enough files may be open")),
    }
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let mut bounds = text.iter().flat_map(|text| text.split_whitespace()).map(str::parse::<u32>);
    if let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) {
        let overlap = first <= *PORTS.end() && last >= *PORTS.start();
        findings.push(match overlap {
            true => advice(
                format!("outgoing connections use ports {first} to {last}, instances 20000 to 29999"),
                "a taken port is replaced; sysctl net.ipv4.ip_local_port_range='32768 60999' avoids it",
            ),
            false => ok("ports of instances and of outgoing connections are apart"),
        });
    }
}
