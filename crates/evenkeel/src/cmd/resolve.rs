//! `evenkeel resolve`: where a name leads now.
//!
//! Discovery is asked if it speaks HTTP. Otherwise the edge's last good table says it, which is on
//! disk, so it is known also when nothing runs.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use evenkeel_kernel::layout;
use evenkeel_kernel::model::InstanceId;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::routing::directory::{Directory, Listing, Seen};
use evenkeel_kernel::world::Health;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::cli::Resolve;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// How long discovery may take.
const WAIT: Duration = Duration::from_secs(2);
/// Bytes of its answer that are read: ten thousand instances.
const ANSWER_MAX: u64 = 8 << 20;

/// What is on disk; the edge writes more.
#[derive(Debug, Deserialize)]
struct Saved {
    table: RoutingTable,
    healthy: BTreeSet<InstanceId>,
}

/// One service, as `/v1/directory/NAME` says it.
#[derive(Debug, Serialize, Deserialize)]
struct Service {
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<String>,
    instances: Vec<Instance>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Instance {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    address: String,
    health: String,
    draining: bool,
    weight: u16,
}

pub(super) fn run(context: &Context<'_>, args: &Resolve) -> anyhow::Result<Exit> {
    let path = context.home.join(layout::EDGE_TABLE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("nothing has been released here yet")
        }
        Err(error) => {
            return Err(error).with_context(|| format!("could not read {}", path.display()));
        }
    };
    let saved: Saved = serde_json::from_slice(&text)
        .with_context(|| format!("{} is of another version", path.display()))?;
    let (name, below) = parts(&args.name, &saved.table);
    let asked = saved.table.discovery.http.first().map(|addr| ask(*addr, &name));
    let found = match asked {
        Some(Ok(found)) => found,
        // Nobody answers, or nobody is to be asked.
        Some(Err(_)) | None => from_disk(&saved, &name),
    };
    let Some(mut service) = found else { bail!("there is no service `{name}`") };
    service.instances.retain(|it| is_below(&it.id, &below));
    if service.instances.is_empty() && !below.is_empty() {
        bail!("there is no `{}`", args.name);
    }
    if context.json {
        term::json(&service)?;
    } else {
        show(&service);
    }
    Ok(Exit::Done)
}

/// The service that a name is of, and what of it: `i3.r12.web.shop.internal` is of `web`.
fn parts(name: &str, table: &RoutingTable) -> (String, Vec<String>) {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let stack = table.stack.as_ref().map_or("", |it| it.as_str());
    let domain = format!(".{stack}.{}", table.discovery.domain);
    let endings = [domain.as_str(), ".service.consul"];
    let short = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let mut labels: Vec<String> = short.split('.').map(str::to_owned).collect();
    let service = labels.pop().unwrap_or_default();
    (service, labels)
}

/// Whether an instance is `r12`, or `i3.r12`, or any.
fn is_below(id: &str, below: &[String]) -> bool {
    let parts: Vec<&str> = id.rsplitn(3, '.').collect();
    let [slot, revision, _] = parts[..] else { return below.is_empty() };
    match below {
        [] => true,
        [wanted] => wanted == revision,
        [instance, wanted] => wanted == revision && *instance == format!("i{slot}"),
        _ => false,
    }
}

/// Asks discovery; `Ok(None)` when it knows no such service.
fn ask(addr: SocketAddr, name: &str) -> anyhow::Result<Option<Service>> {
    let mut stream = TcpStream::connect_timeout(&addr, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    // What is no name stays one part of the path, and is not found.
    let name = name.replace(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')), "_");
    let request =
        format!("GET /v1/directory/{name} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("discovery broke off")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(Some(serde_json::from_str(body)?)),
        Some("404") => Ok(None),
        _ => bail!("discovery answered with an error"),
    }
}

fn from_disk(saved: &Saved, name: &str) -> Option<Service> {
    let seen = |id: &InstanceId| {
        let once = saved.healthy.contains(id);
        Seen { health: if once { Health::Healthy } else { Health::Unknown }, once }
    };
    let directory = Directory::default().next(&saved.table, &seen);
    let listing = directory.services.get(&name.parse().ok()?)?;
    Some(listed(name, listing))
}

fn listed(name: &str, listing: &Listing) -> Service {
    let offers = listing.offers();
    let instances = listing.pools.iter().flat_map(|(revision, pool)| {
        let offers = &offers;
        pool.instances.iter().map(move |it| {
            let same = |offer: &&evenkeel_kernel::routing::directory::Offer| {
                (offer.revision, offer.slot) == (*revision, it.slot)
            };
            Instance {
                id: format!("{name}.{revision}.{}", it.slot),
                revision: Some(revision.to_string()),
                address: it.addr.to_string(),
                health: if it.seen.once { "healthy" } else { "unknown" }.to_owned(),
                draining: it.draining,
                weight: offers.iter().find(same).map_or(0, |it| it.weight),
            }
        })
    });
    Service {
        service: name.to_owned(),
        door: listing.door.map(|it| it.to_string()),
        instances: instances.collect(),
    }
}

fn show(service: &Service) {
    if let Some(door) = &service.door {
        term::line(&format!("{} by way of the edge: {door}", service.service));
    }
    let whole: u32 = service.instances.iter().map(|it| u32::from(it.weight)).sum();
    let mut rows = vec![["INSTANCE", "ADDRESS", "HEALTH", "SHARE"].map(str::to_owned).to_vec()];
    for it in &service.instances {
        let tone = if it.health == "healthy" { Tone::Good } else { Tone::Warn };
        let draining = if it.draining { ", drains" } else { "" };
        let share = f64::from(it.weight) * 100.0 / f64::from(whole.max(1));
        rows.push(vec![
            it.id.clone(),
            it.address.clone(),
            paint(tone, &format!("{}{draining}", it.health)),
            format!("{share:.1} %"),
        ]);
    }
    for line in term::table(&rows) {
        term::line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_as_dns_does() {
        let table = RoutingTable { stack: "shop".parse().ok(), ..RoutingTable::default() };
        let check = |name: &str| {
            let (service, below) = parts(name, &table);
            format!("{service} {}", below.join(" "))
        };
        assert_eq!(check("web"), "web ");
        assert_eq!(check("WEB.shop.internal."), "web ");
        assert_eq!(check("i3.r12.web.shop.internal"), "web i3 r12");
        assert_eq!(check("r12.web.service.consul"), "web r12");
        let labels = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(is_below("web.r12.3", &labels("r12")) && is_below("web.r12.3", &labels("i3 r12")));
        assert!(!is_below("web.r12.3", &labels("r1")) && !is_below("web.r12.3", &labels("i1 r12")));
        assert!(is_below("anything", &[]) && !is_below("anything", &labels("r1")));
    }
}
