//! What one instance runs: the file that the driver writes and the shim reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_kernel::model::{Arguments, Digest, InstanceId, Limits, Probe, Stop};
use evenkeel_kernel::want;
use evenkeel_kernel::world::Fence;
use serde::{Deserialize, Serialize};

use crate::child::Place;
use crate::folder::Folder;

/// The version of `spec.json` and `status` that this build writes.
pub(crate) const VERSION: u32 = 1;
/// The variable that marks every process of an instance with its incarnation.
pub(crate) const MARKER: &str = "EVENKEEL_INCARNATION";

/// `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) version: u32,
    pub(crate) instance: InstanceId,
    /// Drawn anew for each life of the instance; never used twice.
    pub(crate) incarnation: String,
    pub(crate) run: Vec<String>,
    pub(crate) dir: String,
    /// The whole environment, but for what only the shim knows.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) probe: Probe,
    pub(crate) probe_interval: Duration,
    pub(crate) probe_timeout: Duration,
    pub(crate) stop: Stop,
    pub(crate) limits: Limits,
    /// Pinned files by absolute path.
    pub(crate) files: BTreeMap<String, Digest>,
    /// Those of them that it is configured by.
    #[serde(default)]
    pub(crate) config: Vec<String>,
    /// Its secrets by name: the digest under which each is kept, and whether it is also in the
    /// environment.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, (Digest, bool)>,
    /// Which of them are addresses of databases: where it looks for tables there, and who it says
    /// it is.
    #[serde(default)]
    pub(crate) databases: BTreeMap<String, (String, String)>,
    /// It is started once, and its end is the end.
    #[serde(default)]
    pub(crate) once: bool,
    /// The decision it was written for.
    pub(crate) fence: Fence,
}

impl Spec {
    /// What `instance` of `pool` is to run.
    pub(crate) fn new(
        pool: &want::Pool,
        instance: &InstanceId,
        slot: want::Slot,
        incarnation: String,
        platform: &BTreeMap<String, String>,
        folder: &Folder,
    ) -> Self {
        let workload = &pool.workload;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let arguments = Arguments {
            port: slot.port,
            config: (!workload.config.is_empty()).then(|| text(folder.config())),
            secrets: (!workload.secrets.is_empty()).then(|| text(folder.secrets())),
        };
        let mut env = platform.clone();
        env.extend(pool.surroundings.clone());
        env.extend(workload.env.clone());
        let own = [
            ("EVENKEEL_INSTANCE", instance.to_string()),
            ("EVENKEEL_REVISION", instance.pool.revision.to_string()),
            (MARKER, incarnation.clone()),
        ];
        let own = own.into_iter().chain(arguments.variables());
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        Self {
            version: VERSION,
            instance: instance.clone(),
            incarnation,
            run: arguments.fill(&workload.run),
            dir: workload.dir.clone(),
            env,
            port: slot.port,
            probe: pool.probe.of(&arguments),
            probe_interval: workload.health.interval,
            probe_timeout: workload.health.timeout,
            stop: workload.stop.clone(),
            limits: workload.limits.clone(),
            files: workload.files.clone(),
            config: workload.config.clone(),
            secrets: workload
                .secrets
                .iter()
                .filter_map(|(name, secret)| {
                    Some((name.clone(), (secret.digest.clone()?, secret.in_env)))
                })
                .collect(),
            databases: workload
                .databases
                .iter()
                .map(|(name, path)| {
                    let views = path.split(',').next().unwrap_or_default();
                    let application = format!("{}@{views}", instance.pool.service);
                    (name.url_variable(), (path.clone(), application))
                })
                .collect(),
            once: workload.once,
            fence: pool.fence,
        }
    }

    /// Whether both describe the same, whichever decision they were written for.
    pub(crate) fn same_but_fence(&self, other: &Self) -> bool {
        let fence = self.fence;
        *self == Self { fence, ..other.clone() }
    }

    /// The line in the environment of every process of this incarnation.
    pub(crate) fn marker(&self) -> String {
        format!("{MARKER}={}", self.incarnation)
    }

    /// Where its commands run.
    pub(crate) fn place<'a>(&'a self, home: &'a Path) -> Place<'a> {
        Place {
            home,
            dir: Path::new(&self.dir),
            path: self.env.get("PATH").map(String::as_str),
            files: &self.files,
        }
    }
}
