//! What the edge shows of the requests it carries, to those who look at such things: a Prometheus
//! server, and whoever reads a log.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::house::House;
use crate::http::Client;
use crate::load::{ALL, Load};
use crate::machine::{free_port, program, signal, skip, until};
use crate::programs::node;

/// A Prometheus server that scrapes one address every 200 ms.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Prometheus {
    fn start(house: &House, target: SocketAddr) -> Option<Self> {
        let Some(program) = program("prometheus") else {
            skip("metrics of the edge, read by Prometheus: it is not installed (prometheus)");
            return None;
        };
        let folder = house.folder().join("prometheus");
        fs::create_dir(&folder).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
             scrape_configs:\n- job_name: edge\n  static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        until("Prometheus listens", || std::net::TcpStream::connect(addr).ok());
        Some(Self { child, addr })
    }

    /// What a query comes to, if to one number.
    fn ask(&self, query: &str) -> Option<f64> {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let query: String = query.bytes().map(escape).collect();
        let answer = Client::new(self.addr).get(&format!("/api/v1/query?query={query}")).ok()?;
        let answer: Value = serde_json::from_str(&answer.text()).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A house that shows everything.
fn house(metrics: SocketAddr) -> House {
    let house = House::new();
    let service = node(&house, "VERSION = \"v1\"");
    house.stack(&format!(
        "metrics = \"{metrics}\"\naccess_log = true\n\
         [service.web]\n{service}\nreplicas = 2\n\
         [service.web.rollout]\nmin_ready = \"0s\"\nbake = \"0s\"\n[route.shop]\nto = \"web\"\n"
    ));
    house.up();
    house
}

#[test]
fn prometheus_reads_the_edge_without_a_gap_over_upgrades_and_without_control() {
    let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let house = house(metrics);
    let page = || Client::new(metrics).get("/metrics").unwrap().text();
    let Some(prometheus) = Prometheus::start(&house, metrics) else { return };
    // Its own tool has nothing to say against the page.
    let mut tool = Command::new(program("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(page().as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));

    let load = Load::start(house.listen, ALL);
    let requests = "sum(evenkeel_requests_total{route=\"shop\",revision=\"r1\",code=\"2xx\"})";
    until("it has read requests", || prometheus.ask(requests).filter(|it| *it > 50.0));
    for _ in 0..3 {
        house.run(&["upgrade", "--again"]).exits(0);
        load.until_more(50);
    }
    let control = house.pid("control").unwrap();
    signal(control, Signal::STOP);
    let served = "sum(evenkeel_upstream_requests_total{service=\"web\",outcome=\"2xx\"})";
    let before = until("it reads on", || prometheus.ask(served));
    until("also without control", || prometheus.ask(served).filter(|it| *it > before + 50.0));
    signal(control, Signal::CONT);
    // Every scrape was answered, and what is counted per revision never went back.
    assert_eq!(prometheus.ask("min_over_time(up[1m])"), Some(1.0));
    let resets = "sum(resets(evenkeel_upstream_requests_total{service=\"web\"}[1m]))";
    assert_eq!(prometheus.ask(resets), Some(0.0));
    let bad = "sum(evenkeel_requests_total{code=~\"5xx|none\"}) or vector(0)";
    assert_eq!(prometheus.ask(bad), Some(0.0));
    load.stop_unharmed();
}

#[test]
fn every_request_is_in_the_log_also_those_that_a_former_edge_ends() {
    let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let house = house(metrics);
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 100);
    house.run(&["upgrade", "--again"]).exits(0);
    load.until_more(100);
    let report = load.stop_unharmed();
    let good: u64 = report.good.values().sum();
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(house.file("logs/access.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_the_load = |line: &&Value| line["host"] == "house.test" && line["route"] == "shop";
    until("all are told", || {
        let told = lines().iter().filter(of_the_load).count();
        (told as u64 == good).then_some(())
    });
    let all = lines();
    let statuses: Vec<u64> = all.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert!(statuses.iter().all(|status| [101, 200].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&101));
    for line in all.iter().filter(of_the_load) {
        assert_eq!((&line["service"], &line["revision"]), (&"web".into(), &"r1".into()), "{line}");
        assert!(line.get("query").is_none(), "{line}");
    }
}
