//! The stack as a whole: its name, its door, its routes, and what services and routes say of one
//! another.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::check::{Fields, Named, Span};
use super::database;
use super::door;
use super::freeze;
use super::job;
use super::materials::{self, Mention};
use super::notify;
use super::problem::{Lines, Mistake, Mistakes};
use super::route;
use super::service::{self, Surroundings};
use crate::model::{Discovery, Job, Route, RouteName, Service, ServiceName, Stack, Strategy};

/// Builds the stack as far as it can be read, and finds what it mentions outside the file.
pub(crate) fn build(
    fields: &Fields,
    base: &str,
    lines: &Lines<'_>,
    mistakes: &mut Mistakes,
) -> Option<(Stack, Vec<Mention>)> {
    let named = |key: &str| fields.named(key).map_or(&[][..], Vec::as_slice);
    if fields.field("service").is_some() && fields.named("service").is_none() {
        // Every reference to a service would look wrong.
        return None;
    }
    let names: Vec<&str> = named("service").iter().map(|it| it.name.as_str()).collect();
    let databases = named("database").iter().filter_map(|it| database::build(it, base, mistakes));
    let databases = databases.collect();
    let around = Surroundings { base, services: &names, databases: &databases };
    let services: BTreeMap<ServiceName, Service> = named("service")
        .iter()
        .filter_map(|service| service::build(service, &around, mistakes))
        .collect();
    let jobs: Vec<&str> = named("job").iter().map(|it| it.name.as_str()).collect();
    let jobs: BTreeMap<ServiceName, Job> =
        named("job").iter().filter_map(|it| job::build(it, &jobs, &around, mistakes)).collect();
    job::agree(named("job"), &jobs, mistakes);
    let routes = route::build(named("route"), &names, lines, mistakes);
    let tcp = route::build_tcp(named("tcp"), &names, mistakes);
    previews(named("service"), &services, &routes, mistakes);
    let edge = door::edge(fields.table("edge"), base, !named("route").is_empty(), mistakes);
    door::apart(named("tcp"), &edge, mistakes);
    let certificates = door::certificates(named("certificate"), base, &edge, mistakes);
    let notify =
        named("notify").iter().filter_map(|it| notify::build(it, base, mistakes)).collect();
    let run = named("service").iter().chain(named("job"));
    let mentions = run.flat_map(|it| materials::mentions(it, base));
    let mentions =
        mentions.chain(named("database").iter().flat_map(|it| database::mentions(it, base)));
    let mentions = mentions.chain(named("notify").iter().flat_map(|it| notify::mentions(it, base)));
    let mentions = mentions.collect();
    // What has no name, or a wrong one, is never handed out; what it mentions is looked at all the
    // same.
    let name = fields.text("stack").and_then(|name| name.parse().ok());
    let name = name.or_else(|| "unnamed".parse().ok())?;
    let freezes = freeze::freezes(named("freeze"), mistakes);
    let pace = freeze::pace(fields.table("pace"));
    let discovery = discovery(fields.table("discovery"), mistakes);
    let stack = Stack {
        name,
        services,
        jobs,
        databases,
        routes,
        tcp,
        edge,
        certificates,
        notify,
        freezes,
        pace,
        discovery,
    };
    Some((stack, mentions))
}

/// A preview is a route of its own; no other may have its host.
fn previews(
    all: &[Named],
    services: &BTreeMap<ServiceName, Service>,
    routes: &BTreeMap<RouteName, Route>,
    mistakes: &mut Mistakes,
) {
    let mut taken: BTreeMap<&str, String> = routes
        .iter()
        .filter_map(|(name, route)| Some((route.host.as_deref()?, format!("route `{name}`"))))
        .collect();
    for named in all {
        let service = named.name.parse::<ServiceName>().ok().and_then(|name| services.get(&name));
        let Some(Strategy::BlueGreen { preview: Some(host) }) =
            service.map(|it| &it.rollout.strategy)
        else {
            continue;
        };
        let owner = format!("the preview of `{}`", named.name);
        let Some(other) = taken.insert(host, owner) else { continue };
        let Some(fields) = named.fields.as_ref().and_then(|it| it.table("rollout")) else {
            continue;
        };
        let wrong = format!("`{host}` is also the host of {other}");
        mistakes.add(
            Mistake::at(&fields.place("preview"), &fields.at("preview"), wrong)
                .expected("a host of its own"),
        );
    }
}

fn discovery(fields: Option<&Fields>, mistakes: &mut Mistakes) -> Discovery {
    let Some(fields) = fields else { return Discovery::default() };
    let addrs = |key: &str| -> Vec<SocketAddr> {
        fields.addresses(key).into_iter().flatten().map(|(addr, _): &(_, Span)| *addr).collect()
    };
    let preset = Discovery::default();
    let discovery = Discovery {
        dns: addrs("dns"),
        http: addrs("http"),
        xds: addrs("xds"),
        domain: fields.text("domain").cloned().unwrap_or(preset.domain),
        forward: addrs("forward"),
        linger: fields.span("linger").copied().unwrap_or(preset.linger),
    };
    if let Some(addr) = discovery.forward.iter().find(|addr| discovery.dns.contains(addr)) {
        let wrong = format!("`{addr}` is where discovery itself listens");
        let mistake = Mistake::at(&fields.place("forward"), &fields.at("forward"), wrong);
        mistakes.add(mistake.expected("the address of another DNS server"));
    }
    discovery
}
