//! Consul's catalog, health and agent API, as far as clients that find services need it.
//!
//! The stack is the data centre, this machine its one node. An instance is passing when clients may
//! use it now: so one that drains, or whose revision gets no traffic yet, is critical though it is
//! well. Its revision is a tag.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use evenkeel_kernel::routing::directory::{Listed, Listing, Offer, Pool};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::answer::{self, Answer, Wrong};
use super::filter::Filter;
use super::own::health;
use super::query::Query;
use crate::catalog::{Catalog, Service};
use crate::hub::Interest;
use crate::registry::{self, Desk, Group, Refused, Status, read};

/// The address of the one node.
const NODE_ADDRESS: &str = "127.0.0.1";
/// The version of Consul whose answers these are like; some clients look.
const VERSION: &str = "1.20.0";
/// The weight in percent that a split's largest is given: Consul's clients expect small numbers.
const WEIGHT_MAX: u32 = 100;

/// The name of this machine.
static NODE: LazyLock<String> = LazyLock::new(|| {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
});

/// A number for this machine, made of its name.
static NODE_ID: LazyLock<String> = LazyLock::new(|| {
    let digest = evenkeel_kernel::model::Digest::of(NODE.as_bytes());
    let part = |from: usize, to: usize| digest.hex().get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
});

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Agent,
    AgentServices,
    AgentChecks,
    Services,
    CatalogService(String),
    Nodes,
    Datacenters,
    HealthService(String),
    HealthChecks(String),
    HealthState(String),
    Leader,
    Peers,
}

impl Page {
    /// The page of a path below `/v1`.
    pub(super) fn of(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["agent", "self"] => Self::Agent,
            ["agent", "services"] => Self::AgentServices,
            ["agent", "checks"] => Self::AgentChecks,
            ["catalog", "services"] => Self::Services,
            ["catalog", "service", name] => Self::CatalogService((*name).to_owned()),
            ["catalog", "nodes"] => Self::Nodes,
            ["catalog", "datacenters"] => Self::Datacenters,
            ["health", "service", name] => Self::HealthService((*name).to_owned()),
            ["health", "checks", name] => Self::HealthChecks((*name).to_owned()),
            ["health", "state", state] => Self::HealthState((*state).to_owned()),
            ["status", "leader"] => Self::Leader,
            ["status", "peers"] => Self::Peers,
            _ => return None,
        })
    }

    pub(super) fn interest(&self) -> Interest<'_> {
        match self {
            Self::CatalogService(name) | Self::HealthService(name) | Self::HealthChecks(name) => {
                Interest::Service(name)
            }
            Self::Services => Interest::Names,
            Self::HealthState(_) | Self::AgentServices | Self::AgentChecks => Interest::Any,
            Self::Agent | Self::Nodes | Self::Datacenters | Self::Leader | Self::Peers => {
                Interest::Nothing
            }
        }
    }

    /// What is said, as bytes.
    pub(super) fn write(
        &self,
        catalog: &Catalog,
        query: &Query,
        index: u64,
    ) -> Result<Bytes, Wrong> {
        let pretty = query.flag("pretty");
        let filter = query.get("filter").filter(|it| !it.is_empty()).map(Filter::read).transpose();
        let filter = filter.map_err(|why| {
            let words = format!("Failed to create boolean expression: {why}");
            (StatusCode::BAD_REQUEST, words)
        })?;
        let all =
            |name: &str| catalog.service(name).map(|it| instances(name, it)).unwrap_or_default();
        let tags: Vec<&str> = query.all("tag").collect();
        let tagged = |it: &Instance| tags.iter().all(|tag| it.tags.iter().any(|own| own == tag));
        let node = Node::of(catalog);
        Ok(match self {
            Self::Agent => answer::value(&agent(catalog), pretty),
            Self::Leader => answer::value(&format!("{NODE_ADDRESS}:8300"), pretty),
            Self::Peers => answer::value(&[format!("{NODE_ADDRESS}:8300")], pretty),
            Self::Datacenters => answer::value(&[catalog.stack()], pretty),
            Self::Nodes => sifted(&[node], filter.as_ref(), pretty),
            Self::Services => {
                let services = catalog.services().into_iter();
                let tags: BTreeMap<_, _> = services.map(|(name, it)| (name, it.tags())).collect();
                answer::value(&tags, pretty)
            }
            Self::CatalogService(name) => {
                let entries = all(name).into_iter().filter(tagged);
                let entries: Vec<_> =
                    entries.map(|it| CatalogEntry::of(it, &node, index)).collect();
                sifted(&entries, filter.as_ref(), pretty)
            }
            Self::HealthService(name) => {
                let passing = query.flag("passing");
                let wanted =
                    |it: &Instance| tagged(it) && (!passing || it.status == Status::Passing);
                let entries = all(name).into_iter().filter(wanted);
                let entries: Vec<_> = entries.map(|it| HealthEntry::of(it, &node)).collect();
                sifted(&entries, filter.as_ref(), pretty)
            }
            Self::HealthChecks(name) => {
                let checks: Vec<_> =
                    all(name).into_iter().flat_map(|it| it.checks(&node)).collect();
                sifted(&checks, filter.as_ref(), pretty)
            }
            Self::HealthState(state) => {
                let checks = every(catalog).flat_map(|it| it.checks(&node));
                let checks = [node.check()].into_iter().chain(checks);
                let wanted = |it: &CheckEntry| state == "any" || it.status == *state;
                sifted(&checks.filter(wanted).collect::<Vec<_>>(), filter.as_ref(), pretty)
            }
            Self::AgentServices => {
                let all = every(catalog).map(|it| (it.id.clone(), AgentService::of(it)));
                chosen(&all.collect(), filter.as_ref(), pretty)
            }
            Self::AgentChecks => {
                let checks = every(catalog).flat_map(|it| it.checks(&node));
                chosen(
                    &checks.map(|it| (it.check_id.clone(), it)).collect(),
                    filter.as_ref(),
                    pretty,
                )
            }
        })
    }
}

fn every(catalog: &Catalog) -> impl Iterator<Item = Instance> {
    catalog.services().into_iter().flat_map(|(name, it)| instances(name, it))
}

/// Those for which the filter holds.
fn sifted<T: Serialize>(all: &[T], filter: Option<&Filter>, pretty: bool) -> Bytes {
    let Some(filter) = filter else { return answer::value(all, pretty) };
    let values = all.iter().map(|it| serde_json::to_value(it).unwrap_or_default());
    answer::value(&values.filter(|it| filter.holds(it)).collect::<Vec<Value>>(), pretty)
}

fn chosen<T: Serialize>(all: &BTreeMap<String, T>, filter: Option<&Filter>, pretty: bool) -> Bytes {
    let Some(filter) = filter else { return answer::value(all, pretty) };
    let values = all.iter().map(|(id, it)| (id, serde_json::to_value(it).unwrap_or_default()));
    let kept = values.filter(|(_, it)| filter.holds(it)).collect::<BTreeMap<_, Value>>();
    answer::value(&kept, pretty)
}

/// One instance in Consul's words, whoever's it is.
struct Instance {
    id: String,
    name: String,
    address: String,
    port: u16,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    weights: Weights,
    status: Status,
    /// What each check is and says.
    checks: Vec<(String, String, &'static str, Status, String)>,
}

fn instances(name: &str, service: Service<'_>) -> Vec<Instance> {
    match service {
        Service::Own(listing) => of_the_stack(name, listing),
        Service::Registered(group) => of_others(name, group),
    }
}

fn of_the_stack(name: &str, listing: &Listing) -> Vec<Instance> {
    let offers: BTreeMap<_, Offer> =
        listing.offers().into_iter().map(|it| ((it.revision, it.slot), it)).collect();
    let mut all = Vec::new();
    for (revision, pool) in &listing.pools {
        for it in &pool.instances {
            let offer = offers.get(&(*revision, it.slot));
            let (status, output) = said(it, pool, offer);
            let id = format!("{name}.{revision}.{}", it.slot);
            let weight = offer.map_or(0, |it| u32::from(it.weight));
            let passing = (weight * WEIGHT_MAX).div_ceil(u32::from(Offer::WEIGHT_MAX));
            let check =
                (format!("service:{id}"), format!("Service '{name}' check"), "", status, output);
            all.push(Instance {
                name: name.to_owned(),
                address: it.addr.ip().to_string(),
                port: it.addr.port(),
                tags: vec![revision.to_string()],
                meta: [
                    ("rev", revision.to_string()),
                    ("slot", it.slot.to_string()),
                    ("weight", weight.to_string()),
                    ("health", health(it).to_owned()),
                    ("draining", it.draining.to_string()),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
                weights: Weights { passing: passing.max(1), warning: 1 },
                status,
                checks: vec![check],
                id,
            });
        }
    }
    all
}

/// How it is, and why.
fn said(it: &Listed, pool: &Pool, offer: Option<&Offer>) -> (Status, String) {
    let (status, why) = match (offer, it.serves()) {
        (Some(_), true) => (Status::Passing, "it is well"),
        (Some(_), false) => {
            (Status::Passing, "its check fails, as all of them do: they are not believed")
        }
        (None, _) if it.draining => (Status::Critical, "it drains"),
        (None, true) if pool.weight.0 == 0 => {
            (Status::Critical, "it is well, but its revision gets no traffic")
        }
        (None, _) => (Status::Critical, "its check fails"),
    };
    (status, why.to_owned())
}

fn of_others(name: &str, group: &Group) -> Vec<Instance> {
    let instance = |it: &std::sync::Arc<registry::Entry>| {
        let service = &it.service;
        let check = |(test, checked): (&registry::Test, &registry::Checked)| {
            let kind = match test.kind {
                registry::Kind::Ttl(_) => "ttl",
                registry::Kind::Http { .. } => "http",
                registry::Kind::Tcp { .. } => "tcp",
            };
            (test.id.clone(), test.name.clone(), kind, checked.status, checked.output.clone())
        };
        Instance {
            id: service.id.clone(),
            name: name.to_owned(),
            address: service.address.clone(),
            port: service.port,
            tags: service.tags.clone(),
            meta: service.meta.clone(),
            weights: Weights {
                passing: service.weights.passing.into(),
                warning: service.weights.warning.into(),
            },
            status: it.status(),
            checks: service.tests.iter().zip(&it.checked).map(check).collect(),
        }
    };
    group.entries.iter().map(instance).collect()
}

impl Instance {
    fn checks(&self, node: &Node) -> Vec<CheckEntry> {
        let check = |(id, name, kind, status, output): &(String, String, &str, Status, String)| {
            CheckEntry {
                node: node.node.clone(),
                check_id: id.clone(),
                name: name.clone(),
                status: status.word(),
                notes: String::new(),
                output: output.clone(),
                service_id: self.id.clone(),
                service_name: self.name.clone(),
                service_tags: self.tags.clone(),
                kind: (*kind).to_owned(),
            }
        };
        self.checks.iter().map(check).collect()
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID")]
    id: &'static str,
    node: String,
    address: &'static str,
    datacenter: String,
    tagged_addresses: BTreeMap<&'static str, &'static str>,
    meta: BTreeMap<&'static str, String>,
    create_index: u64,
    modify_index: u64,
}

impl Node {
    fn of(catalog: &Catalog) -> Self {
        Self {
            id: NODE_ID.as_str(),
            node: NODE.clone(),
            address: NODE_ADDRESS,
            datacenter: catalog.stack().to_owned(),
            tagged_addresses: [("lan", NODE_ADDRESS), ("wan", NODE_ADDRESS)].into(),
            meta: BTreeMap::new(),
            create_index: 1,
            modify_index: 1,
        }
    }

    /// The check of the node itself, which some clients look for.
    fn check(&self) -> CheckEntry {
        CheckEntry {
            node: self.node.clone(),
            check_id: "serfHealth".to_owned(),
            name: "Serf Health Status".to_owned(),
            status: Status::Passing.word(),
            notes: String::new(),
            output: "Agent alive and reachable".to_owned(),
            service_id: String::new(),
            service_name: String::new(),
            service_tags: Vec::new(),
            kind: String::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckEntry {
    node: String,
    #[serde(rename = "CheckID")]
    check_id: String,
    name: String,
    status: &'static str,
    notes: String,
    output: String,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_name: String,
    service_tags: Vec<String>,
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentService {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    tags: Vec<String>,
    address: String,
    port: u16,
    meta: BTreeMap<String, String>,
    weights: Weights,
    enable_tag_override: bool,
}

impl AgentService {
    fn of(it: Instance) -> Self {
        Self {
            id: it.id,
            service: it.name,
            tags: it.tags,
            address: it.address,
            port: it.port,
            meta: it.meta,
            weights: it.weights,
            enable_tag_override: false,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthEntry {
    node: Node,
    service: AgentService,
    checks: Vec<CheckEntry>,
}

impl HealthEntry {
    fn of(it: Instance, node: &Node) -> Self {
        let checks = [node.check()].into_iter().chain(it.checks(node)).collect();
        Self { node: node.clone(), service: AgentService::of(it), checks }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CatalogEntry {
    #[serde(flatten)]
    node: Node,
    node_meta: BTreeMap<&'static str, String>,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_name: String,
    service_tags: Vec<String>,
    service_address: String,
    service_port: u16,
    service_meta: BTreeMap<String, String>,
    service_weights: Weights,
    service_enable_tag_override: bool,
}

impl CatalogEntry {
    fn of(it: Instance, node: &Node, index: u64) -> Self {
        Self {
            node: Node { modify_index: index, ..node.clone() },
            node_meta: BTreeMap::new(),
            service_id: it.id,
            service_name: it.name,
            service_tags: it.tags,
            service_address: it.address,
            service_port: it.port,
            service_meta: it.meta,
            service_weights: it.weights,
            service_enable_tag_override: false,
        }
    }
}

fn agent(catalog: &Catalog) -> Value {
    serde_json::json!({
        "Config": {
            "Datacenter": catalog.stack(),
            "PrimaryDatacenter": catalog.stack(),
            "NodeName": *NODE,
            "NodeID": *NODE_ID,
            "Revision": "",
            "Server": true,
            "Version": VERSION,
        },
        "Member": { "Name": *NODE, "Addr": NODE_ADDRESS, "Port": 8301, "Status": 1, "Tags": {} },
        "Meta": {},
    })
}

/// Does what is ordered below `/v1/agent`.
pub(super) async fn order(
    desk: &std::rc::Rc<Desk>,
    path: &[&str],
    query: &Query,
    body: &[u8],
) -> Answer {
    let done = match path {
        ["service", "register"] => match read(body) {
            Ok(service) => desk.register(service).await,
            Err(why) => Err(Refused::Wrong(why)),
        },
        ["service", "deregister", id] => desk.deregister(id).await,
        ["check", word @ ("pass" | "warn" | "fail"), id] => {
            let status = Status::read(word).unwrap_or_default();
            desk.say(id, status, query.get("note").unwrap_or_default().to_owned()).await
        }
        ["check", "update", id] => update(desk, id, body).await,
        _ => return answer::words(StatusCode::NOT_FOUND, "there is nothing here\n"),
    };
    match done {
        Ok(()) => answer::done(),
        Err(Refused::Wrong(why)) => answer::words(StatusCode::BAD_REQUEST, why),
        Err(Refused::Unknown(why)) => answer::words(StatusCode::NOT_FOUND, why),
        Err(Refused::Disk(error)) => {
            let words = format!("it could not be kept: {error}");
            answer::words(StatusCode::INTERNAL_SERVER_ERROR, words)
        }
    }
}

async fn update(desk: &Desk, id: &str, body: &[u8]) -> Result<(), Refused> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Refused::Wrong(error.to_string()))?;
    let text = |key: &str| {
        let map = value.as_object()?;
        map.iter().find(|(it, _)| it.eq_ignore_ascii_case(key))?.1.as_str()
    };
    let status = text("status").and_then(Status::read);
    let status = status.ok_or_else(|| Refused::Wrong("Invalid check status".to_owned()))?;
    desk.say(id, status, text("output").unwrap_or_default().to_owned()).await
}
