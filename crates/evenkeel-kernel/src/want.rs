//! Wants: states to make true. Not changes to make: the same want may be asked for any number of
//! times.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Ask, CheckId, DatabaseName, GateWebhook, KeptSecret, PoolId, Probe, RevisionNumber,
    SchemaChange, StackName, Workload,
};
use crate::routing::RoutingTable;
use crate::world::{Fence, SchemaTarget};

/// One state to make true, for whichever room can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// For the keeper: exactly these listening sockets are held, by name.
    ///
    /// It carries no fence, because an older one cannot arrive after a newer one. The journal's
    /// lock lets one control live on a machine, and one that is stopped still holds it; so
    /// whatever a control has said to the keeper was said before its successor could connect. The
    /// keeper is one thread that hears its connections in the order in which they came. A control
    /// that reaches a keeper of another machine would need a fence here, as tables and pools have.
    Listeners(BTreeMap<String, SocketAddr>),
    /// For the edge: this table is served.
    Table(Box<RoutingTable>),
    /// For the platform: this pool has exactly these instances.
    Pool(Box<Pool>),
    /// For whoever asks: exactly these questions are answered. One that is not listed any more
    /// is given up.
    Checks(Vec<Check>),
    /// For whoever changes schemas: exactly these are changed.
    Schemas(Vec<Schema>),
}

/// Where the schema of one database is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Which database.
    pub database: DatabaseName,
    /// The address of who owns it.
    pub url: KeptSecret,
    /// The schema that holds its tables.
    pub schema: String,
    /// What is done.
    pub change: Arc<SchemaChange>,
    /// How far; none holds it where it is.
    pub target: Option<SchemaTarget>,
    /// On the way to a new shape nothing is begun for now, and rows are not filled.
    pub paused: bool,
}

/// One question of a check or a gate. The same number is the same question, however often it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which check or gate.
    pub id: CheckId,
    /// The question's number.
    pub run: u32,
    /// What is asked.
    pub ask: Question,
    /// How long the answer may take.
    pub timeout: Duration,
    /// The stack it is asked in.
    pub stack: StackName,
    /// The new revision.
    pub canary: Side,
    /// The one it replaces, if it replaces one.
    pub stable: Option<Side>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What a check asks.
    Check(Ask),
    /// Whether a step may be left.
    Gate {
        /// Who is asked.
        webhook: GateWebhook,
        /// Which step, from 0.
        step: usize,
        /// Who asked for the release.
        by: String,
        /// The question in a sentence, for people.
        text: String,
    },
}

/// One of two revisions, as a check sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its number.
    pub revision: RevisionNumber,
    /// Where its instances listen that are meant to serve.
    pub instances: Vec<SocketAddr>,
}

/// Exactly these instances of a pool.
///
/// An instance of the pool that is not in `slots` is to be stopped, on one condition that is
/// checked where it is stopped, at that moment: the edge does not route to it. An instance of a
/// pool nobody mentions is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Which pool.
    pub id: PoolId,
    /// What each instance runs.
    pub workload: Arc<Workload>,
    /// What its health means; [`Probe::Exec`], [`Probe::Notify`] and [`Probe::Process`] are the
    /// platform's to answer.
    pub probe: Probe,
    /// Environment that the place gives, not the revision: `<NAME>_URL` of what it uses.
    pub surroundings: BTreeMap<String, String>,
    /// The instances, by slot.
    pub slots: BTreeMap<u32, Slot>,
    /// The processor time of its instances is to be measured.
    pub measured: bool,
    /// Which decision this is.
    pub fence: Fence,
}

/// One instance to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The port it listens on, as `$PORT`.
    pub port: u16,
}
