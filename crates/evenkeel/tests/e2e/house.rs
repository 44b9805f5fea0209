//! A house of its own for each test: a home, a folder with a stack file, a free port, and the real
//! program. When it is left, everything is brought down, and no process of it may survive.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{LOOK, PATIENCE, free_port, kill, runs, signal, until, within};

/// Time between two looks where each starts a process.
const LOOK_DEAR: Duration = Duration::from_millis(60);
/// How long processes may take to end once they were told to.
const END_MAX: Duration = Duration::from_secs(5);
/// Lines of each log that a failed test shows.
const LINES_SHOWN: usize = 40;

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The code is as promised.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// It says this somewhere.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.out.contains(text) || self.err.contains(text);
        assert!(said, "{text:?} is not in\n{}\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command that still runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    what: String,
    out: Option<thread::JoinHandle<String>>,
    err: Option<thread::JoinHandle<String>>,
}

impl Running {
    /// Waits until it ends.
    #[track_caller]
    pub(crate) fn wait(self) -> Said {
        let what = self.what.clone();
        let (said, ended) = self.end();
        assert!(ended, "`{what}` did not end in {PATIENCE:?}; it said {said:?}");
        said
    }

    /// The same; one that does not end is killed.
    fn end(mut self) -> (Said, bool) {
        let status = within(PATIENCE, LOOK, || self.child.try_wait().ok().flatten());
        if status.is_none() {
            self.child.kill().ok();
        }
        let text = |pipe: Option<thread::JoinHandle<String>>| {
            pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default()
        };
        let (out, err) = (text(self.out.take()), text(self.err.take()));
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        (Said { code, out, err }, status.is_some())
    }
}

#[derive(Debug)]
pub(crate) struct House {
    dir: tempfile::TempDir,
    pub(crate) listen: SocketAddr,
    /// It was brought down by the test itself.
    down: Mutex<bool>,
    /// The process in whose view the home is a small disk of its own.
    disk: Option<Child>,
    /// What its commands, and the roles that they start, find in their environment besides.
    pub(crate) env: BTreeMap<String, String>,
    /// The program that it runs.
    pub(crate) program: PathBuf,
}

impl House {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ek-").tempdir_in("/tmp").unwrap();
        fs::create_dir(dir.path().join("s")).unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let program = env!("CARGO_BIN_EXE_evenkeel").into();
        Self { dir, listen, down: Mutex::new(false), disk: None, env: BTreeMap::new(), program }
    }

    /// A house whose home is a disk of so many MiB; none where that cannot be had.
    pub(crate) fn on_a_small_disk(mib: u32) -> Option<Self> {
        let mut house = Self::new();
        fs::create_dir(house.home()).unwrap();
        let mount =
            format!("mount -t tmpfs -o size={mib}m,mode=700 none \"$0\" && echo ready && cat");
        let mut disk = Command::new("unshare")
            .args(if rustix::process::geteuid().is_root() { &["-m"][..] } else { &["-rm"] })
            .args(["sh", "-c", &mount])
            .arg(house.home())
            // It ends when we do.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut word = [0; 5];
        let ready = disk.stdout.as_mut()?.read_exact(&mut word).is_ok();
        if !ready {
            disk.wait().unwrap();
            return None;
        }
        house.disk = Some(disk);
        Some(house)
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("h")
    }

    /// A file of the home, as we can see it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let home = match &self.disk {
            Some(disk) => {
                let root = PathBuf::from(format!("/proc/{}/root", disk.id()));
                root.join(self.home().strip_prefix("/").unwrap())
            }
            None => self.home(),
        };
        home.join(name)
    }

    /// The program, seeing the home as it is meant to be seen.
    fn command(&self) -> Command {
        let program = &self.program;
        let Some(disk) = &self.disk else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        let whose: &[&str] = match rustix::process::geteuid().is_root() {
            true => &["-m"],
            false => &["-m", "-U", "--preserve-credentials"],
        };
        command.args(["-t", &disk.id().to_string()]).args(whose);
        // Entering leads to the root folder.
        command.args(["--", "sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(self.folder());
        command.arg(program);
        command
    }

    /// The folder of the stack file.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Writes a file beside the stack file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the stack file; what it listens on is added.
    pub(crate) fn stack(&self, text: &str) {
        let head = format!("stack = \"house\"\n[edge]\nlisten = [\"{}\"]\n", self.listen);
        self.write("evenkeel.toml", &format!("{head}{text}"));
    }

    /// Starts a command, without waiting.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self
            .command()
            .args(args)
            .current_dir(self.folder())
            .env("EVENKEEL_HOME", self.home())
            .env("NO_COLOR", "1")
            .envs(&self.env)
            // Where some tests put a key for age, and all others have none.
            .env("EVENKEEL_AGE_IDENTITY", self.folder().join("identity"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out, err) = (Some(listen_to(out)), Some(listen_to(err)));
        Running { child, what: args.join(" "), out, err }
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.start(args).wait()
    }

    /// Brings the stack up and waits until it is promoted.
    #[track_caller]
    pub(crate) fn up(&self) -> Said {
        *self.down.lock().unwrap() = false;
        self.run(&["up", "--yes"]).exits(0)
    }

    /// Releases the stack file as it is now.
    #[track_caller]
    pub(crate) fn apply(&self) -> Said {
        self.run(&["apply", "--yes"])
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.run(&["status", "--json"]).exits(0).json()
    }

    /// Waits until the status shows something. Control may be away meanwhile.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let mut last = String::new();
        let found = within(PATIENCE, LOOK_DEAR, || {
            let said = self.run(&["status", "--json"]);
            last.clone_from(&said.out);
            serde_json::from_str(&said.out).ok().as_ref().and_then(&look)
        });
        found.unwrap_or_else(|| panic!("it never came true: {what}; the last status: {last}"))
    }

    /// Waits until no release is under way, and every service is whole.
    #[track_caller]
    pub(crate) fn until_settled(&self) {
        self.until("the house is settled", |status| {
            let whole = |service: &Value| {
                let pools = service["pools"].as_array()?;
                let alone = pools.len() == 1;
                (alone && service["ready"] == service["replicas"]).then_some(())
            };
            let all = status["services"].as_array()?.iter().all(|it| whole(it).is_some());
            (all && status["release"].is_null()).then_some(())
        });
    }

    /// Waits until the release is in this phase.
    #[track_caller]
    pub(crate) fn until_phase(&self, phase: &str) {
        self.until(phase, |status| (status["release"]["phase"] == phase).then_some(()));
    }

    /// Waits until a pool of the service has at least this weight.
    #[track_caller]
    pub(crate) fn until_weight(&self, service: &str, revision: &str, least: f64) {
        self.until(&format!("{service} {revision} has {least} %"), |status| {
            let pool = pool(status, service, revision)?;
            (pool["weight"].as_f64()? >= least).then_some(())
        });
    }

    /// How the newest release ended.
    #[track_caller]
    pub(crate) fn last_release(&self) -> Value {
        self.run(&["history", "--json"]).exits(0).json()[0].clone()
    }

    /// The process of a role.
    pub(crate) fn pid(&self, role: &str) -> Option<u32> {
        let text = fs::read_to_string(self.file(&format!("run/{role}.pid"))).ok()?;
        text.trim().parse().ok().filter(|pid| runs(*pid))
    }

    /// The shim of an instance, as it has written down itself.
    pub(crate) fn shim(&self, instance: &str) -> Option<u32> {
        let text = fs::read_to_string(self.file(&format!("instances/{instance}/status"))).ok()?;
        let status: Value = serde_json::from_str(text.lines().next()?).ok()?;
        u32::try_from(status["shim"]["pid"].as_u64()?).ok()
    }

    /// Kills a role, and waits until it is gone. Returns which process it was.
    #[track_caller]
    pub(crate) fn kill(&self, role: &str) -> u32 {
        let pid = until(&format!("a {role} runs"), || self.pid(role));
        kill(pid);
        pid
    }

    /// Waits until a role runs in another process than `former`.
    #[track_caller]
    pub(crate) fn until_back(&self, role: &str, former: u32) -> u32 {
        until(&format!("the {role} is back"), || self.pid(role).filter(|pid| *pid != former))
    }

    /// The pids of the instances of a service by their names.
    #[track_caller]
    pub(crate) fn instances(&self, service: &str) -> BTreeMap<String, u32> {
        instances(&self.status(), service)
    }

    /// Brings everything down, and sees that nothing is left.
    #[track_caller]
    pub(crate) fn bring_down(&self) {
        self.run(&["down"]).exits(0);
        *self.down.lock().unwrap() = true;
        let left = self.survivors();
        assert!(left.is_empty(), "these survived: {left:#?}");
    }

    /// Every process that belongs to this house, with its command line. Zombies are gone already;
    /// who inherits them reaps them.
    pub(crate) fn processes(&self) -> BTreeMap<u32, String> {
        let own = [Some(std::process::id()), self.disk.as_ref().map(Child::id)];
        let mark = self.dir.path().as_os_str().as_encoded_bytes();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = pids.filter(|pid| !own.contains(&Some(*pid)) && runs(*pid)).filter_map(|pid| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let place = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let command = read("cmdline");
            let named = |text: &[u8]| text.windows(mark.len()).any(|part| part == mark);
            let is_ours = named(&command)
                || named(&read("environ"))
                || named(place.as_os_str().as_encoded_bytes());
            is_ours.then(|| (pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        });
        ours.collect()
    }

    /// The processes that have not ended after a while.
    fn survivors(&self) -> BTreeMap<u32, String> {
        within(END_MAX, LOOK, || self.processes().is_empty().then(BTreeMap::new))
            .unwrap_or_else(|| self.processes())
    }

    /// The end of every role's log.
    pub(crate) fn logs(&self) -> String {
        let logs = ["keeper", "control", "edge"].map(|role| {
            let log = fs::read_to_string(self.file(&format!("logs/{role}.log")));
            let log = log.unwrap_or_default();
            let skipped = log.lines().count().saturating_sub(LINES_SHOWN);
            let end: Vec<&str> = log.lines().skip(skipped).collect();
            format!("--- {role}\n{}\n", end.join("\n"))
        });
        logs.concat()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            eprintln!("{}", self.logs());
            if std::env::var_os("EVENKEEL_TEST_KEEP").is_some() {
                eprintln!("kept: {}", self.dir.path().display());
                self.dir.disable_cleanup(true);
            }
        }
        let mut said = None;
        if !*self.down.lock().unwrap() {
            // A test may have failed while it held a role up.
            for pid in self.processes().keys() {
                signal(*pid, Signal::CONT);
            }
            said = Some(self.start(&["down"]).end().0);
        }
        let left = self.survivors();
        // Only what belongs to this house.
        for pid in left.keys() {
            signal(*pid, Signal::KILL);
        }
        if let Some(mut disk) = self.disk.take() {
            drop(disk.stdin.take());
            disk.wait().ok();
        }
        if !failed {
            assert!(left.is_empty(), "these survived: {left:#?}; down said {said:?}");
            assert!(said.is_none_or(|said| said.code == 0), "down failed: {}", self.logs());
        }
    }
}

/// The pids of the instances of a service that a status shows.
pub(crate) fn instances(status: &Value, service: &str) -> BTreeMap<String, u32> {
    let pools = self::service(status, service).and_then(|it| it["pools"].as_array().cloned());
    let pools = pools.unwrap_or_default();
    let all = pools.iter().filter_map(|pool| pool["instances"].as_array()).flatten();
    let pids = all.filter_map(|it| {
        let pid = u32::try_from(it["pid"].as_u64()?).unwrap();
        Some((it["id"].as_str()?.to_owned(), pid))
    });
    pids.collect()
}

pub(crate) fn service<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["services"].as_array()?.iter().find(|service| service["name"] == name)
}

pub(crate) fn pool<'a>(status: &'a Value, name: &str, revision: &str) -> Option<&'a Value> {
    let pools = service(status, name)?["pools"].as_array()?;
    pools.iter().find(|pool| pool["revision"] == revision)
}

fn listen_to(mut pipe: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
