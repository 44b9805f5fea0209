//! The nouns: what a stack is made of. Plain values; nothing here decides anything.

mod names;
mod service;
mod stack;

pub use names::{
    Digest, Epoch, Generation, InstanceId, InvalidName, PoolId, ReleaseId, RevisionNumber,
    RouteName, ServiceName, StackName,
};
pub use service::{
    Exposure, Health, Limits, Probe, Rollout, Service, Share, Signal, Step, Stop, Strategy, Weight,
    Workload,
};
pub use stack::{Edge, Revision, Route, Stack};
