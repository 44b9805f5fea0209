//! The nouns: what a stack is made of. Plain values; nothing here decides anything.

mod check;
mod discovery;
mod freeze;
mod job;
mod names;
mod notify;
mod scale;
mod service;
mod stack;

pub use check::{About, Ask, Check, CheckId, Expect, Number, When};
pub use discovery::Discovery;
pub use freeze::{Freeze, Gate, GateWebhook, Pace};
pub use job::{Job, JobWhen};
pub use names::{
    CheckName, Digest, Epoch, FreezeName, Generation, InstanceId, InvalidName, PoolId,
    ReceiverName, ReleaseId, RevisionNumber, RouteName, ServiceName, StackName,
};
pub use notify::{Address, Channel, KeptSecret, Receiver};
pub use scale::Scale;
pub use service::{
    Analysis, Arguments, Exposure, Health, Limits, NoData, Probe, Protocol, Rollout, Secret,
    SecretSource, Service, Share, Signal, Step, Stop, Strategy, Tolerance, Weight, Workload,
};
pub use stack::{Edge, Revision, Route, Stack};
