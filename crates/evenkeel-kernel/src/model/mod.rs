//! The nouns: what a stack is made of. Plain values; nothing here decides anything.

mod check;
mod database;
mod discovery;
mod door;
mod freeze;
mod hold;
mod job;
mod names;
mod notify;
mod route;
mod scale;
mod service;
mod stack;
mod telemetry;
pub mod traffic;

pub use check::{About, Ask, Check, CheckId, Expect, Number, When};
pub use database::{Database, Follows, SchemaChange, address};
pub use discovery::Discovery;
pub use door::{Acme, Certificate, CertificateSource, Edge, Network};
pub use freeze::{Freeze, Gate, GateWebhook, Pace};
pub use hold::Hold;
pub use job::{Job, JobWhen};
pub use names::{
    CertificateName, CheckName, DatabaseName, Digest, Epoch, FreezeName, Generation, InstanceId,
    InvalidName, PoolId, ReceiverName, ReleaseId, RevisionNumber, RouteName, ServiceName,
    StackName,
};
pub use notify::{Address, Channel, KeptSecret, Receiver};
pub use route::{Leads, Matches, Rate, Redirect, Route, RoutePolicy, TcpRoute, cookie};
pub use scale::Scale;
pub use service::{
    Analysis, Arguments, Exposure, Health, Limits, NoData, Probe, Protocol, Rollout, Secret,
    SecretSource, Service, Share, Signal, Step, Stop, Strategy, Tolerance, UpstreamTls, Weight,
    Workload,
};
pub use stack::{Revision, Stack};
pub use telemetry::{AccessLog, Telemetry, Traces};
pub use traffic::{Balance, Exposed, HashKey, Mirror, Sticky, Traffic, place_of};
