//! A cgroup of its own for each instance, where this machine lets us have one.
//!
//! It makes two things exact that are best effort without it: who belongs to an instance, and
//! what the instance may use up. Only version 2 is used; without it everything still works.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use evenkeel_kernel::model::{Digest, InstanceId, Limits};

/// Where version 2 may be mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The folder that holds all our leaves.
const OURS: &str = "evenkeel";
/// How often the removal of a leaf is tried; one that stays is empty, and found again.
const REMOVE_TRIES_MAX: u32 = 20;
/// The pause between two tries.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);
/// The period over which processor time is counted, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// The cgroup of one instance.
#[derive(Debug)]
pub(crate) struct Leaf {
    path: PathBuf,
    /// The memory limit is the kernel's to enforce.
    pub(crate) limits_memory: bool,
    /// The processor limit is the kernel's to enforce.
    pub(crate) limits_cpu: bool,
}

impl Leaf {
    /// Makes the leaf of an instance, or finds it again. `None` where that is not possible.
    pub(crate) fn create(home: &Path, instance: &InstanceId, limits: &Limits) -> Option<Self> {
        let base = base()?;
        let path = base.join(leaf_name(home, instance));
        make(&path).ok()?;
        // A cgroup without this file could not be emptied at once (before Linux 5.14).
        path.join("cgroup.kill").exists().then_some(())?;
        let mut leaf = Self { path, limits_memory: false, limits_cpu: false };
        leaf.limit(limits);
        Some(leaf)
    }

    /// Sets what the instance may use up, as far as the controllers are here.
    pub(crate) fn limit(&mut self, limits: &Limits) {
        let memory = limits.memory.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
        self.limits_memory = self.write("memory.max", &memory).is_ok();
        if self.limits_memory {
            // The instance dies as a whole: half of it would be in no state anybody designed.
            let _best_effort = self.write("memory.oom.group", "1");
        }
        let quota = limits.cpu_milli.map_or_else(
            || "max".to_owned(),
            |milli| (u64::from(milli) * CPU_PERIOD_US / 1000).to_string(),
        );
        self.limits_cpu = self.write("cpu.max", &format!("{quota} {CPU_PERIOD_US}")).is_ok();
    }

    /// Its folder, as a handle.
    pub(crate) fn folder(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// What a process writes `0` to in order to join.
    pub(crate) fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// The processes in it, as numbers that hold for this moment only.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills everything in it at once.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// How often the kernel killed in it because of the memory limit.
    pub(crate) fn memory_kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Removes it. What was killed in it a moment ago may still be on its way out.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for _ in 0..REMOVE_TRIES_MAX {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                other => return other,
            }
            thread::sleep(REMOVE_PAUSE);
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        write(&self.path.join(name), value)
    }
}

/// Processor time that was used so far in the leaf of an instance, in microseconds. `None` where it
/// has none.
pub(crate) fn used(home: &Path, instance: &InstanceId) -> Option<u64> {
    let path = base()?.join(leaf_name(home, instance)).join("cpu.stat");
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()
}

fn leaf_name(home: &Path, instance: &InstanceId) -> String {
    let home = Digest::of(home.as_os_str().as_encoded_bytes());
    format!("{}-{instance}", &home.hex()[..8])
}

/// The folder of all our leaves: made if need be, with the controllers we may use switched on.
/// Looked for once: a shim inherits what its nursery has found.
pub(crate) fn base() -> Option<PathBuf> {
    static BASE: OnceLock<Option<PathBuf>> = OnceLock::new();
    BASE.get_or_init(find_base).clone()
}

fn find_base() -> Option<PathBuf> {
    let mount = MOUNTS.iter().map(Path::new).find(|m| m.join("cgroup.controllers").exists())?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    // Below the root our instances outlive whatever unit or session started us; only root may.
    // Anybody else uses the cgroup that was delegated to them.
    [mount.to_owned(), mount.join(own)].into_iter().find_map(|parent| {
        let base = parent.join(OURS);
        make(&base).ok()?;
        rustix::fs::access(&base, rustix::fs::Access::WRITE_OK).ok()?;
        for above in [&parent, &base] {
            switch_on(above);
        }
        Some(base)
    })
}

/// Gives what is below a cgroup the controllers that it has itself. Each write stops the whole
/// machine's cgroups for a moment, so nothing is written twice.
fn switch_on(cgroup: &Path) {
    let has = words(&cgroup.join("cgroup.controllers"));
    let gives = words(&cgroup.join("cgroup.subtree_control"));
    for controller in ["memory", "cpu"].map(str::to_owned) {
        if has.contains(&controller) && !gives.contains(&controller) {
            // Refused where processes live beside our folder.
            let _best_effort =
                write(&cgroup.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
}

/// The controllers that our leaves have.
pub(crate) fn controllers(base: &Path) -> Vec<String> {
    words(&base.join("cgroup.subtree_control"))
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes one value; a control file is never created, so that nothing is left where there is no
/// cgroup.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
