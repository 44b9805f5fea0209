//! Checks of releases against what they really ask: a Prometheus server, the instances' own pages
//! and counters, and programs.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{House, pool};
use crate::machine::{LOOK, free_port, program, runs, skip, until, within};
use crate::programs::{node, web};

/// A worker's source.
const WORKER: &str = include_str!("programs/worker.js");

/// A canary on two of four workers, with these checks below it.
fn worker(house: &House, env: &str, checks: &str) {
    house.write("worker.js", WORKER);
    house.stack(&format!(
        "[service.worker]\nrun = [\"node\", \"worker.js\"]\nenv = {{ {env} }}\nreplicas = 4\n\
         [service.worker.rollout]\nstrategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"1s\"\n\
         steps = [{{ weight = \"50%\", bake = \"3s\" }}]\n{checks}"
    ));
}

/// A Prometheus server of the test's own, which asks whoever stands in a file.
struct Prometheus {
    child: Child,
    url: String,
    targets: PathBuf,
}

impl Prometheus {
    fn start(house: &House) -> Option<Self> {
        let Some(program) = program("prometheus") else {
            skip("checks against Prometheus: it is not installed (prometheus)");
            return None;
        };
        let folder = house.folder().join("prometheus");
        fs::create_dir(&folder).unwrap();
        let targets = folder.join("targets.json");
        fs::write(&targets, "[]").unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 400ms }}\n\
             scrape_configs:\n- job_name: worker\n  file_sd_configs:\n  - files: [{:?}]\n    \
             refresh_interval: 1s\n",
            targets.display().to_string()
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--query.lookback-delta=3s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        until("Prometheus listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Some(Self { child, url, targets })
    }

    /// Tells it of every instance there is, as long as `running` is not over.
    fn follows(&self, house: &House, over: &std::sync::atomic::AtomicBool) {
        let mut told = String::new();
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            let said = house.run(&["status", "--json"]);
            let status: Value = serde_json::from_str(&said.out).unwrap_or_default();
            let services = status["services"].as_array().cloned().unwrap_or_default();
            let pools = services.iter().filter_map(|it| it["pools"].as_array()).flatten();
            let instances = pools.filter_map(|it| it["instances"].as_array()).flatten();
            let targets: Vec<String> =
                instances.map(|it| format!("\"127.0.0.1:{}\"", it["port"])).collect();
            let list = format!("[{{\"targets\": [{}]}}]", targets.join(", "));
            if list != told {
                // Whole or not at all: it reads the file whenever it changes.
                let part = self.targets.with_extension("part");
                fs::write(&part, &list).unwrap();
                fs::rename(&part, &self.targets).unwrap();
                told = list;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_prometheus_server_is_asked_for_a_number_and_for_counts_of_both_revisions() {
    let house = House::new();
    let Some(prometheus) = Prometheus::start(&house) else { return };
    let checks = format!(
        "[service.worker.rollout.check.queue]\nprometheus = \"{0}\"\n\
         query = \"max(queue_length{{instance=~\\\"$INSTANCES\\\"}})\"\nmax = 10\n\
         every = \"1s\"\nerrors = 100\n\
         [service.worker.rollout.check.jobs]\nprometheus = \"{0}\"\nevery = \"1s\"\nerrors = 100\n\
         total = \"sum(jobs_total{{instance=~\\\"$INSTANCES\\\"}})\"\n\
         bad = \"sum(jobs_failed_total{{instance=~\\\"$INSTANCES\\\"}})\"\n",
        prometheus.url
    );
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| prometheus.follows(&house, &over));
        worker(&house, "VERSION = \"v1\"", &checks);
        house.up();
        worker(&house, "VERSION = \"v2\", QUEUE = 12", &checks);
        house.apply().exits(3).says("check queue failed: it is 12, and must be at most 10");
        worker(&house, "VERSION = \"v3\", LOST = 300", &checks);
        house.apply().exits(3).says("check jobs failed: sum(jobs_failed_total");
        worker(&house, "VERSION = \"v4\", QUEUE = 3", &checks);
        house.apply().exits(0).says("check jobs of worker r4 passes").says("promoted");
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        follower.join().unwrap();
    });
}

#[test]
fn a_worker_is_judged_by_its_own_counters() {
    let house = House::new();
    let checks = "[service.worker.rollout.check.jobs]\nmetrics = \"/metrics\"\nevery = \"1s\"\n\
        errors = 100\ntotal = \"jobs_total\"\nbad = \"jobs_failed_total\"\n";
    worker(&house, "VERSION = \"v1\", LOST = 5", checks);
    house.up();
    worker(&house, "VERSION = \"v2\", LOST = 300", checks);
    let said = house.apply().exits(3).says("check jobs failed: jobs_failed_total is");
    println!("{}", said.out.trim());
    worker(&house, "VERSION = \"v3\", LOST = 5", checks);
    house.apply().exits(0).says("check jobs of worker r3 passes");
    // One that ends by itself is taken back by its exit status, without any check.
    worker(&house, "VERSION = \"v4\", JOBS = 0", checks);
    house.write("worker.js", "setTimeout(() => process.exit(9), 200)");
    house.apply().exits(3).says("exit status 9");
}

#[test]
fn pages_of_the_new_instances_are_asked_before_anybody_is_sent_to_them() {
    let house = House::new();
    let checks = "[service.worker.rollout.check.state]\nhttp = \"/state\"\nwhen = \"before\"\n\
        json = \"/queue/length\"\nmax = 10\nevery = \"1s\"\n\
        [service.worker.rollout.check.version]\nhttp = \"/state\"\nwhen = \"after\"\n\
        json = \"/version\"\nequals = \"v1\"\ndry_run = true\n";
    worker(&house, "VERSION = \"v1\"", checks);
    house.up();
    worker(&house, "VERSION = \"v2\", QUEUE = 50", checks);
    house.apply().exits(3).says("check state failed: it is 50 at 127.0.0.1:");
    assert_eq!(house.last_release()["outcome"], "rolled_back");
    worker(&house, "VERSION = \"v3\"", checks);
    house.apply().exits(0).says("check state of worker r3 passes").says("promoted");
    // What follows a promotion is told by the journal.
    until("the last check is told", || {
        let told = house.run(&["explain", "3"]).exits(0).out;
        told.contains("check version of worker r3 fails (dry run): it is v3 at ").then_some(())
    });
    house.until_settled();
    assert_eq!(house.last_release()["outcome"], "promoted");
}

#[test]
fn a_program_looks_at_a_new_revision_before_anybody_else() {
    let house = House::new();
    house.write(
        "smoke.sh",
        "#!/bin/sh\ncurl -sf \"$EVENKEEL_URL/page\" | grep -q \"version=$1\" || \
         { echo \"$EVENKEEL_REVISION is not $1\"; exit 3; }\n",
    );
    let with = |version: &str| {
        format!(
            "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"1s\"\n\
             [service.web.rollout.check.smoke]\nwhen = \"before\"\nevery = \"1s\"\n\
             command = [\"sh\", \"smoke.sh\", \"{version}\"]"
        )
    };
    web(&house, "VERSION = \"v1\"", 2, &with("v1"));
    house.up();
    web(&house, "VERSION = \"v2\"", 2, &with("v3"));
    let said = house.apply().exits(3);
    said.says("check smoke failed: exit status 3: r2 is not v3");
    // Nobody was ever sent to it.
    let requests = house.last_release()["ledger"]["pools"].as_array().cloned().unwrap();
    let to_new = requests.iter().find(|it| it["revision"] == "r2").unwrap();
    assert_eq!(to_new["requests"], 0);
    web(&house, "VERSION = \"v3\"", 2, &with("v3"));
    house.apply().exits(0);
}

#[test]
fn a_check_ends_with_control_and_is_made_again_by_the_next() {
    let house = House::new();
    // It may run as long as nobody has let it go, and says each time that it was begun.
    house.write("slow.sh", "echo $$ >> begun\nwhile [ ! -e go ]; do sleep 0.05; done\n");
    let service = node(&house, "VERSION = \"v1\"");
    let stack = |version: &str| {
        house.stack(&format!(
            "[service.web]\n{}\n[service.web.rollout]\nmin_ready = \"0s\"\nbake = \"0s\"\n\
             [service.web.rollout.check.slow]\ncommand = [\"sh\", \"slow.sh\"]\n\
             when = \"before\"\ntimeout = \"2m\"\n",
            service.replace("v1", version)
        ));
    };
    stack("v1");
    house.write("go", "");
    house.up();
    fs::remove_file(house.folder().join("go")).unwrap();
    fs::remove_file(house.folder().join("begun")).unwrap();
    stack("v2");
    let release = house.start(&["apply", "--yes"]);
    let begun = || {
        let text = fs::read_to_string(house.folder().join("begun")).unwrap_or_default();
        text.lines().map(|line| line.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let first = until("the check has begun", || begun().first().copied());
    let said = house.run(&["why"]).exits(0).says("check slow of web r2 passes");
    println!("{}", said.out);
    let control = house.kill("control");
    until("the check ends with control", || (!runs(first)).then_some(()));
    house.until_back("control", control);
    let second = until("it is made again", || begun().get(1).copied());
    assert!(runs(second));
    house.write("go", "");
    release.wait().exits(0).says("check slow of web r2 passes");
    assert_eq!(begun().len(), 2);
}

#[test]
fn a_check_finds_no_secret_of_who_started_control_and_leaves_nothing_behind() {
    let mut house = House::new();
    house.env.insert("HUNTER_TOKEN".to_owned(), "hunter2".to_owned());
    // Like a helper in the background that a careless script forgets.
    house.write(
        "look.sh",
        "env > seen.part && mv seen.part seen\nsleep 300 &\necho $! > left.part\n\
         mv left.part left\nwhile [ ! -e go ]; do sleep 0.05; done\n",
    );
    house.stack(&format!(
        "[service.web]\n{}\n[service.web.rollout]\nmin_ready = \"0s\"\nbake = \"0s\"\n\
         [service.web.rollout.check.look]\ncommand = [\"sh\", \"look.sh\"]\n\
         when = \"before\"\ntimeout = \"2m\"\n",
        node(&house, "VERSION = \"v1\"")
    ));
    let release = house.start(&["up", "--yes"]);
    let left = || fs::read_to_string(house.folder().join("left")).ok();
    let left: u32 = until("the check has begun", left).trim().parse().unwrap();
    let seen = fs::read_to_string(house.folder().join("seen")).unwrap();
    assert!(!seen.contains("hunter2"), "{seen}");
    assert!(seen.contains("PATH=") && seen.contains("EVENKEEL_CHECK=look\n"), "{seen}");
    assert!(runs(left));
    let control = house.kill("control");
    until("what the check started ends with control", || (!runs(left)).then_some(()));
    house.until_back("control", control);
    house.write("go", "");
    release.wait().exits(0);
    house.until_settled();
    let last = fs::read_to_string(house.folder().join("left")).unwrap().trim().parse().unwrap();
    until("nor does it outlive its check", || (!runs(last)).then_some(()));
}

#[test]
fn s33_a_check_that_hangs_or_fails_to_answer_does_not_delay_an_abort() {
    let house = House::new();
    let checks = |port: u16| {
        format!(
            "strategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"0s\"\n\
             steps = [{{ weight = \"50%\", bake = \"1s\" }}]\nanalysis = {{ min_requests = 0 }}\n\
             [service.web.rollout.check.hangs]\nhttp = \"http://127.0.0.1:{port}/\"\n\
             timeout = \"50s\"\n"
        )
    };
    // It accepts, and never answers.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hole.local_addr().unwrap().port();
    web(&house, "VERSION = \"v1\"", 2, "min_ready = \"0s\"");
    house.up();
    web(&house, "VERSION = \"v2\"", 2, &checks(port));
    let release = house.start(&["apply", "--yes"]);
    let asked = house.until("the check is asked", |status| {
        let check = &status["release"]["rollouts"][0]["checks"][0];
        (check["open"] == true).then(|| status["release"]["rollouts"][0]["verdict"].clone())
    });
    assert_eq!(asked, "inconclusive");
    let began = Instant::now();
    house.run(&["abort"]).exits(0);
    release.wait().exits(3);
    let gone = within(Duration::from_secs(20), LOOK, || {
        pool(&house.status(), "web", "r2").is_none().then(|| began.elapsed())
    });
    assert!(gone.is_some(), "the abort waited for the check");
}
