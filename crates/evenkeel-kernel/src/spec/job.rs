//! Jobs: their description, most of which is that of services, and checked fields to model values.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{Fields, Named};
use super::hint::{did_you_mean, one_among};
use super::keys::{SERVICE, span};
use super::problem::{Mistake, Mistakes};
use super::schema::{Key, Kind, Table};
use super::service::{self, Surroundings};
use crate::model::{Job, JobWhen, ServiceName, Workload};

/// The most jobs in one file.
pub const JOBS_MAX: usize = 1_000;
/// The most times that a job is tried again.
const RETRIES_MAX: u64 = 100;

const SECOND: u64 = 1_000;
const WEEK: u64 = 7 * 24 * 60 * 60 * SECOND;

/// `[job.NAME]`
pub(super) static JOB: Table = Table {
    id: "job",
    header: "[job.NAME]",
    doc: "A program that runs once per release and ends: a migration of data, a warm-up. It is run \
          by each release that brings a service other content, and by one that changes the job \
          itself; not by a restart, nor by one that leads back. Exit status 0 is done; anything else, or no end within `timeout`, \
          takes the release back. It is never run twice at the same time. An attempt whose end \
          nobody saw, because the machine went down or its shim was killed, counts as failed and \
          may have done its work all the same: what it does must bear to be done again. No service \
          has the same name.",
    short: None,
    keys: &[
        shared("run"),
        shared("dir"),
        shared("env"),
        shared("env_file"),
        shared("config"),
        shared("secrets"),
        shared("secrets_in_env"),
        Key::new(
            "uses",
            Kind::Services,
            "[\"catalog\"]",
            "The services it calls, each at the address in `<NAME>_URL`, and jobs that must be \
             done before it. Jobs run one after another: those that are used first, else by name. \
             A job that runs before reaches the revisions that served until now; a service that is \
             new is started for it.",
        )
        .elsewhere(&["depends_on", "needs", "requires", "links", "after"]),
        Key::new(
            "when",
            Kind::Choice(&["before", "after"]),
            "\"after\"",
            "`before`: before any instance of a new revision starts, while the old ones serve, so \
             what it changes must suit both. `after`: after all traffic has moved, and before what \
             was replaced is stopped.",
        )
        .preset(|| format!("\"{}\"", JobWhen::default()))
        .elsewhere(&["phase", "hook", "stage", "on"]),
        Key::new(
            "timeout",
            Kind::Span { min: SECOND, max: WEEK },
            "\"1h\"",
            "How long one attempt may take; then it is stopped, and has failed.",
        )
        .preset(|| span(Job::TIMEOUT))
        .elsewhere(&["deadline", "active_deadline_seconds", "time_limit"]),
        Key::new(
            "retries",
            Kind::Count { min: 0, max: RETRIES_MAX },
            "2",
            "How often it is tried again after an attempt that failed.",
        )
        .preset(|| "0".to_owned())
        .elsewhere(&["backoff_limit", "attempts", "restarts", "max_retries"]),
        Key::new(
            "on_rollback",
            Kind::Flag,
            "true",
            "It also runs in a release that leads back to earlier revisions (`evenkeel rollback` \
             after a release has ended).",
        )
        .preset(|| "false".to_owned()),
        shared("stop"),
        shared("limits"),
    ],
};

/// The key of a service that is also one of a job.
const fn shared(name: &str) -> Key {
    let keys = SERVICE.keys;
    let mut at = 0;
    while !same(keys[at].name.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    keys[at]
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Builds one job.
pub(super) fn build(
    named: &Named,
    jobs: &[&str],
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<(ServiceName, Job)> {
    if around.services.contains(&named.name.as_str()) {
        let wrong = format!("`{}` is also the name of a service", named.name);
        let mistake = Mistake::at(&named.span, &format!("job.{}", named.name), wrong);
        mistakes.add(mistake.expected("a name of its own"));
        return None;
    }
    let fields = named.fields.as_ref()?;
    let name: ServiceName = named.name.parse().ok()?;
    let (uses, follows) = uses(&name, fields, jobs, around.services, mistakes);
    let mut workload = service::workload(fields, uses, around.base, mistakes);
    service::attach(&mut workload, service::databases(fields, around, mistakes), around);
    let job = Job {
        workload: Workload { once: true, ..workload },
        follows,
        when: match fields.text("when").map(String::as_str) {
            Some("after") => JobWhen::After,
            Some(_) | None => JobWhen::Before,
        },
        timeout: fields.span("timeout").copied().unwrap_or(Job::TIMEOUT),
        retries: fields.count("retries").unwrap_or(0),
        on_rollback: fields.flag("on_rollback").copied().unwrap_or(false),
    };
    Some((name, job))
}

/// The services that a job calls, and the jobs that it follows.
fn uses(
    name: &ServiceName,
    fields: &Fields,
    jobs: &[&str],
    services: &[&str],
    mistakes: &mut Mistakes,
) -> (BTreeSet<ServiceName>, BTreeSet<ServiceName>) {
    let (mut uses, mut follows) = (BTreeSet::new(), BTreeSet::new());
    let all = fields.texts("uses").into_iter().flatten();
    for (text, span) in all.filter(|(text, _)| !text.starts_with(service::DATABASE)) {
        let job = text.strip_prefix("job.").unwrap_or(text);
        let service = text.strip_prefix("service.").unwrap_or(text);
        if job != name.as_str() && jobs.contains(&job) {
            follows.extend(job.parse::<ServiceName>().ok());
        } else if services.contains(&service) {
            uses.extend(service.parse::<ServiceName>().ok());
        } else {
            let others = jobs.iter().filter(|it| **it != name.as_str() && !services.contains(*it));
            let known: Vec<&str> = services.iter().chain(others).copied().collect();
            let wrong = match job == name.as_str() {
                true => format!("`{name}` uses itself"),
                false => format!("there is no service or job `{}`", super::hint::brief(text)),
            };
            mistakes.add(
                Mistake::at(span, &fields.at("uses"), wrong)
                    .expected(one_among(&known))
                    .hint(did_you_mean(job, known.iter().copied()))
                    .absence(),
            );
        }
    }
    (uses, follows)
}

/// What only all jobs together can say: that none waits for what comes later, or for itself.
pub(super) fn agree(all: &[Named], jobs: &BTreeMap<ServiceName, Job>, mistakes: &mut Mistakes) {
    for named in all {
        let Some(fields) = named.fields.as_ref() else { continue };
        let Ok(name) = named.name.parse::<ServiceName>() else { continue };
        let Some(job) = jobs.get(&name) else { continue };
        let later = job
            .follows
            .iter()
            .find(|other| jobs.get(*other).is_some_and(|other| other.when > job.when));
        let wrong = match later {
            Some(other) => format!("`{name}` runs before `{other}`, which runs after"),
            None if waits_for_itself(&name, jobs) => {
                format!("`{name}` waits for itself, through the jobs that it uses")
            }
            None => continue,
        };
        mistakes.add(
            Mistake::at(&fields.place("uses"), &fields.at("uses"), wrong)
                .expected("jobs that can be done before it"),
        );
    }
}

fn waits_for_itself(name: &ServiceName, jobs: &BTreeMap<ServiceName, Job>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&ServiceName> = jobs[name].follows.iter().collect();
    while let Some(next) = open.pop() {
        if next == name {
            return true;
        }
        if seen.insert(next) {
            open.extend(jobs.get(next).into_iter().flat_map(|job| &job.follows));
        }
    }
    false
}
