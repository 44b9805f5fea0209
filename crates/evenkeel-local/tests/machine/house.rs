//! A home folder with a platform in it, and everything a test asks of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_kernel::layout;
use evenkeel_kernel::model::{
    Digest, Epoch, Generation, Health, InstanceId, Limits, PoolId, Probe, RevisionNumber, Stop,
    Workload,
};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want::{self, Slot};
use evenkeel_kernel::world::{Fence, Instance, InstancePhase, Observed, Platform};
use evenkeel_local::{Config, Local, Routed};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct House {
    since: Instant,
    dir: tempfile::TempDir,
    local: Mutex<Option<Local>>,
    /// 0: not routed, 1: routed, 2: unknown.
    pub(crate) routed: Arc<AtomicU8>,
    pub(crate) asked: Arc<AtomicUsize>,
}

pub(crate) fn fence(epoch: u64, generation: u64) -> Fence {
    Fence { epoch: Epoch(epoch), generation: Generation(generation) }
}

/// A port that is free now, outside of the range that the system gives away.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 150).unwrap() * 64;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(LOOK);
    }
    panic!("it never came true: {what}");
}

/// Whether a process runs: it exists and has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Kills a process, and waits until it is gone.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    until("the killed one is gone", || (!runs(pid)).then_some(()));
}

/// The number that somebody wrote into a file.
pub(crate) fn pid_in(path: &Path) -> u32 {
    until(&format!("a pid in {}", path.display()), || {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

pub(crate) fn pool_id() -> PoolId {
    PoolId::new(&"web".parse().unwrap(), RevisionNumber(1))
}

pub(crate) fn instance_id() -> InstanceId {
    pool_id().instance(1)
}

impl House {
    pub(crate) fn new() -> Self {
        let house = Self {
            since: Instant::now(),
            dir: tempfile::tempdir().unwrap(),
            local: Mutex::new(None),
            routed: Arc::default(),
            asked: Arc::default(),
        };
        fs::create_dir(house.path("work")).unwrap();
        house.open();
        house
    }

    /// How long it has been there.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A path in the house.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path in the instances' working folder.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path("work").join(name)
    }

    /// Opens the platform anew; a former one is dropped.
    pub(crate) fn open(&self) {
        self.close();
        let shim = vec![std::env::current_exe().unwrap().into(), "shim".into()];
        let mut config = Config::new(self.home(), shim);
        config.env.insert("TEST_HOME".to_owned(), self.home().display().to_string());
        *self.local.lock().unwrap() = Some(Local::open(config).unwrap());
    }

    pub(crate) fn close(&self) {
        let local = self.local.lock().unwrap().take();
        drop(local);
    }

    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&Local) -> T) -> T {
        use_it(self.local.lock().unwrap().as_ref().unwrap())
    }

    /// A pool of one instance that runs a line of shell, by generation 1.
    pub(crate) fn shell(&self, line: &str) -> want::Pool {
        self.pool(&["sh", "-c", line])
    }

    pub(crate) fn pool(&self, run: &[&str]) -> want::Pool {
        let workload = Workload {
            run: run.iter().map(|&word| word.to_owned()).collect(),
            dir: self.path("work").display().to_string(),
            env: BTreeMap::new(),
            env_files: Vec::new(),
            files: BTreeMap::new(),
            databases: BTreeMap::new(),
            uses: std::collections::BTreeSet::new(),
            health: Health { interval: Duration::from_millis(100), ..Health::default() },
            stop: Stop { grace: Duration::from_secs(10), ..Stop::default() },
            limits: Limits::default(),
            exclusive: false,
            config: Vec::new(),
            secrets: BTreeMap::new(),
            restarts: 0,
            once: false,
            protocol: evenkeel_kernel::model::Protocol::default(),
            tls: None,
        };
        want::Pool {
            id: pool_id(),
            workload: Arc::new(workload),
            probe: Probe::Process,
            surroundings: BTreeMap::new(),
            slots: BTreeMap::from([(1, Slot { port: free_port() })]),
            measured: false,
            fence: fence(1, 1),
        }
    }

    pub(crate) fn want(&self, pool: &want::Pool) {
        let (state, asked) = (Arc::clone(&self.routed), Arc::clone(&self.asked));
        let routed: Routed = Arc::new(move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            match state.load(Ordering::SeqCst) {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            }
        });
        self.with(|local| local.make_true(pool.clone(), routed));
    }

    /// Wants the same pool with nothing in it, by the next generation.
    pub(crate) fn want_nothing(&self, pool: &want::Pool) {
        let mut pool = pool.clone();
        pool.slots.clear();
        pool.fence.generation = pool.fence.generation.next();
        self.want(&pool);
    }

    pub(crate) fn platform(&self) -> Platform {
        self.with(|local| {
            local.changed();
            match local.observe(Timestamp(1_000_000)) {
                Observed::Known(platform, _) => platform,
                Observed::Unknown(why) => panic!("{why}"),
            }
        })
    }

    pub(crate) fn instance(&self) -> Option<Instance> {
        self.platform().instances.remove(&instance_id())
    }

    pub(crate) fn until_phase(&self, phase: InstancePhase) -> Instance {
        until(&format!("the instance is {phase:?}"), || {
            self.instance().filter(|instance| instance.phase == phase)
        })
    }

    /// The running process.
    pub(crate) fn until_running(&self) -> u32 {
        self.until_phase(InstancePhase::Running).pid.unwrap()
    }

    /// Wants the pool, and waits until its instance runs.
    pub(crate) fn run(&self, pool: &want::Pool) -> u32 {
        self.want(pool);
        self.until_running()
    }

    pub(crate) fn until_absent(&self) {
        until("the instance is absent", || self.instance().is_none().then_some(()));
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home().join(layout::instance_dir(&instance_id()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("out.log")).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Value {
        let text = fs::read_to_string(self.folder().join("status")).unwrap();
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    }

    pub(crate) fn write_status(&self, status: &Value) {
        let line = status.to_string();
        let digest = Digest::of(line.as_bytes());
        fs::write(self.folder().join("status"), format!("{line}\n{}\n", digest.hex())).unwrap();
    }

    pub(crate) fn shim(&self) -> u32 {
        u32::try_from(self.status()["shim"]["pid"].as_u64().unwrap()).unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home().join(layout::shim_socket(&instance_id()))
    }

    /// Asks the shim something.
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    pub(crate) fn until_answer(&self, line: &str, expected: &str) {
        until(&format!("{line} is answered with {expected}"), || {
            (self.ask(line) == expected).then_some(())
        });
    }

    /// Every living process that was started in this house, shims included; but not the nursery,
    /// which lives as long as the driver.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.all_processes().into_iter().filter(|&pid| !is_nursery(pid)).collect()
    }

    /// The process from which the driver has its shims forked.
    pub(crate) fn nursery(&self) -> Option<u32> {
        self.all_processes().into_iter().find(|&pid| is_nursery(pid))
    }

    fn all_processes(&self) -> Vec<u32> {
        let home = self.home().display().to_string();
        let marks = [format!("TEST_HOME={home}"), home];
        let has_mark = |pid: u32, file: &str| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.split(|&byte| byte == 0).any(|part| marks.iter().any(|m| m.as_bytes() == part))
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&pid| pid != std::process::id() && runs(pid))
            .filter(|&pid| has_mark(pid, "environ") || has_mark(pid, "cmdline"))
            .collect()
    }
}

fn is_nursery(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "ek-nursery")
}

impl House {
    /// A shim that was killed could not remove the cgroup of its instance.
    fn remove_cgroups(&self) {
        let home = Digest::of(self.home().as_os_str().as_encoded_bytes());
        for mount in ["/sys/fs/cgroup/evenkeel", "/sys/fs/cgroup/unified/evenkeel"] {
            let leaves = fs::read_dir(mount).into_iter().flatten().flatten();
            for leaf in leaves {
                if leaf.file_name().to_string_lossy().starts_with(&home.hex()[..8]) {
                    // The killed may still be on their way out.
                    let removed = || fs::remove_dir(leaf.path()).is_ok() || !leaf.path().exists();
                    let _in_time = (0..100).any(|_| {
                        thread::sleep(LOOK / 10);
                        removed()
                    });
                }
            }
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Ok(mut local) = self.local.lock() {
            drop(local.take());
        }
        // Until none is left: a shim that lives starts its process again.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return self.remove_cgroups();
            }
            for pid in left {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _gone_meanwhile = rustix::process::kill_process(pid, Signal::KILL);
            }
            thread::sleep(LOOK);
        }
    }
}
