//! The words of the API. Times are milliseconds since 1970 UTC; spans are milliseconds.

use std::collections::BTreeMap;

use evenkeel_kernel::spec::Materials;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stack file with what it refers to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Submission {
    /// The file's name, for messages.
    pub file_name: String,
    /// Its text.
    pub text: String,
    /// The absolute folder its paths are relative to.
    pub base_dir: String,
    /// What it refers to, as the sender has read it.
    #[schema(value_type = Object)]
    pub materials: Materials,
    /// Go ahead although a revision in it was taken back before.
    #[serde(default)]
    pub force: bool,
    /// Why it cannot wait, if it cannot.
    #[serde(default)]
    pub hotfix: Option<String>,
    /// How many instances are expected to go for good; needed where most of a service goes.
    #[serde(default)]
    pub expect_destroy: Option<u32>,
}

/// What a change would do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Nothing would happen: all is so already, or a release leads there.
    pub empty: bool,
    /// The release that leads there already.
    pub on_its_way: Option<u64>,
    /// The least it takes until all traffic is on the new revisions.
    pub promotion_ms: u64,
    /// The least it takes from then on until what was replaced is stopped.
    pub bake_ms: u64,
    /// What comes before it, if a release is under way.
    pub before: Option<String>,
    /// Why it is refused, unless it is forced.
    pub held_back: Option<String>,
    /// Why it is refused, unless it is a hotfix.
    pub locked: Option<String>,
    /// What ends that, and what goes past it.
    pub locked_hint: Option<String>,
    /// How many instances it takes away for good.
    pub gone: u32,
    /// Why it is refused, unless that number is named.
    pub removal: Option<String>,
    /// Components created.
    pub create: usize,
    /// Components changed.
    pub change: usize,
    /// Components removed.
    pub remove: usize,
    /// The changes, in the order of release.
    pub changes: Vec<ChangeView>,
    /// What is started beside the old, in order.
    pub expand: Vec<String>,
    /// How traffic moves, in order.
    pub shift: Vec<String>,
    /// What goes, in order. The point of no return.
    pub contract: Vec<String>,
    /// Names of everything that is gone after contract.
    pub destroys: Vec<String>,
    /// What is dangerous about it.
    pub hazards: Vec<HazardView>,
}

/// What happens to one component.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// `service.web`
    pub component: String,
    /// `create`, `change` or `remove`.
    pub action: String,
    /// The revision before.
    pub from: Option<String>,
    /// The revision after.
    pub to: Option<String>,
    /// The fields that differ.
    pub fields: Vec<FieldView>,
}

/// One field before and after.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FieldView {
    /// Its name as in the file.
    pub field: String,
    /// Its value before.
    pub from: Option<String>,
    /// Its value after.
    pub to: Option<String>,
}

/// Something a person should know before they say yes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HazardView {
    /// A stable name.
    pub kind: String,
    /// What about.
    pub component: String,
    /// What may happen, and what avoids it.
    pub text: String,
}

/// What came of a request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// The release that does it; none when nothing needs doing.
    pub release: Option<u64>,
    /// One sentence.
    pub text: String,
    /// The journal's last place before it; what comes of it is written after that.
    pub journal: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What speaks against it.
    pub error: String,
    /// What to do instead.
    pub hint: Option<String>,
    /// Problems in the stack file, in its order.
    #[serde(default)]
    pub problems: Vec<ProblemView>,
}

/// One problem in a file.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The same for a terminal, with the line it points at.
    pub rendered: String,
}

/// How many instances a service is to have.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Scale {
    /// The service.
    pub service: String,
    /// How many.
    pub replicas: u32,
}

/// How far to promote.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Promote {
    /// To all traffic.
    #[serde(default)]
    pub full: bool,
}

/// Where to go back to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Rollback {
    /// A service; without one, everything the last release moved.
    pub service: Option<String>,
    /// The revision it goes back to; by default the one before.
    pub revision: Option<u32>,
    /// Go ahead although that revision was taken back before, or this undoes a way back.
    #[serde(default)]
    pub force: bool,
    /// Why, for the journal.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Why somebody steers a release.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// For the journal.
    #[serde(default)]
    pub reason: Option<String>,
}

/// An approval.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Approve {
    /// Why it is given by somebody who may not.
    #[serde(default)]
    pub force: Option<String>,
}

/// Why nothing new is to be released.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lock {
    /// For everybody who meets it.
    pub reason: String,
}

/// Which requests are to wait.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// The service.
    pub service: String,
    /// For how long, at most; by default 10 seconds.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Which requests are to be served again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Unhold {
    /// The service.
    pub service: String,
}

/// What to restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Restart {
    /// Services; none is all.
    #[serde(default)]
    pub services: Vec<String>,
    /// Go ahead although that ends the release under way.
    #[serde(default)]
    pub force: bool,
}

/// Everything about the stack at one moment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The stack's name; none before the first release.
    pub stack: Option<String>,
    /// When this was observed.
    pub at_ms: u64,
    /// Which controller answers; rises with every start.
    pub epoch: u64,
    /// Which decision is in force.
    pub generation: u64,
    /// The services.
    pub services: Vec<ServiceView>,
    /// The routes.
    pub routes: Vec<RouteView>,
    /// The edge.
    pub edge: EdgeView,
    /// The release under way.
    pub release: Option<ReleaseView>,
    /// The release that follows it.
    pub queued: Option<u64>,
    /// What is waited for.
    pub waits: Vec<WaitView>,
}

/// One service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// How many instances it is to have.
    pub replicas: u32,
    /// How many of its instances can serve.
    pub ready: u32,
    /// The address at which other services reach it.
    pub url: String,
    /// Its pools, oldest first.
    pub pools: Vec<PoolView>,
    /// Revisions that are kept and can be gone back to.
    pub kept: Vec<String>,
    /// How its size follows its load, if it does.
    #[serde(default)]
    pub scale: Option<ScaleView>,
    /// Its requests that wait: for an instance, or because it is held; absent while nobody knows.
    #[serde(default)]
    pub waiting: Option<u32>,
    /// Its requests wait by somebody's order.
    #[serde(default)]
    pub hold: Option<HoldView>,
}

/// A service that is held.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HoldView {
    /// By whom, and why if they said so.
    pub by: String,
    /// Since when.
    pub since_ms: u64,
    /// When it ends at the latest.
    pub until_ms: u64,
    /// Nothing new reaches the service.
    pub in_force: bool,
    /// Requests that were there before and are still being answered; absent while nobody knows.
    pub in_flight: Option<u64>,
}

/// How the size of a service follows its load.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// Never fewer instances than this.
    pub min: u32,
    /// Never more than this.
    pub max: u32,
    /// What is measured.
    pub by: Vec<GaugeView>,
}

/// One thing that the size of a service follows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GaugeView {
    /// `in_flight`, in requests, or `cpu`, in percent of an instance's processor time.
    pub metric: String,
    /// What a ready instance has in the mean; none while it is known of none of them.
    pub now: Option<f64>,
    /// What it is to have.
    pub target: f64,
}

/// One pool.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Its revision: `r12`.
    pub revision: String,
    /// `stable`, `canary`, `preview`, `warm` or `retiring`.
    pub role: String,
    /// Its part of the traffic, in percent.
    pub weight: f64,
    /// Instances meant to serve.
    pub size: u32,
    /// Those of them that can.
    pub ready: u32,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// `web.r12.3`
    pub id: String,
    /// Where it listens.
    pub port: u16,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// `starting`, `healthy`, `unhealthy`, `draining`, `stopping`, `backoff`, …
    pub state: String,
    /// Since when.
    pub since_ms: u64,
    /// How often it has ended by itself.
    pub exits: u32,
    /// How it ended last.
    pub last_exit: Option<String>,
    /// Requests it is answering.
    pub in_flight: u32,
    /// Upgraded connections it holds.
    pub long_lived: u32,
}

/// One route.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// The host; none is any.
    pub host: Option<String>,
    /// The start of the path.
    pub path: String,
    /// The service that answers, or the URL where requests are sent instead.
    pub to: String,
}

/// The edge.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EdgeView {
    /// Where it is to listen for HTTP without TLS.
    pub listen: Vec<String>,
    /// Where it is to listen for HTTP with TLS.
    #[serde(default)]
    pub tls: Vec<String>,
    /// Where it is to listen for what is not HTTP.
    #[serde(default)]
    pub tcp: Vec<String>,
    /// It can be observed.
    pub known: bool,
    /// Which decision it serves.
    pub serving: Option<u64>,
    /// Requests it answered itself since it started.
    pub unrouted: Option<UnroutedView>,
    /// The certificates that it is to show.
    #[serde(default)]
    pub certificates: Vec<CertificateView>,
}

/// One certificate.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// Its name.
    pub name: String,
    /// Until when the one that is shown is good, in milliseconds since 1970; none: none is shown.
    pub until_ms: Option<u64>,
    /// How long that is from now, in seconds.
    pub left_s: Option<u64>,
    /// Why it, or the next one, could not be ordered or read.
    pub failed: Option<String>,
    /// In how many seconds it is ordered again.
    pub again_s: Option<u64>,
}

/// Requests the edge answered itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct UnroutedView {
    /// 404: no route.
    pub no_route: u64,
    /// 503: no instance.
    pub no_instance: u64,
    /// 503: a bound of the edge.
    pub overloaded: u64,
    /// 400 and its kind.
    pub rejected: u64,
}

/// One release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Its number.
    pub id: u64,
    /// `apply`, `restart` or `rollback`.
    pub kind: String,
    /// Who asked for it.
    pub by: String,
    /// `queued`, `expanding`, `shifting`, `baking`, `contracting`, `turning back` or `ended`.
    pub phase: String,
    /// When it started.
    pub started_ms: u64,
    /// Since when it is in this phase.
    pub since_ms: u64,
    /// The step under way, while traffic moves.
    pub step: Option<StepView>,
    /// Who paused it.
    pub paused: Option<String>,
    /// Why Evenkeel itself holds it, if it does.
    pub held: Option<String>,
    /// Why it is a hotfix, if it is one.
    pub hotfix: Option<String>,
    /// It waits for somebody's approval.
    pub waits_at_gate: bool,
    /// What the webhook of that gate said last, if it has one.
    #[serde(default)]
    pub gate_answer: Option<String>,
    /// Who may give it, by their user names; empty is anybody.
    pub approvers: Vec<String>,
    /// The approvals it was given.
    pub approvals: Vec<ApprovalView>,
    /// How long it has been watched.
    pub bake: Option<BakeView>,
    /// How it ended: `promoted`, `aborted`, …
    pub outcome: Option<String>,
    /// Why it went back.
    pub because: Option<String>,
    /// All traffic is on the new revisions.
    pub promoted: bool,
    /// What it moves.
    pub rollouts: Vec<RolloutView>,
    /// What it runs once, in order; of a release that ended the journal tells it.
    #[serde(default)]
    pub jobs: Vec<JobView>,
    /// The schemas of databases that it changes.
    #[serde(default)]
    pub schemas: Vec<SchemaView>,
    /// What its requests came to.
    pub ledger: LedgerView,
}

/// Somebody's word that a step may be left.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// The service that moved.
    pub service: String,
    /// Its step, from 1.
    pub step: usize,
    /// Who gave it.
    pub by: String,
    /// When.
    pub at_ms: u64,
    /// Why they did although they may not.
    pub forced: Option<String>,
}

/// One job of a release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// What runs.
    pub revision: String,
    /// `before` anything new starts, or `after` all traffic has moved.
    pub when: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    /// How many attempts have begun.
    pub attempts: u32,
    /// Why the last attempt failed, if one has.
    pub last_failure: Option<String>,
}

/// The schema of one database that a release changes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SchemaView {
    /// The database.
    pub database: String,
    /// The number of its new revision.
    pub revision: u32,
    /// `waiting`, `expanding`, `filling`, `paused`, `tightening`, `ready`, `contracting`,
    /// `contracted`, `undoing` or `undone`.
    pub stage: String,
    /// Rows that have their new values, while they get them.
    pub rows: Option<u64>,
    /// How many rows there are about.
    pub of_rows: Option<u64>,
    /// How many get theirs in a second; none while it is paused.
    pub rows_per_s: Option<u64>,
    /// About how many seconds that goes on.
    pub left_s: Option<u64>,
    /// Why it does not get on.
    pub trouble: Option<String>,
}

/// One service of a release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// The service.
    pub service: String,
    /// The revision left.
    pub from: Option<String>,
    /// The revision that takes over.
    pub to: String,
    /// Instances of the left revision that are still there.
    pub warm: u32,
    /// How its requests compare, lately; empty where there is nothing to compare.
    pub analysis: Vec<TrackView>,
    /// What a look at it comes to now: `pass`, `fail`, `inconclusive`, or `error` when it cannot be
    /// measured; none once it has ended.
    pub verdict: Option<String>,
    /// What else is asked about it.
    pub checks: Vec<CheckView>,
}

/// One check of a rollout.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// `before`, `during` or `after`.
    pub when: String,
    /// What is asked, in one sentence.
    pub ask: String,
    /// It decides nothing.
    pub dry_run: bool,
    /// How often it was asked.
    pub asked: u32,
    /// An answer is awaited.
    pub open: bool,
    /// What the last answer came to: `pass`, `fail`, `inconclusive` or `error`; none before the
    /// first.
    pub verdict: Option<String>,
    /// Why.
    pub text: Option<String>,
    /// When it was answered last.
    pub answered_ms: Option<u64>,
}

/// How one kind of bad request compares between the two revisions, lately.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TrackView {
    /// `errors`, `slow-tail` or `slow-middle`.
    pub track: String,
    /// Requests that the new revision was asked.
    pub canary_requests: u64,
    /// The bad ones among them.
    pub canary_bad: u64,
    /// Requests that the stable revision was asked.
    pub stable_requests: u64,
    /// The bad ones among them.
    pub stable_bad: u64,
    /// How much of the evidence is there that it takes to go back: 1 is enough.
    pub evidence: f64,
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The service that moves.
    pub service: String,
    /// The step, from 1.
    pub step: usize,
    /// How many there are.
    pub of: usize,
}

/// A bake.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BakeView {
    /// Healthy time so far.
    pub healthy_ms: u64,
    /// Healthy time needed.
    pub needed_ms: u64,
    /// When it ends if all stays well.
    pub until_ms: u64,
}

/// What the requests of a release came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// Each pool's account.
    pub pools: Vec<AccountView>,
    /// Requests no pool answered, of the whole edge.
    pub unrouted: UnroutedView,
}

/// What was counted for one pool.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// The service.
    pub service: String,
    /// The revision.
    pub revision: String,
    /// Requests answered or given up.
    pub requests: u64,
    /// Those that were served as the client would want: anything but a failure.
    pub served: u64,
    /// Tries that were made again on another instance; not failures.
    pub retried: u64,
    /// Requests whose client went away first.
    pub client_gone: u64,
    /// All failures.
    pub failed: u64,
    /// Failures by cause: `status_5xx`, `connect`, `reset`, `timeout`.
    pub failed_by: BTreeMap<String, u64>,
}

/// One thing that is waited for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitView {
    /// What.
    pub what: String,
    /// Since when.
    pub since_ms: u64,
    /// When the wait ends by itself at the latest.
    pub until_ms: Option<u64>,
    /// What happens then.
    pub then: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What would end the wait.
    pub unblock: String,
}

/// One receiver of news.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiverView {
    /// Its name.
    pub name: String,
    /// `webhook`, `slack` or `command`.
    pub kind: String,
    /// How it is reached, without anything secret.
    pub to: String,
    /// What it is told is signed.
    pub signed: bool,
    /// What it wants to hear of; empty is what is told to everybody.
    pub events: Vec<String>,
    /// Events that it has not taken yet, among the newest 2,000 of the journal.
    pub behind: u64,
    /// When it took one last.
    pub taken_ms: Option<u64>,
    /// Since when it has taken nothing, although it was told.
    pub failing_since_ms: Option<u64>,
    /// Tries since then.
    pub tries: u32,
    /// Why the last of them failed.
    pub last_error: Option<String>,
    /// When the oldest event that it has not taken is given up.
    pub gives_up_ms: Option<u64>,
    /// Events that were given up.
    pub given_up: u64,
}

/// One journal entry.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the journal.
    pub seq: u64,
    /// The release it belongs to.
    pub release: Option<u64>,
    /// When.
    pub at_ms: u64,
    /// Who decided.
    pub actor: String,
    /// A stable name.
    pub kind: String,
    /// One sentence.
    pub text: String,
}

/// Which program answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// The program's version.
    pub version: String,
    /// The API's version.
    pub api: u32,
    /// The process.
    pub pid: u32,
    /// The format in which it saves the state; 0 where that is not said.
    #[serde(default)]
    pub format: u32,
}
