//! The nouns: what a stack is made of. Plain values; nothing here decides anything.

mod job;
mod names;
mod service;
mod stack;

pub use job::{Job, When};
pub use names::{
    Digest, Epoch, Generation, InstanceId, InvalidName, PoolId, ReleaseId, RevisionNumber,
    RouteName, ServiceName, StackName,
};
pub use service::{
    Analysis, Arguments, Exposure, Health, Limits, NoData, Probe, Rollout, Secret, SecretSource,
    Service, Share, Signal, Step, Stop, Strategy, Tolerance, Weight, Workload,
};
pub use stack::{Edge, Revision, Route, Stack};
