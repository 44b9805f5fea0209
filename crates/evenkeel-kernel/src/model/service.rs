//! A service: what runs, how it is known to be well, and how it is rolled out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Check;
use super::freeze::{Gate, GateWebhook, saved_gate};
use super::names::{CheckName, DatabaseName, Digest, ServiceName};
use super::scale::Scale;
use super::traffic::{Exposed, Traffic};

/// One service of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What runs. A change of it makes a new revision.
    pub workload: Workload,
    /// How many instances serve, at least 1.
    pub replicas: u32,
    /// How a new revision takes over. Not part of the revision.
    pub rollout: Rollout,
    /// How `replicas` follows the load; `None`: people say how many. Not part of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// How requests spread over its instances. Not part of the revision.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traffic: Traffic,
}

impl Service {
    /// The programs that are asked at the gates of its steps.
    pub fn gate_webhooks(&self) -> impl Iterator<Item = &GateWebhook> {
        let steps = match &self.rollout.strategy {
            Strategy::Canary { steps } => steps.as_slice(),
            Strategy::Rolling { .. } | Strategy::BlueGreen { .. } => &[],
        };
        steps.iter().filter_map(|step| step.gate.as_ref()?.webhook.as_ref())
    }
}

/// Everything that makes a revision what it is: program, arguments, configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Program and arguments; never empty, never given to a shell.
    pub run: Vec<String>,
    /// Absolute path of the working folder.
    pub dir: String,
    /// Environment, with the content of `env_files` merged below it once they are read.
    pub env: BTreeMap<String, String>,
    /// Absolute paths of files with `NAME=value` lines.
    pub env_files: Vec<String>,
    /// Digests of the files that `run` names (the program, and arguments that are files), by
    /// absolute path.
    pub files: BTreeMap<String, Digest>,
    /// Absolute paths of the files that it is configured by; their digests are in `files`. Each
    /// instance gets copies of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
    /// What it must know and nobody else, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// Services it calls. Each is reached through the edge at `<NAME>_URL`.
    pub uses: BTreeSet<ServiceName>,
    /// Databases it uses, and where its revision looks for their tables (`search_path`). Each is
    /// found at `<NAME>_URL`, which is among its secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<DatabaseName, String>,
    /// How an instance is known to be well.
    pub health: Health,
    /// How an instance is taken out of service.
    pub stop: Stop,
    /// What an instance may use up.
    pub limits: Limits,
    /// Only one instance may run at a time, because it owns something that cannot be shared (a
    /// port, a data folder). Rolled out stop-first.
    pub exclusive: bool,
    /// How often a person asked for a restart; part of the revision, so that a restart is a
    /// rollout like any other.
    pub restarts: u32,
    /// It is started once and ends; a job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What it speaks on its port.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// It speaks TLS on its port, and the edge makes sure that it is the one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// How the edge speaks TLS to an instance. The edge reads the files, and again when they change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The name that its certificate must be for.
    pub name: String,
    /// A file of PEM with the roots that its certificate may hang on, by absolute path.
    pub ca: String,
    /// Files of PEM with the certificate and the key by which the edge proves who it is, by
    /// absolute path.
    pub own: Option<(String, String)>,
}

/// Whether nothing is said.
pub(crate) fn is_default<T: Default + PartialEq>(it: &T) -> bool {
    *it == T::default()
}

/// What an instance speaks on its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1; calls of gRPC and nothing else go over HTTP/2.
    #[default]
    Http,
    /// HTTP/2 without TLS, for everything but upgrades.
    H2c,
    /// Not HTTP: bytes both ways.
    Tcp,
}

impl Protocol {
    /// The words of the stack file.
    pub const NAMES: &[&str] = &["http", "h2c", "tcp"];

    /// What the word means; anything unknown is the default.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "h2c" => Self::H2c,
            "tcp" => Self::Tcp,
            _ => Self::Http,
        }
    }

    /// The word of the stack file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Tcp => "tcp",
        }
    }
}

/// A secret: where it comes from, never what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Where its content is read when a change is handed in.
    pub from: SecretSource,
    /// It is also handed over in the environment.
    pub in_env: bool,
    /// What was read, as a digest that only this machine can make; none before it was read.
    pub digest: Option<Digest>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// A variable in the environment of whoever hands the change in.
    Env(String),
    /// A file, by its absolute path.
    File(String),
    /// A file encrypted with age, by its absolute path.
    Age(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Age(path) => write!(f, "age:{path}"),
        }
    }
}

/// The variables that are replaced in arguments, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `PORT`: where the instance listens.
    pub port: u16,
    /// `CONFIGURATION_DIRECTORY`: the folder of its configuration files, if it has any.
    pub config: Option<String>,
    /// `CREDENTIALS_DIRECTORY`: the folder of its secrets, if it has any.
    pub secrets: Option<String>,
}

impl Arguments {
    /// The variables by name.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<&'static str, String> {
        let port = Some(("PORT", self.port.to_string()));
        let config = self.config.clone().map(|path| ("CONFIGURATION_DIRECTORY", path));
        let secrets = self.secrets.clone().map(|path| ("CREDENTIALS_DIRECTORY", path));
        port.into_iter().chain(config).chain(secrets).collect()
    }

    /// A command with every `$NAME` and `${NAME}` of these replaced. No other variable is, as no
    /// shell is involved.
    #[must_use]
    pub fn fill(&self, command: &[String]) -> Vec<String> {
        let variables = self.variables();
        command.iter().map(|argument| filled(argument, &variables)).collect()
    }
}

impl Workload {
    /// The content address of this workload: equal workloads, equal digests.
    #[must_use]
    pub fn digest(&self) -> Digest {
        // JSON of ordered maps is a stable text; a field added later changes the digest of every
        // workload once, which only means one more rollout.
        let text = serde_json::to_vec(self).expect("a workload has only text keys");
        Digest::of(&text)
    }
}

fn filled(argument: &str, variables: &BTreeMap<&'static str, String>) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let found = variables.iter().find_map(|(name, value)| {
            let after = from.get(1..)?;
            let bare = after.strip_prefix(name).filter(|after| !after.starts_with(continues_name));
            let braced = || after.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}');
            Some((value, bare.or_else(braced)?))
        });
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `$PORTAL` is another variable than `$PORT`.
fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// How an instance is known to be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked. `None`: a TCP connection where the service is routed or used by another,
    /// else that the process lives.
    pub probe: Option<Probe>,
    /// Time between two probes of an instance that is known to be well.
    pub interval: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    /// Successes in a row that make it healthy.
    pub healthy_after: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_after: u32,
}

impl Health {
    /// The command that is run to ask, if one is.
    #[must_use]
    pub fn command(&self) -> Option<&Vec<String>> {
        match &self.probe {
            Some(Probe::Exec { command }) => Some(command),
            Some(
                Probe::Http { .. }
                | Probe::Grpc { .. }
                | Probe::Tcp
                | Probe::Notify
                | Probe::Process,
            )
            | None => None,
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }
}

/// One question whose answer says whether an instance is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// `GET path` answers 200 to 399.
    Http {
        /// The path asked for, with a leading slash.
        path: String,
    },
    /// The call `grpc.health.v1.Health/Check` is answered `SERVING`.
    Grpc {
        /// The service of gRPC that is asked about; empty: the server as a whole.
        service: String,
    },
    /// The port accepts a connection.
    Tcp,
    /// The command ends with exit status 0; run by the shim, in the instance's folder and
    /// environment.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// The instance said `READY=1` on `$NOTIFY_SOCKET`, and keeps its watchdog alive if it uses
    /// one.
    Notify,
    /// The process lives.
    Process,
}

impl Probe {
    /// The probe of an instance: its command is filled in like `run`.
    #[must_use]
    pub fn of(&self, arguments: &Arguments) -> Self {
        match self {
            Self::Exec { command } => Self::Exec { command: arguments.fill(command) },
            Self::Http { .. } | Self::Grpc { .. } | Self::Tcp | Self::Notify | Self::Process => {
                self.clone()
            }
        }
    }
}

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// SIGTERM
    Term,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGHUP
    Hup,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

/// How an instance is taken out of service: unrouted, drained, asked to end, killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// What asks it to end.
    pub signal: Signal,
    /// Time between that signal and the kill of its whole process tree.
    pub grace: Duration,
    /// How long its running requests may take once it gets no new ones.
    pub drain: Duration,
    /// The same for upgraded connections (WebSocket).
    pub drain_long_lived: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: Signal::Term,
            grace: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(300),
        }
    }
}

/// What one instance may use up; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Resident memory of its whole process tree, in bytes.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one core.
    pub cpu_milli: Option<u32>,
    /// Open files per process.
    pub files: Option<u64>,
}

/// How a new revision takes over from the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The shape of the take-over.
    pub strategy: Strategy,
    /// How long a new instance must be healthy before it counts.
    pub min_ready: Duration,
    /// How long one instance may take to become healthy.
    pub start_deadline: Duration,
    /// How long a release may go without progress before it is taken back.
    pub progress_deadline: Duration,
    /// Failed starts of new instances that are tolerated; `None`: the larger of 3 and half of the
    /// replicas.
    pub failure_budget: Option<u32>,
    /// How long the old revision stays serving-ready after all traffic has moved.
    pub bake: Duration,
    /// A failing release goes back on its own.
    pub auto_rollback: bool,
    /// How its requests are judged.
    #[serde(default)]
    pub analysis: Analysis,
    /// What else is asked about it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckName, Check>,
    /// Callers that are replaced in the same release reach its new revision from their new ones,
    /// and its old revision from their old ones.
    #[serde(default)]
    pub affinity: bool,
    /// Which single requests meet the new revision.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exposed: Exposed,
}

/// How a new revision is judged by its requests, beside those of the revision it replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// How much worse it may be.
    pub tolerance: Tolerance,
    /// Requests that a step of a canary must have seen; `None`: by how rarely the stable revision
    /// fails.
    pub min_requests: Option<u64>,
    /// What happens to a step that does not see them.
    pub no_data: NoData,
    /// Answers of an instance that has not been healthy for so long do not count as slow.
    pub warm_up: Duration,
    /// Whether slow answers count at all.
    pub latency: bool,
}

/// The relative risk that is tolerated, in thousandths: 2000 is twice the stable revision's rate
/// of bad events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tolerance(pub u32);

impl Tolerance {
    /// So much more than the stable revision.
    #[must_use]
    pub fn more(by: Weight) -> Self {
        Self(1_000 + u32::from(by.0) / 10)
    }

    /// How much more that is.
    #[must_use]
    pub fn as_more(self) -> Weight {
        Weight(u16::try_from(self.0.saturating_sub(1_000) * 10).unwrap_or(u16::MAX))
    }

    /// As a factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// What happens to a step that is over without having seen enough requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// The release is held there, and says so.
    #[default]
    Hold,
    /// It goes on.
    Promote,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            tolerance: Tolerance(2_000),
            min_requests: None,
            no_data: NoData::Hold,
            warm_up: Duration::from_secs(30),
            latency: true,
        }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            min_ready: Duration::from_secs(10),
            start_deadline: Duration::from_secs(300),
            progress_deadline: Duration::from_secs(600),
            failure_budget: None,
            bake: Duration::from_secs(1800),
            auto_rollback: true,
            analysis: Analysis::default(),
            checks: BTreeMap::new(),
            affinity: false,
            exposed: Exposed::default(),
        }
    }
}

/// The shape of a take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Instances are replaced a few at a time.
    Rolling {
        /// How many instances may run beyond `replicas`.
        max_surge: Share,
        /// How many of `replicas` may be missing meanwhile.
        max_unavailable: Share,
    },
    /// A whole second pool starts, then all traffic moves at once.
    BlueGreen {
        /// A host name under which the new revision can be looked at before the switch.
        preview: Option<String>,
    },
    /// Traffic moves by steps, each of them judged.
    Canary {
        /// Rising exposures; the last step before all traffic. May be empty.
        steps: Vec<Step>,
    },
}

impl Default for Strategy {
    fn default() -> Self {
        Self::Rolling { max_surge: Share::Percent(Weight(2_500)), max_unavailable: Share::Count(0) }
    }
}

/// One step of a canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// How much of the service is the new revision.
    pub exposure: Exposure,
    /// How long it is watched, in healthy time, before the next step.
    pub bake: Duration,
    /// Somebody must approve before the next step.
    #[serde(default, deserialize_with = "saved_gate")]
    pub gate: Option<Gate>,
}

/// How much of a service is the new revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exposure {
    /// This part of the traffic, on as many instances as that part needs.
    Weight(Weight),
    /// This many instances, each with an even share of the traffic.
    Instances(u32),
}

/// A part of the whole in hundredths of a percent: 0 to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Weight {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// `part` of `whole`, rounded down, at most everything. Nothing when `whole` is 0.
    #[must_use]
    pub fn of(part: u32, whole: u32) -> Self {
        let all = u64::from(Self::ALL.0);
        let share = (u64::from(part) * all).checked_div(u64::from(whole)).unwrap_or(0).min(all);
        Self(u16::try_from(share).expect("at most 10,000"))
    }

    /// What is left of everything.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(Self::ALL.0.saturating_sub(self.0))
    }

    /// This part of `count`, rounded up.
    #[must_use]
    pub fn ceil(self, count: u32) -> u32 {
        let part = (u64::from(self.0) * u64::from(count)).div_ceil(u64::from(Self::ALL.0));
        u32::try_from(part).unwrap_or(u32::MAX)
    }

    /// This part of `count`, rounded down.
    #[must_use]
    pub fn floor(self, count: u32) -> u32 {
        let part = u64::from(self.0) * u64::from(count) / u64::from(Self::ALL.0);
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{whole} %"),
            (_, 0) => write!(f, "{whole}.{} %", part / 10),
            _ => write!(f, "{whole}.{part:02} %"),
        }
    }
}

/// A number of instances, or a part of the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// That many instances.
    Count(u32),
    /// That part of the replicas.
    Percent(Weight),
}

impl Share {
    /// The share of `replicas`, rounded up.
    #[must_use]
    pub fn ceil(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(part) => part.ceil(replicas),
        }
    }

    /// The share of `replicas`, rounded down.
    #[must_use]
    pub fn floor(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(part) => part.floor(replicas),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(part) => part.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s40_only_the_port_is_replaced_in_arguments() {
        for (argument, expected) in [
            ("$PORT", "8080"),
            ("--listen=:${PORT}/x", "--listen=:8080/x"),
            ("$PORT$PORT", "80808080"),
            ("$PORTAL $HOME ${PORT $$PORT $", "$PORTAL $HOME ${PORT $8080 $"),
            ("é$PORTé", "é8080é"),
        ] {
            let arguments = Arguments { port: 8080, ..Arguments::default() };
            assert_eq!(arguments.fill(&[argument.to_owned()]), [expected]);
        }
    }

    #[test]
    fn weights_round_as_their_names_say() {
        assert_eq!(Weight(100).ceil(4), 1);
        assert_eq!(Weight(2_500).floor(3), 0);
        assert_eq!(Weight::of(1, 3), Weight(3_333));
        assert_eq!(Weight::of(5, 3), Weight::ALL);
        assert_eq!(Weight::of(5, 0), Weight::NONE);
        assert_eq!(
            [Weight(100), Weight(50), Weight(1), Weight(10_000)].map(|w| w.to_string()),
            ["1 %", "0.5 %", "0.01 %", "100 %"]
        );
    }
}
