//! Which names there are: `web.shop.internal`, its revisions and instances, and Consul's.

use evenkeel_kernel::model::RevisionNumber;

use super::message::{A, AAAA, ANY, NS, SOA, SRV};
use super::ready::{Ready, Target, Zone};
use crate::catalog::{Catalog, Endpoint, Service, number, revision};

/// The domain under which Consul's clients ask.
const CONSUL: &str = "consul";

/// What is known of a name.
#[derive(Debug)]
enum Found {
    /// There is no such name.
    No,
    /// There is, for the sake of those below it.
    Between,
    /// The domain itself.
    Apex,
    /// Instances. The name may be asked for ports only.
    Endpoints { all: Vec<Endpoint>, ports_only: bool },
}

/// An answer, and the service it is out of date with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ready: Ready,
    pub(super) service: Option<String>,
    /// Whether there is such a name; of others there are too many to keep answers.
    pub(super) exists: bool,
}

/// What to answer; `None` when the name is none of ours.
pub(super) fn answer(catalog: &Catalog, labels: &[&str], kind: u16, serial: u32) -> Option<Answer> {
    let domain: Vec<&str> = catalog.settings().domain.split('.').collect();
    let (zone, consul, below) = match (below(labels, &domain), below(labels, &[CONSUL])) {
        (Some(below), _) => (catalog.settings().domain.as_str(), false, below),
        (None, Some(below)) => (CONSUL, true, below),
        (None, None) => return None,
    };
    let zone = Zone { name: zone, serial };
    let (found, service) = match consul {
        false => own(catalog, below),
        true => consuls(catalog, below),
    };
    let exists = !matches!(found, Found::No);
    let ready = match found {
        Found::No => Ready::nothing(false, &zone),
        Found::Apex if kind == SOA => Ready::zone(&zone),
        Found::Apex if kind == NS => Ready::servers(&zone),
        Found::Apex | Found::Between => Ready::nothing(true, &zone),
        Found::Endpoints { all, ports_only } => {
            let target = |it: &Endpoint| target(catalog, service, it, consul);
            records(&all, ports_only, kind, &target).unwrap_or_else(|| Ready::nothing(true, &zone))
        }
    };
    Some(Answer { ready, service: service.map(str::to_owned), exists })
}

/// The labels before `domain`.
fn below<'a, 'n>(labels: &'a [&'n str], domain: &[&str]) -> Option<&'a [&'n str]> {
    let (below, last) = labels.split_at(labels.len().checked_sub(domain.len())?);
    (last == domain).then_some(below)
}

fn records(
    all: &[Endpoint],
    ports_only: bool,
    kind: u16,
    target: &dyn Fn(&Endpoint) -> Target,
) -> Option<Ready> {
    let wants = |it: &&Endpoint| match kind {
        A => it.ip.is_ipv4(),
        AAAA => it.ip.is_ipv6(),
        _ => true,
    };
    let mut ips: Vec<_> = all.iter().filter(wants).map(|it| it.ip).collect();
    match kind {
        SRV => {
            (!all.is_empty()).then(|| Ready::targets(&all.iter().map(target).collect::<Vec<_>>()))
        }
        A | AAAA | ANY if !ports_only && !ips.is_empty() => {
            // Several instances on one machine have one address.
            ips.sort_unstable();
            ips.dedup();
            Some(Ready::addresses(ips))
        }
        _ => None,
    }
}

/// What a port's record points to: the instance's own name, or for Consul's clients, who may know
/// only that domain, a name that is made of the address.
fn target(catalog: &Catalog, service: Option<&str>, it: &Endpoint, consul: bool) -> Target {
    let (stack, domain) = (catalog.stack(), &catalog.settings().domain);
    let name = match (it.place, service) {
        (Some((revision, slot)), Some(service)) if !consul => {
            format!("i{slot}.{revision}.{service}.{stack}.{domain}")
        }
        _ => {
            let octets = match it.ip {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let digits: Vec<String> = octets.iter().map(|it| format!("{it:02x}")).collect();
            format!("{}.addr.{stack}.{CONSUL}", digits.concat())
        }
    };
    Target { name, ip: it.ip, port: it.port, weight: it.weight }
}

fn own<'n>(catalog: &Catalog, labels: &[&'n str]) -> (Found, Option<&'n str>) {
    let Some((stack, below)) = labels.split_last() else { return (Found::Apex, None) };
    if *stack != catalog.stack() {
        return (Found::No, None);
    }
    let (name, protocol) = match below {
        [] | ["_tcp"] => return (Found::Between, None),
        // `_web._tcp`
        [port, "_tcp"] => (port.strip_prefix('_'), true),
        [.., name] => (Some(*name), false),
    };
    let service = name.and_then(|name| Some((name, catalog.service(name)?)));
    let Some((name, service)) = service else { return (Found::No, None) };
    let found = match below {
        _ if protocol => Some(Found::Endpoints { all: service.endpoints(), ports_only: true }),
        [_] => Some(Found::Endpoints { all: service.endpoints(), ports_only: false }),
        ["_tcp", _] => Some(Found::Between),
        // `_http._tcp.web`
        [port, "_tcp", _] if port.starts_with('_') => {
            Some(Found::Endpoints { all: service.endpoints(), ports_only: true })
        }
        [tag, _] => tagged(&service, tag),
        [instance, label, _] => one(&service, instance, revision(label)),
        _ => None,
    };
    (found.unwrap_or(Found::No), Some(name))
}

fn tagged(service: &Service<'_>, tag: &str) -> Option<Found> {
    let all = service.tagged(tag)?;
    Some(Found::Endpoints { all, ports_only: false })
}

fn one(service: &Service<'_>, label: &str, revision: Option<RevisionNumber>) -> Option<Found> {
    let one = service.instance(revision?, number(label, 'i')?)?;
    Some(Found::Endpoints { all: vec![one], ports_only: false })
}

/// Consul's names. The data centre is the stack.
fn consuls<'n>(catalog: &Catalog, labels: &[&'n str]) -> (Found, Option<&'n str>) {
    let labels = match labels.split_last() {
        None => return (Found::Apex, None),
        Some((centre, rest)) if *centre == catalog.stack() && !is_kind(centre) => rest,
        Some(_) => labels,
    };
    let Some((kind, below)) = labels.split_last() else { return (Found::Between, None) };
    if *kind == "addr" {
        let one = match below {
            [] => Found::Between,
            [digits] => address(digits)
                .map_or(Found::No, |it| Found::Endpoints { all: vec![it], ports_only: false }),
            _ => Found::No,
        };
        return (one, None);
    }
    if *kind != "service" {
        return (Found::No, None);
    }
    let (name, tag, ports_only) = match below {
        [] => return (Found::Between, None),
        [name] => (Some(*name), None, false),
        // `_web._tcp`, and Consul's `_web._TAG`
        [name, protocol] if name.starts_with('_') && protocol.starts_with('_') => {
            let tag = protocol.strip_prefix('_').filter(|it| !matches!(*it, "tcp" | "udp"));
            (name.strip_prefix('_'), tag, true)
        }
        [tag, name] => (Some(*name), Some(*tag), false),
        _ => return (Found::No, None),
    };
    let service = name.and_then(|name| Some((name, catalog.service(name)?)));
    let Some((name, service)) = service else { return (Found::No, None) };
    let all = match tag {
        None => Some(service.endpoints()),
        Some(tag) => service.tagged(tag),
    };
    (all.map_or(Found::No, |all| Found::Endpoints { all, ports_only }), Some(name))
}

fn is_kind(label: &str) -> bool {
    matches!(label, "service" | "addr")
}

/// `7f000001`
fn address(digits: &str) -> Option<Endpoint> {
    let pairs: Vec<&[u8]> = digits.as_bytes().chunks(2).collect();
    let octet = |pair: &&[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|it| it.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    };
    let octets: Vec<u8> = pairs.iter().map(octet).collect::<Option<_>>()?;
    let ip = match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok()?.into(),
        16 => <[u8; 16]>::try_from(octets).ok()?.into(),
        _ => return None,
    };
    Some(Endpoint { ip, port: 0, weight: 1, place: None })
}
