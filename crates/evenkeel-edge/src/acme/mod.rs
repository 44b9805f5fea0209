//! Certificates that are ordered by ACME (RFC 8555): when, and what becomes of them.
//!
//! It runs in a thread of its own, so that nothing in it keeps a request or a probe waiting. Only
//! the edge of this home orders; one that has left its place does not.

mod account;
mod attempt;
mod challenge;
mod https;
mod order;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{Acme, CertificateName, CertificateSource};
use evenkeel_kernel::time::human;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) use attempt::Attempt;
pub(crate) use challenge::{ALPN, Challenges};

use crate::certificates::{self, Stamps};
use crate::log;
use crate::shared::{Listeners, Shared};
use crate::validity::{self, Validity};
use order::Ordered;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks whether this edge ends.
const END_LOOK: Duration = Duration::from_millis(100);
/// The longest one order may take; within it every answer has its own bound.
const ORDER_MAX: Duration = Duration::from_secs(600);
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// How a host is proved to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Http,
    Tls,
}

/// What became of orders that failed, by certificate.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<BTreeMap<CertificateName, Attempt>>);

impl Attempts {
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<CertificateName, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that orders. It ends by itself when the edge ends or has left its place, and
/// is not waited for: it may be asking a name server.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::clone(shared);
    // So that what it says of itself at first is what was said last.
    for name in shared.table.load().source.shown.certificates.keys() {
        let read = Attempt::read(&shared.home, name);
        shared.attempts.all().extend(read.map(|it| (name.clone(), it)));
    }
    let body = move || {
        runtime.block_on(async {
            tokio::select! {
                () = ended(&shared) => {}
                () = keep(&shared) => {}
            }
        });
        runtime.shutdown_background();
    };
    thread::Builder::new().name("edge-acme".to_owned()).spawn(body).map(drop)
}

async fn ended(shared: &Shared) {
    while !shared.closing.load(Ordering::Relaxed) {
        sleep(END_LOOK).await;
    }
}

async fn keep(shared: &Arc<Shared>) {
    let mut known = BTreeMap::new();
    loop {
        // Also before it is the edge, so that it answers what its predecessor is being asked.
        shared.challenges.refresh(&shared.home);
        if shared.succession.is_the_edge() {
            look(shared, &mut known).await;
        }
        sleep(LOOK).await;
    }
}

/// What is known of a pair of files, as long as it is the same pair.
struct Known {
    stamps: Stamps,
    hosts: BTreeSet<String>,
    /// When another is due; `None`: now.
    due: Option<i64>,
}

/// Orders all that is due, one after the other.
async fn look(shared: &Arc<Shared>, known: &mut BTreeMap<CertificateName, Known>) {
    let table = shared.table.load_full();
    let shown = &table.source.shown;
    let acme = shown.acme.clone().unwrap_or_else(|| Acme {
        directory: Acme::DIRECTORY.to_owned(),
        contact: None,
        root: None,
    });
    let mut wanted = BTreeMap::new();
    for (name, it) in &shown.certificates {
        match it.from {
            CertificateSource::Acme => drop(wanted.insert(name, &it.hosts)),
            CertificateSource::Files { .. } => {}
        }
    }
    known.retain(|name, _| wanted.contains_key(name));
    shared.attempts.all().retain(|name, _| wanted.contains_key(name));
    for (name, hosts) in wanted {
        if due(shared, name, hosts, known).is_some_and(|due| validity::now() < due) {
            // It may be a predecessor's last.
            shared.attempts.all().remove(name);
            continue;
        }
        let before = attempt_of(shared, name).filter(|it| it.is_for(hosts, &acme.directory));
        if before.as_ref().is_some_and(|it| it.holds(validity::now())) {
            continue;
        }
        let tried = try_order(shared, &acme, name, hosts, before.as_ref()).await;
        match tried {
            Ok(()) => {
                shared.attempts.all().remove(name);
                Attempt::forget(&shared.home, name);
                shared.reshow.notify_one();
            }
            Err(why) => {
                let failed = Attempt::failed(before.as_ref(), hosts, &acme.directory, &why);
                let first = shared.around.limits.order_retry;
                let (mut failed, wait) = failed.again(validity::now(), first, fastrand::f64());
                log::error(format_args!(
                    "certificate {name} could not be ordered: {}; the next try is in {}",
                    failed.why,
                    human(Duration::from_secs(wait.as_secs()))
                ));
                if let Err(error) = failed.write(&shared.home, name) {
                    log::warn(format_args!("that {name} failed cannot be kept: {error}"));
                }
                shared.attempts.all().insert(name.clone(), failed);
            }
        }
        shared.around.wake.call();
    }
}

fn attempt_of(shared: &Shared, name: &CertificateName) -> Option<Attempt> {
    let mut all = shared.attempts.all();
    // Another edge may have tried since this one has read it.
    match Attempt::read(&shared.home, name) {
        Some(read) => drop(all.insert(name.clone(), read)),
        // Somebody wants it to be tried at once.
        None if all.get(name).is_some_and(Attempt::is_kept) => drop(all.remove(name)),
        None => {}
    }
    all.get(name).cloned()
}

/// When another certificate is due; `None` when there is none that will do.
fn due(
    shared: &Shared,
    name: &CertificateName,
    hosts: &BTreeSet<String>,
    known: &mut BTreeMap<CertificateName, Known>,
) -> Option<i64> {
    let [chain, key] = certificates::files_of(&shared.home, name, &CertificateSource::Acme);
    let stamps = certificates::stamps_of(&chain, &key);
    if let Some(it) = known.get(name)
        && it.stamps == stamps
        && it.hosts == *hosts
    {
        return it.due;
    }
    let read = certificates::read(&chain, &key).ok();
    let due = read.and_then(|it| due_of(it.cert.first()?, hosts));
    known.insert(name.clone(), Known { stamps, hosts: hosts.clone(), due });
    due
}

/// When the time of a certificate that is for all these hosts is so far gone that another is due.
fn due_of(certificate: &CertificateDer<'_>, hosts: &BTreeSet<String>) -> Option<i64> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let is_for = |host: &String| {
        ServerName::try_from(host.as_str()).is_ok_and(|it| verify_server_name(&parsed, &it).is_ok())
    };
    let validity = Validity::read(certificate)?;
    hosts.iter().all(is_for).then(|| validity.due())
}

/// Orders one, and puts it where it is shown from.
async fn try_order(
    shared: &Arc<Shared>,
    acme: &Acme,
    name: &CertificateName,
    hosts: &BTreeSet<String>,
    before: Option<&Attempt>,
) -> Result<(), String> {
    let ways = ways(&shared.listeners.borrow(), before.map_or(0, Attempt::failures));
    if ways.is_empty() {
        return Err("the edge listens nowhere an issuer could ask".to_owned());
    }
    let list = hosts.iter().cloned().collect::<Vec<_>>();
    log::info(format_args!("orders certificate {name} for {}", list.join(", ")));
    // In a task, so that a fault in it is one order that failed; dropped, it ends.
    let mut task = JoinSet::new();
    task.spawn(order::order(Arc::clone(shared), acme.clone(), list, ways));
    let ordered = match timeout(ORDER_MAX, task.join_next()).await {
        Ok(Some(Ok(ordered))) => ordered?,
        Ok(Some(Err(died))) => return Err(format!("ordering broke off: {died}")),
        Ok(None) => return Err("ordering broke off".to_owned()),
        Err(_late) => return Err("the issuer takes too long".to_owned()),
    };
    put(shared, name, hosts, &ordered)
}

/// Keeps what came, and looks whether it is what was ordered.
fn put(
    shared: &Shared,
    name: &CertificateName,
    hosts: &BTreeSet<String>,
    ordered: &Ordered,
) -> Result<(), String> {
    if !shared.succession.is_the_edge() {
        return Err("this edge is no longer the one that orders".to_owned());
    }
    let [chain, key] = certificates::files_of(&shared.home, name, &CertificateSource::Acme);
    let read = certificates::parse(ordered.chain.as_bytes(), ordered.key.as_bytes());
    let read = read.map_err(|error| format!("what the issuer sent is no certificate: {error}"))?;
    let due = read.cert.first().and_then(|it| due_of(it, hosts));
    let due = due.ok_or("what the issuer sent is not for these hosts")?;
    let kept = secret::replace(&key, ordered.key.as_bytes())
        .and_then(|()| secret::replace(&chain, ordered.chain.as_bytes()));
    kept.map_err(|error| format!("the certificate cannot be kept: {error}"))?;
    let left = due.saturating_sub(validity::now());
    if left <= 0 {
        // Otherwise it would be ordered again at once, and for ever.
        return Err("the certificate that came has no time left: is the clock right?".to_owned());
    }
    let left = Duration::from_secs(left.unsigned_abs());
    log::info(format_args!("has certificate {name}; the next is due in {}", human(left)));
    Ok(())
}

/// How hosts may be proved at these doors, best first. Issuers ask at ports 80 and 443, so a door
/// there is better than one that somebody has to forward to. After a failure it begins with the
/// next.
fn ways(listeners: &Listeners, failures: u32) -> Vec<Way> {
    let has = |prefix: &str, port: Option<u16>| {
        listeners.iter().any(|(name, it)| {
            name.starts_with(prefix) && port.is_none_or(|port| it.addr.port() == port)
        })
    };
    let doors = [
        (Way::Http, has(layout::PLAIN_LISTENERS, Some(HTTP_PORT))),
        (Way::Tls, has(layout::TLS_LISTENERS, Some(HTTPS_PORT))),
        (Way::Http, has(layout::PLAIN_LISTENERS, None)),
        (Way::Tls, has(layout::TLS_LISTENERS, None)),
    ];
    let mut ways = Vec::new();
    for (way, _) in doors.into_iter().filter(|(_, open)| *open) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if failures % 2 == 1 {
        ways.reverse();
    }
    ways
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::shared::Listener;

    #[test]
    fn a_certificate_is_due_when_it_is_old_or_not_for_all_hosts() {
        let mut params = CertificateParams::new(["a.test", "b.test"].map(str::to_owned)).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        let it = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let due =
            |hosts: &[&str]| due_of(it.der(), &hosts.iter().map(|it| (*it).to_owned()).collect());
        let expected = date_time_ymd(2026, 3, 2).unix_timestamp();
        assert_eq!(due(&["a.test", "b.test"]), Some(expected));
        assert_eq!(due(&["a.test"]), Some(expected));
        assert_eq!(due(&["a.test", "c.test"]), None);
    }

    #[test]
    fn the_usual_ports_come_first_and_after_a_failure_the_other() {
        let socket: Arc<std::os::fd::OwnedFd> =
            Arc::new(TcpListener::bind("127.0.0.1:0").unwrap().into());
        let doors = |names: &[&str]| -> Listeners {
            let listener = |name: &&str| {
                let addr = name.split_once('-').unwrap().1.parse().unwrap();
                ((*name).to_owned(), Listener { addr, socket: Arc::clone(&socket) })
            };
            names.iter().map(listener).collect()
        };
        let (both, odd) = ("edge-0.0.0.0:80", "edge-127.0.0.1:8080");
        let tls = "tls-0.0.0.0:443";
        assert_eq!(ways(&doors(&[both, tls]), 0), [Way::Http, Way::Tls]);
        assert_eq!(ways(&doors(&[both, tls]), 1), [Way::Tls, Way::Http]);
        assert_eq!(ways(&doors(&[odd, tls]), 0), [Way::Tls, Way::Http]);
        assert_eq!(ways(&doors(&[tls]), 3), [Way::Tls]);
        assert_eq!(ways(&doors(&["svc-127.0.0.1:80"]), 0), []);
    }
}
