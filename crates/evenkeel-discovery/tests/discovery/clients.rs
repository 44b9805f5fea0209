//! Clients that nobody here wrote: py-consul, Traefik and Prometheus.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::backend::Backend;
use crate::http::Curl;
use crate::machine::{Program, free_port, program, skip, until};
use crate::proxies::{get, share};
use crate::rig::{ILL, Rig, addrs};

/// A Python that has a module.
pub(crate) fn python(module: &str) -> Option<std::path::PathBuf> {
    let python = program("python3").filter(|it| it.parent().is_some())?;
    let venv = program("traefik").and_then(|it| Some(it.parent()?.join("python3")));
    let has = |python: &std::path::PathBuf| {
        let output = Command::new(python).args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|it| it.status.success())
    };
    let found = [Some(python), venv].into_iter().flatten().find(has);
    if found.is_none() {
        skip(&format!("no python3 has {module}"));
    }
    found
}

#[test]
fn py_consul_reads_registers_and_waits() {
    let Some(python) = python("consul") else { return };
    let rig = Rig::new();
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 2))]);
    if Curl::of(&rig).is_none() {
        return;
    }
    let script = r#"
import sys, consul
c = consul.Consul(port=int(sys.argv[1]))
print(c.status.leader())
print(sorted(c.catalog.services()[1]))
index, nodes = c.health.service('web', passing=True)
print(len(nodes), nodes[0]['Service']['Port'])
assert c.agent.service.register('db', service_id='db-1', port=5432, check=consul.Check.ttl('30s'))
assert c.agent.check.ttl_pass('service:db-1')
print([n['Service']['ID'] for n in c.health.service('db', passing=True)[1]])
print(c.agent.services()['db-1']['Port'])
assert c.agent.service.deregister('db-1')
print(c.health.service('db')[1])
print('waiting', flush=True)
sys.stdin.readline()
later, nodes = c.health.service('web', passing=True, index=index, wait='30s')
print(int(later) > int(index), len(nodes))
"#;
    let mut child = Command::new(python)
        .args(["-c", script, &rig.http.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.ends_with("waiting\n") {
        assert!(output.read_line(&mut said).unwrap() > 0, "it broke off: {said}");
    }
    let lines: Vec<&str> = said.lines().collect();
    let all = ["127.0.0.1:8300", "['web']", "2 1001", "['db-1']", "5432", "[]", "waiting"];
    assert_eq!(lines, all);
    // It is told of what happens while it waits, or has happened since it looked.
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    rig.see("web.r1.1", ILL);
    said.clear();
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "True 1\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn traefik_routes_by_the_catalogue() {
    let Some(traefik) = program("traefik") else { return };
    let (one, other) = (Backend::says("one"), Backend::says("other"));
    let rig = Rig::new();
    rig.serve_web(&[(5_000, vec![one.addr]), (5_000, vec![other.addr])]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _traefik = Program::start(
        Command::new(traefik)
            .arg(format!("--entrypoints.web.address={listen}"))
            .arg("--providers.consulcatalog.watch=true")
            .arg("--providers.consulcatalog.refreshinterval=1s")
            .arg("--providers.consulcatalog.exposedbydefault=true")
            .arg("--providers.consulcatalog.defaultrule=PathPrefix(`/`)")
            .arg(format!("--providers.consulcatalog.endpoint.address={}", rig.http))
            .arg("--global.checknewversion=false")
            .current_dir(rig.home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    until("both answer", || {
        let [a, b] = share(listen, [&one, &other])?;
        (a > 0 && b > 0 && a + b == 100).then_some(())
    });
    rig.see("web.r2.1", ILL);
    until("only the one that is well", || {
        (share(listen, [&one, &other])? == [100, 0]).then_some(())
    });
    assert_eq!(get(listen).as_deref(), Some("one"));
}

#[test]
fn prometheus_finds_its_targets() {
    let Some(prometheus) = program("prometheus") else { return };
    let backend = Backend::says("up 1\n");
    let rig = Rig::new();
    rig.serve_web(&[(10_000, vec![backend.addr])]);
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = rig.home.path().join("prometheus.yml");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: shop\n  \
         http_sd_configs: [{{url: \"http://{}/v1/http_sd?service=web\", refresh_interval: 1s}}]\n  \
         relabel_configs:\n  - {{source_labels: [__meta_evenkeel_instance], target_label: instance}}\n  \
         - {{source_labels: [__meta_evenkeel_revision], target_label: revision}}\n",
        rig.http
    );
    std::fs::write(&path, config).unwrap();
    let _prometheus = Program::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", rig.home.path().join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stderr(Stdio::null()),
    );
    let targets = || -> Option<Value> {
        let curl =
            Command::new("curl").args(["-s", &format!("http://{listen}/api/v1/targets")]).output();
        serde_json::from_slice(&curl.ok()?.stdout).ok()
    };
    let labels = until("a target is there", || {
        let labels = targets()?["data"]["activeTargets"][0]["labels"].clone();
        (!labels.is_null()).then_some(labels)
    });
    assert_eq!(labels["instance"], "web.r1.1");
    assert_eq!(labels["revision"], "r1");
    until("it is scraped", || (backend.requests() > 0).then_some(()));
}
