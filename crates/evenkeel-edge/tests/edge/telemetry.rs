//! What can be seen of requests: the page of metrics, the lines of the log, the spans.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel_edge::handover;
use evenkeel_kernel::model::{AccessLog, Telemetry, Traces, Weight};
use evenkeel_kernel::routing::RoutingTable;
use serde_json::Value;

use crate::client::Client;
use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until};

/// What the instance is asked besides what is measured here.
const PARENT: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

fn told(mut it: RoutingTable, telemetry: Telemetry) -> RoutingTable {
    it.telemetry = telemetry;
    it
}

fn log(file: &Path) -> AccessLog {
    let file = Some(file.to_str().unwrap().to_owned());
    AccessLog { file, sample: Weight::ALL, query: false, rotate: AccessLog::ROTATE, keep: 3 }
}

/// An instance that answers, fails, or says which trace it was told.
fn instance() -> Instance {
    Instance::new(|request, stream| {
        let trace = request.header("traceparent").unwrap_or("none").to_owned();
        let state = request.header("tracestate").unwrap_or("none").to_owned();
        match request.path().split('?').next().unwrap() {
            "/bad" => answer(stream, "500 Oh", "bad"),
            _ => answer(stream, "200 OK", &format!("{trace} {state}")),
        }
    })
}

/// The door for metrics beside the others.
fn door(rig: &Rig) -> SocketAddr {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let wanted = BTreeMap::from([
        ("edge-0".to_owned(), rig.addr),
        ("svc-web".to_owned(), rig.internal),
        ("metrics-a".to_owned(), any),
    ]);
    let addr = handover::want(&rig.home, &wanted).unwrap()["metrics-a"].clone().unwrap();
    until("it is open", || rig.observe().listeners.len() == 3);
    addr
}

fn page(addr: SocketAddr) -> String {
    let answer = Client::connect(addr).get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.body
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn requests_are_counted_by_route_revision_and_code() {
    let instance = instance();
    let rig = Rig::new();
    let addr = door(&rig);
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    for path in ["/", "/", "/bad"] {
        rig.client().get(path);
    }
    Client::connect(rig.internal).get("/");
    let of = |code: &str| {
        format!(
            "evenkeel_requests_total{{route=\"all\",service=\"web\",revision=\"r1\",code=\"{code}\"}}"
        )
    };
    until("all are counted", || value(&page(addr), &of("2xx")) == Some(2.0));
    let all = page(addr);
    assert_eq!(value(&all, &of("5xx")), Some(1.0));
    let inside = "evenkeel_requests_total{route=\"\",service=\"web\",revision=\"r1\",code=\"2xx\"}";
    assert_eq!(value(&all, inside), Some(1.0));
    let pool = "service=\"web\",revision=\"r1\"";
    for (series, wanted) in [
        ("evenkeel_table_generation", 1.0),
        (&format!("evenkeel_upstream_requests_total{{{pool},outcome=\"2xx\"}}"), 3.0),
        (&format!("evenkeel_upstream_requests_total{{{pool},outcome=\"5xx\"}}"), 1.0),
        (&format!("evenkeel_upstream_first_byte_seconds_count{{{pool}}}"), 4.0),
        (&format!("evenkeel_upstream_first_byte_seconds_bucket{{{pool},le=\"+Inf\"}}"), 4.0),
        (&format!("evenkeel_instances{{{pool},health=\"healthy\"}}"), 1.0),
        (&format!("evenkeel_requests_in_flight{{{pool}}}"), 0.0),
        (&format!("evenkeel_request_duration_seconds_count{{route=\"all\",{pool}}}"), 3.0),
        ("evenkeel_requests_waiting{service=\"web\"}", 0.0),
        ("evenkeel_leaving_edges", 0.0),
    ] {
        assert_eq!(value(&all, series), Some(wanted), "{series} in\n{all}");
    }
    assert!(value(&all, "process_resident_memory_bytes").is_some_and(|it| it > 1e6));
    assert!(value(&all, "process_cpu_seconds_total").is_some());
    // Every series has its family, said once and before it.
    let mut families = Vec::new();
    for line in all.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = families.last().unwrap();
            assert!(name.starts_with(family), "{name} below {family}");
        }
    }
    assert_eq!(Client::connect(addr).get("/").status, 404);
    assert_eq!(Client::connect(addr).post("/metrics", "").status, 405);
    // What comes by that door is no request to a service.
    assert_eq!(value(&page(addr), "evenkeel_rejected_total{cause=\"no_route\"}"), Some(0.0));
}

#[test]
fn what_has_left_the_table_is_shown_no_more_and_the_rest_is_counted_on() {
    let instance = instance();
    let rig = Rig::new();
    let addr = door(&rig);
    rig.serve(&table(1, &[(10_000, &[&instance]), (0, &[&instance])]));
    rig.client().get("/");
    let one = "evenkeel_requests_total{route=\"all\",service=\"web\",revision=\"r1\",code=\"2xx\"}";
    until("it is counted", || value(&page(addr), one) == Some(1.0));
    assert!(page(addr).contains("revision=\"r2\""));
    rig.serve(&table(2, &[(10_000, &[&instance])]));
    rig.client().get("/");
    until("it is counted on", || value(&page(addr), one) == Some(2.0));
    assert!(!page(addr).contains("revision=\"r2\""));
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_request_is_a_line_without_secrets() {
    let instance = instance();
    let rig = Rig::new();
    let file = rig.home.join("seen/access.log");
    let wanted = Telemetry { access_log: Some(log(&file)), ..Telemetry::default() };
    rig.serve(&told(table(1, &[(10_000, &[&instance])]), wanted));
    until("the file is there", || {
        rig.client().raw(
            "GET /a?token=hidden HTTP/1.1\r\nHost: Shop.Test:80\r\nAuthorization: hidden\r\n\
             Cookie: hidden=1\r\n\r\n",
        );
        !lines(&file).is_empty()
    });
    rig.client().get("/bad");
    rig.client().raw("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
    until("all are told", || lines(&file).iter().any(|line| line["status"] == 405));
    let all = lines(&file);
    let first = &all[0];
    for (field, wanted) in [
        ("method", "GET"),
        ("host", "shop.test"),
        ("path", "/a"),
        ("route", "all"),
        ("service", "web"),
        ("revision", "r1"),
        ("instance", "web.r1.1"),
        ("client", "127.0.0.1"),
        ("protocol", "1.1"),
    ] {
        assert_eq!(first[field], wanted, "{first}");
    }
    assert_eq!((&first["status"], &first["retries"]), (&200.into(), &0.into()));
    assert!(first["bytes"].as_u64() > Some(0) && first["duration_ms"].as_f64() > Some(0.0));
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
    assert!(!fs::read_to_string(&file).unwrap().contains("hidden"));
    assert!(all.iter().any(|line| line["path"] == "/bad" && line["status"] == 500));
    let refused = all.iter().find(|line| line["status"] == 405).unwrap();
    assert_eq!(refused["cause"], "method-not-allowed");
    assert!(refused.get("service").is_none());
}

#[test]
fn of_few_lines_those_of_failures_are_all_there() {
    let instance = instance();
    let rig = Rig::new();
    let file = rig.home.join("seen/access.log");
    let few = AccessLog { sample: Weight(1), query: true, ..log(&file) };
    let wanted = Telemetry { access_log: Some(few), ..Telemetry::default() };
    rig.serve(&told(table(1, &[(10_000, &[&instance])]), wanted));
    until("the log is open", || {
        rig.client().get("/bad?n=0");
        !lines(&file).is_empty()
    });
    let before = lines(&file).len();
    let mut client = rig.client();
    for n in 1..=100 {
        client.get("/good");
        client.get(&format!("/bad?n={n}"));
    }
    let bad = || lines(&file).iter().filter(|line| line["status"] == 500).count();
    until("all failures are told", || bad() >= before + 100);
    let good = lines(&file).iter().filter(|line| line["status"] == 200).count();
    assert!(good <= 5, "{good} of 100, where one in ten thousand is wanted");
    assert!(lines(&file).iter().any(|line| line["query"] == "n=100"));
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up() {
    let instance = instance();
    let rig = Rig::new();
    let addr = door(&rig);
    // A folder is no file.
    let wanted = Telemetry { access_log: Some(log(&rig.home)), ..Telemetry::default() };
    rig.serve(&told(table(1, &[(10_000, &[&instance])]), wanted));
    let began = Instant::now();
    let mut client = rig.client();
    until("it is noticed", || {
        assert_eq!(client.get("/").status, 200);
        value(&page(addr), "evenkeel_access_log_lines_dropped_total").is_some_and(|it| it > 0.0)
    });
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A collector that takes everything.
fn collector() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut read = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                read.read_line(&mut head).unwrap();
            }
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/json\r\n"), "{head}");
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            read.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            read.get_mut().write_all(answer).unwrap();
            if tell.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (addr, told)
}

/// The next span whose path is this.
fn span(told: &Receiver<Value>, path: &str) -> Value {
    loop {
        let batch = told.recv_timeout(Duration::from_secs(20)).expect("a batch of spans");
        let spans = batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        if let Some(span) = spans.iter().find(|it| attribute(it, "url.path") == Some(path)) {
            return span.clone();
        }
    }
}

fn attribute<'s>(span: &'s Value, name: &str) -> Option<&'s str> {
    let all = span["attributes"].as_array()?;
    let value = &all.iter().find(|it| it["key"] == name)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str())
}

#[test]
fn a_trace_goes_through_the_edge_and_its_span_to_the_collector() {
    let instance = instance();
    let rig = Rig::new();
    let (addr, spans) = collector();
    // Without a collector it is somebody else's, and passes as it is.
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let asks = |path: &str, flags: &str| {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: shop.test\r\ntraceparent: 00-{PARENT}-{flags}\r\n\
             tracestate: a=1\r\n\r\n"
        );
        rig.client().raw(&text).body
    };
    assert_eq!(asks("/", "01"), format!("00-{PARENT}-01 a=1"));

    let traces = Traces { to: format!("http://{addr}"), sample: Weight::ALL };
    let wanted = Telemetry { traces: Some(traces), ..Telemetry::default() };
    rig.serve(&told(table(2, &[(10_000, &[&instance])]), wanted));
    until("it takes part", || !asks("/", "01").contains("b7ad6b7169203331"));
    let said = asks("/traced", "01");
    let (parent, state) = said.split_once(' ').unwrap();
    assert_eq!(state, "a=1");
    let found = span(&spans, "/traced");
    assert_eq!(found["traceId"], PARENT[..32]);
    assert_eq!(found["parentSpanId"], PARENT[33..]);
    // The instance's parent is this span.
    assert_eq!(parent, format!("00-{}-{}-01", &PARENT[..32], found["spanId"].as_str().unwrap()));
    assert_eq!((found["name"].as_str(), found["kind"].as_u64()), (Some("GET all"), Some(2)));
    for (name, wanted) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("server.address", "shop.test"),
        ("evenkeel.service", "web"),
        ("evenkeel.revision", "r1"),
        ("evenkeel.instance", "web.r1.1"),
    ] {
        assert_eq!(attribute(&found, name), Some(wanted), "{found}");
    }
    let time = |name: &str| found[name].as_str().unwrap().parse::<u128>().unwrap();
    assert!(time("endTimeUnixNano") > time("startTimeUnixNano"));
    // Who says that nobody follows is not followed, and says so on.
    assert!(asks("/quiet", "00").split(' ').next().unwrap().ends_with("-00"));
    // One that comes without a trace begins one.
    let fresh = rig.client().get("/fresh").body;
    assert!(fresh.starts_with("00-") && fresh.ends_with("-01 none"), "{fresh}");
    rig.client().get("/bad");
    let bad = span(&spans, "/bad");
    assert_eq!(bad["status"]["code"], 2);
    assert!(bad.get("parentSpanId").is_none());
}

#[test]
fn a_collector_that_is_away_holds_nobody_up() {
    let instance = instance();
    let rig = Rig::new();
    let door = door(&rig);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let traces = Traces { to: format!("http://{nobody}"), sample: Weight::ALL };
    let wanted = Telemetry { traces: Some(traces), ..Telemetry::default() };
    rig.serve(&told(table(1, &[(10_000, &[&instance])]), wanted));
    let mut client = rig.client();
    let mut slowest = Duration::ZERO;
    until("what cannot be sent is dropped", || {
        let began = Instant::now();
        assert_eq!(client.get("/").status, 200);
        slowest = slowest.max(began.elapsed());
        value(&page(door), "evenkeel_spans_dropped_total").is_some_and(|it| it > 0.0)
    });
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
