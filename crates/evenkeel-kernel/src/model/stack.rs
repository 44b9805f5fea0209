//! A stack: what the file describes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::database::Database;
use super::discovery::Discovery;
use super::door::{Certificate, Edge};
use super::freeze::{Freeze, GateWebhook, Pace};
use super::job::Job;
use super::names::{
    CertificateName, DatabaseName, Digest, FreezeName, ReceiverName, RevisionNumber, RouteName,
    ServiceName, StackName,
};
use super::notify::{KeptSecret, Receiver};
use super::route::{Route, TcpRoute};
use super::service::{Service, Strategy, Workload};
use crate::layout;

/// What one `evenkeel.toml` describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Its services.
    pub services: BTreeMap<ServiceName, Service>,
    /// What runs once per release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<ServiceName, Job>,
    /// The databases that they use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<DatabaseName, Database>,
    /// Where requests from outside go.
    pub routes: BTreeMap<RouteName, Route>,
    /// Where the edge listens.
    pub edge: Edge,
    /// Doors for what is not HTTP.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tcp: BTreeMap<RouteName, TcpRoute>,
    /// By what the edge proves that it is a host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<CertificateName, Certificate>,
    /// Who is told what happens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notify: BTreeMap<ReceiverName, Receiver>,
    /// When nothing new is released.
    #[serde(default)]
    pub freezes: BTreeMap<FreezeName, Freeze>,
    /// How fast changes may come.
    #[serde(default)]
    pub pace: Pace,
    /// Where services are told of.
    #[serde(default, skip_serializing_if = "Discovery::is_default")]
    pub discovery: Discovery,
}

impl Stack {
    /// A stack with nothing in it.
    #[must_use]
    pub fn empty(name: StackName) -> Self {
        Self {
            name,
            services: BTreeMap::new(),
            routes: BTreeMap::new(),
            edge: Edge::default(),
            tcp: BTreeMap::new(),
            certificates: BTreeMap::new(),
            notify: BTreeMap::new(),
            freezes: BTreeMap::new(),
            pace: Pace::default(),
            discovery: Discovery::default(),
            jobs: BTreeMap::new(),
            databases: BTreeMap::new(),
        }
    }

    /// Every service that requests reach: from a route, another service or a job.
    #[must_use]
    pub fn serving(&self) -> BTreeSet<&ServiceName> {
        let routed = self.routes.values().filter_map(Route::to);
        let routed = routed.chain(self.tcp.values().map(|it| &it.to));
        routed.chain(self.workloads().flat_map(|(_, workload)| &workload.uses)).collect()
    }

    /// Whether requests reach one service. Of many, [`Stack::serving`] is quicker.
    #[must_use]
    pub fn serves(&self, service: &ServiceName) -> bool {
        self.routes.values().any(|route| route.to() == Some(service))
            || self.tcp.values().any(|it| it.to == *service)
            || self.workloads().any(|(_, workload)| workload.uses.contains(service))
    }

    /// The doors to the outside: the name of each listener by its address.
    pub fn doors(&self) -> impl Iterator<Item = (SocketAddr, String)> {
        let of = |kind: &'static str| move |addr: &SocketAddr| (*addr, format!("{kind}{addr}"));
        let plain = self.edge.listen.iter().map(of(layout::PLAIN_LISTENERS));
        let tls = self.edge.tls.iter().map(of(layout::TLS_LISTENERS));
        let tcp = self.tcp.values().map(|it| &it.listen).map(of(layout::TCP_LISTENERS));
        let metrics = self.edge.telemetry.metrics.iter().map(of(layout::METRICS_LISTENERS));
        plain.chain(tls).chain(tcp).chain(metrics)
    }

    /// What runs, of services and of jobs, by name: no two of them share one.
    pub fn workloads(&self) -> impl Iterator<Item = (&ServiceName, &Workload)> {
        let services = self.services.iter().map(|(name, it)| (name, &it.workload));
        services.chain(self.jobs.iter().map(|(name, it)| (name, &it.workload)))
    }

    /// The same, to complete it.
    pub fn workloads_mut(&mut self) -> impl Iterator<Item = (&ServiceName, &mut Workload)> {
        let services = self.services.iter_mut().map(|(name, it)| (name, &mut it.workload));
        services.chain(self.jobs.iter_mut().map(|(name, it)| (name, &mut it.workload)))
    }

    /// Every secret that control itself needs: to tell receivers, to ask at gates, and to
    /// change schemas.
    pub fn kept_secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        let gates = self.services.values().flat_map(Service::gate_webhooks);
        let receivers = self.notify.values().flat_map(Receiver::secrets);
        let databases = self.databases.values().flat_map(Database::secrets);
        receivers.chain(gates.flat_map(GateWebhook::secrets)).chain(databases)
    }

    /// The same, to say what was read.
    pub fn kept_secrets_mut(&mut self) -> impl Iterator<Item = &mut KeptSecret> {
        let strategies = self.services.values_mut().map(|it| &mut it.rollout.strategy);
        let steps = strategies.flat_map(|strategy| match strategy {
            Strategy::Canary { steps } => steps.as_mut_slice(),
            Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => &mut [],
        });
        let gates = steps.filter_map(|step| step.gate.as_mut()?.webhook.as_mut());
        let receivers = self.notify.values_mut().flat_map(Receiver::secrets_mut);
        let databases = self.databases.values_mut().flat_map(Database::secrets_mut);
        receivers.chain(gates.flat_map(GateWebhook::secrets_mut)).chain(databases)
    }
}

/// An immutable, content-addressed description of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The number people know it by.
    pub number: RevisionNumber,
    /// The content address of `workload`.
    pub digest: Digest,
    /// What it is. Shared by every state and every want that speaks of it.
    pub workload: Arc<Workload>,
}
