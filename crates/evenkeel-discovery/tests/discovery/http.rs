//! The HTTP interfaces, as curl and Consul's rules see them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::Backend;
use crate::machine::{program, until};
use crate::rig::{ILL, Rig, WELL, addrs, service};

/// curl, asking one house.
pub(crate) struct Curl {
    program: PathBuf,
    base: String,
}

impl Curl {
    pub(crate) fn of(rig: &Rig) -> Option<Self> {
        let curl = Self { program: program("curl")?, base: format!("http://{}", rig.http) };
        until("it answers", || curl.ask(&["/v1/status/leader"]).0.eq(&200).then_some(()));
        Some(curl)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-s", "-g", "-D", "-", "--max-time", "30"]);
        for arg in args {
            match arg.starts_with('/') {
                true => command.arg(format!("{}{arg}", self.base)),
                false => command.arg(arg),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// The status, the index, and the body.
    pub(crate) fn ask(&self, args: &[&str]) -> (u16, u64, String) {
        Self::read(&self.command(args).output().unwrap().stdout)
    }

    fn read(output: &[u8]) -> (u16, u64, String) {
        let text = String::from_utf8_lossy(output).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return (0, 0, text) };
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let index = head.lines().find_map(|it| it.strip_prefix("x-consul-index: "));
        (status, index.map_or(0, |it| it.parse().unwrap()), body.to_owned())
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(&[path]);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// One that waits for an answer.
    fn start(&self, path: &str) -> Waiting {
        Waiting { child: Some(self.command(&[path]).spawn().unwrap()), began: Instant::now() }
    }

    fn put(&self, path: &str, body: &str) -> (u16, String) {
        let (status, _, said) = self.ask(&["-X", "PUT", "-d", body, path]);
        (status, said)
    }
}

struct Waiting {
    child: Option<Child>,
    began: Instant,
}

impl Waiting {
    fn is_waiting(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    fn end(mut self) -> (u16, u64, String, Duration) {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let (status, index, body) = Curl::read(&output.stdout);
        (status, index, body, self.began.elapsed())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// `web` in two revisions, 90 : 10, and `api`.
fn rig() -> Rig {
    let rig = Rig::new();
    let web = service(&[(9_000, addrs("127.0.0.1:1001", 2)), (1_000, addrs("127.0.0.1:2001", 1))]);
    let api = service(&[(10_000, addrs("127.0.0.1:3001", 1))]);
    rig.serve([("web".parse().unwrap(), web), ("api".parse().unwrap(), api)].into());
    rig
}

/// The ids in a list of health entries, with their status.
fn ids(list: &Value) -> Vec<String> {
    let id = |it: &Value| {
        let (id, checks) = (&it["Service"]["ID"], it["Checks"].as_array().unwrap());
        let status = checks.last().unwrap()["Status"].as_str().unwrap();
        format!("{}={status}", id.as_str().unwrap())
    };
    list.as_array().unwrap().iter().map(id).collect()
}

#[test]
fn consuls_catalogue_tells_of_the_stack() {
    let rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    assert_eq!(
        curl.json("/v1/catalog/services"),
        serde_json::json!({"api": ["r1"], "web": ["r1", "r2"]})
    );
    assert_eq!(curl.json("/v1/catalog/datacenters"), serde_json::json!(["shop"]));
    assert_eq!(curl.json("/v1/status/leader"), "127.0.0.1:8300");
    let agent = curl.json("/v1/agent/self");
    assert_eq!(agent["Config"]["Datacenter"], "shop");
    let node = &curl.json("/v1/catalog/nodes")[0];
    assert_eq!(node["Node"], agent["Config"]["NodeName"]);

    let web = curl.json("/v1/catalog/service/web");
    assert_eq!(web.as_array().unwrap().len(), 3);
    let first = &web[0];
    assert_eq!(first["ServiceID"], "web.r1.1");
    assert_eq!(
        (&first["ServiceAddress"], &first["ServicePort"]),
        (&"127.0.0.1".into(), &1001.into())
    );
    assert_eq!(first["ServiceWeights"]["Passing"], 100);
    assert_eq!(web[2]["ServiceWeights"]["Passing"], 23);
    assert_eq!(first["Datacenter"], "shop");

    let health = curl.json("/v1/health/service/web?passing=1&stale&cached");
    assert_eq!(ids(&health), ["web.r1.1=passing", "web.r1.2=passing", "web.r2.1=passing"]);
    assert_eq!(health[0]["Service"]["Meta"]["rev"], "r1");
    assert_eq!(health[0]["Checks"][0]["CheckID"], "serfHealth");
    assert_eq!(ids(&curl.json("/v1/health/service/web?tag=r2&consistent")), ["web.r2.1=passing"]);
    let filtered = "/v1/health/service/web?filter=Service.Meta.rev%20%3D%3D%20r2";
    assert_eq!(ids(&curl.json(filtered)), ["web.r2.1=passing"]);
    assert_eq!(curl.ask(&["/v1/health/service/web?filter=x"]).0, 400);
    assert_eq!(ids(&curl.json("/v1/health/service/nobody")), [] as [&str; 0]);
    assert_eq!(curl.ask(&["/v1/health/service/web?dc=other"]).0, 500);
    assert_eq!(curl.ask(&["/v1/kv/some/key"]).0, 404);
    assert_eq!(curl.ask(&["-X", "DELETE", "/v1/catalog/services"]).0, 405);

    rig.see("web.r1.1", ILL);
    until("it is seen", || {
        (curl.json("/v1/health/state/critical").as_array()?.len() == 1).then_some(())
    });
    assert_eq!(curl.json("/v1/health/checks/web")[0]["Status"], "critical");
    assert_eq!(ids(&curl.json("/v1/health/service/web?passing")).len(), 2);
    assert_eq!(ids(&curl.json("/v1/health/service/web")).len(), 3);
    assert_eq!(curl.json("/v1/catalog/service/web").as_array().unwrap().len(), 3);
    // Nobody is well: rather all than none.
    rig.see("web.r1.2", ILL);
    rig.see("web.r2.1", ILL);
    until("all are back", || {
        (ids(&curl.json("/v1/health/service/web?passing")).len() == 3).then_some(())
    });
    // No traffic, no client: a revision that is only looked at.
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 1)), (0, addrs("127.0.0.1:2001", 1))]);
    until("one", || {
        (ids(&curl.json("/v1/health/service/web?passing")) == ["web.r1.1=passing"]).then_some(())
    });
}

#[test]
fn who_waits_is_told_of_what_it_waits_for_and_only_of_that() {
    let rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    let path = "/v1/health/service/web?passing=1";
    let (_, index, _) = curl.ask(&[path]);
    assert!(index > 1);
    let (_, names, _) = curl.ask(&["/v1/catalog/services"]);
    let mut web = curl.start(&format!("{path}&index={index}&wait=20s"));
    let mut services = curl.start(&format!("/v1/catalog/services?index={names}&wait=20s"));
    // Another service, and nothing of the names. Who waits for that one is told.
    let (_, of_api, _) = curl.ask(&["/v1/health/service/api"]);
    let api = curl.start(&format!("/v1/health/service/api?index={of_api}&wait=20s"));
    rig.see("api.r1.1", ILL);
    let (_, next, _, took) = api.end();
    assert!(next > of_api && took < Duration::from_secs(10), "{next} {took:?}");
    assert!(web.is_waiting() && services.is_waiting());
    rig.see("web.r1.1", ILL);
    let (status, next, body, took) = web.end();
    assert!(
        status == 200 && next > index && took < Duration::from_secs(10),
        "{status} {next} {took:?}"
    );
    assert_eq!(ids(&serde_json::from_str(&body).unwrap()).len(), 2);
    assert!(services.is_waiting());
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 1))]);
    let (_, next, body, _) = services.end();
    assert_eq!(body, "{\"web\":[\"r1\"]}");
    assert!(next > names);
    // An index that nobody was given is answered at once; so is one of an earlier process.
    for odd in ["1", "99999999999999999", "-1", "0"] {
        let (_, _, _, took) = curl.start(&format!("{path}&index={odd}&wait=20s")).end();
        assert!(took < Duration::from_secs(10), "{odd}: {took:?}");
    }
    // Time passes: the same is said again.
    let (_, index, _) = curl.ask(&[path]);
    let (status, same, _, took) = curl.start(&format!("{path}&index={index}&wait=1s")).end();
    assert!(status == 200 && same == index && took >= Duration::from_secs(1), "{took:?}");
    // One may wait for what is not there yet.
    let (_, index, _) = curl.ask(&["/v1/health/service/new"]);
    let waiting = curl.start(&format!("/v1/health/service/new?index={index}&wait=20s"));
    let service = service(&[(10_000, addrs("127.0.0.1:1", 1))]);
    rig.serve([("new".parse().unwrap(), service)].into());
    let (_, next, body, _) = waiting.end();
    assert!(next > index && body.contains("new.r1.1"), "{body}");
}

#[test]
fn others_register_and_are_believed_as_long_as_they_speak() {
    let mut rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    let passing = |name: &str| ids(&curl.json(&format!("/v1/health/service/{name}?passing")));
    let ttl = r#"{"ID": "db-1", "Name": "db", "Address": "192.0.2.5", "Port": 5432, "Tags": ["main"],
        "Check": {"TTL": "2s"}}"#;
    assert_eq!(curl.put("/v1/agent/service/register", ttl), (200, String::new()));
    assert_eq!(passing("db"), [] as [&str; 0], "not a word yet");
    assert_eq!(curl.put("/v1/agent/check/pass/service:db-1", "").0, 200);
    assert_eq!(passing("db"), ["db-1=passing"]);
    assert_eq!(curl.json("/v1/catalog/services")["db"], serde_json::json!(["main"]));
    assert_eq!(curl.json("/v1/agent/services")["db-1"]["Port"], 5432);
    assert_eq!(curl.json("/v1/directory/db")["instances"][0]["address"], "192.0.2.5:5432");
    until("silence is noticed", || passing("db").is_empty().then_some(()));
    let update = r#"{"Status": "warning", "Output": "slow"}"#;
    assert_eq!(curl.put("/v1/agent/check/update/service:db-1", update).0, 200);
    assert_eq!(curl.json("/v1/health/state/warning")[0]["Output"], "slow");

    // Tested by us, a page and a connection.
    let backend = Backend::says("fine");
    let port = backend.addr.port();
    let tested = format!(
        r#"{{"name": "legacy", "id": "legacy-1", "port": {port}, "checks": [
            {{"http": "http://127.0.0.1:{port}/health", "interval": "1s"}},
            {{"tcp": "127.0.0.1:{port}", "interval": "1s", "timeout": "1s"}}]}}"#
    );
    assert_eq!(curl.put("/v1/agent/service/register", &tested).0, 200);
    until("it is found to be well", || (passing("legacy") == ["legacy-1=passing"]).then_some(()));
    assert!(backend.requests() > 0);

    // What cannot be had.
    let web = r#"{"Name": "web", "Port": 1}"#;
    assert_eq!(
        curl.put("/v1/agent/service/register", web),
        (400, "the name `web` belongs to the stack".to_owned())
    );
    assert_eq!(curl.put("/v1/agent/service/register", "{").0, 400);
    assert_eq!(curl.put("/v1/agent/service/register", &"x".repeat(100_000)).0, 413);
    assert_eq!(curl.put("/v1/agent/check/pass/nobody", "").0, 404);
    let posted = curl.ask(&["-X", "POST", "-d", "{}", "/v1/agent/service/register"]);
    assert_eq!(posted.0, 405, "a page in a browser may send this unasked");

    // The next process knows them, and is told to wait by nobody's index.
    rig.stop();
    rig.start();
    until("it answers", || (curl.ask(&["/v1/status/leader"]).0 == 200).then_some(()));
    assert_eq!(ids(&curl.json("/v1/health/service/db")).len(), 1);
    until("it is well here too", || (passing("legacy") == ["legacy-1=passing"]).then_some(()));
    drop(backend);
    until("it is ill", || passing("legacy").is_empty().then_some(()));
    assert_eq!(curl.put("/v1/agent/service/deregister/legacy-1", "").0, 200);
    assert_eq!(curl.put("/v1/agent/service/deregister/legacy-1", "").0, 404);
    assert_eq!(curl.json("/v1/catalog/services").get("legacy"), None);
    assert_eq!(curl.ask(&["/v1/directory/legacy"]).0, 404);
}

#[test]
fn two_processes_of_one_home_know_what_either_was_told() {
    let mut rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    let former = rig.start_another();
    // Whichever of both takes a connection, within a second it knows.
    for number in 0..4 {
        let body = format!(r#"{{"Name": "n{number}", "Port": 1}}"#);
        assert_eq!(curl.put("/v1/agent/service/register", &body).0, 200);
    }
    let knows = || (0..4).all(|number| curl.ask(&[&format!("/v1/directory/n{number}")]).0 == 200);
    until("both know all", || (0..10).all(|_| knows()).then_some(()));
    drop(former);
    assert!(knows());
}

#[test]
fn who_waits_is_not_cut_off_when_a_process_ends() {
    let mut rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    let path = "/v1/health/service/web";
    let (_, index, _) = curl.ask(&[path]);
    let mut waiting = TcpStream::connect(rig.http).unwrap();
    write!(waiting, "GET {path}?index={index}&wait=60s HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // Its one thread takes connections and requests in their order: when a later one is answered, this
    // one waits.
    assert_eq!(curl.ask(&[path]).1, index);
    rig.stop();
    let mut answer = Vec::new();
    waiting.read_to_end(&mut answer).unwrap();
    let (status, same, body) = Curl::read(&answer);
    assert_eq!((status, same), (200, index));
    assert_eq!(ids(&serde_json::from_str(&body).unwrap()).len(), 3);
}

#[test]
fn our_own_interface_has_weights_and_events() {
    let rig = rig();
    let Some(curl) = Curl::of(&rig) else { return };
    let all = curl.json("/v1/directory");
    assert_eq!(all["stack"], "shop");
    let web = &all["services"]["web"];
    assert_eq!(web["split"], serde_json::json!({"r1": 90.0, "r2": 10.0}));
    assert_eq!(web["instances"][2]["id"], "web.r2.1");
    assert_eq!(web["instances"][2]["health"], "healthy");
    // What is waited for, with the same words as Consul's.
    let (_, index, _) = curl.ask(&["/v1/directory"]);
    let mut waiting = curl.start(&format!("/v1/directory?index={index}&wait=20s"));
    let mut events = Command::new(&curl.program)
        .args(["-sN", "--max-time", "30", &format!("{}/v1/directory/events", curl.base)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let output = events.stdout.take().unwrap();
    std::thread::spawn(move || {
        use std::io::BufRead as _;
        for line in std::io::BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let next = || lines.recv_timeout(Duration::from_secs(10)).unwrap();
    let event = || {
        let kind = next();
        assert!(next().starts_with("id: "));
        let data = next();
        assert_eq!(next(), "");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        (kind, data)
    };
    let (kind, data) = event();
    assert_eq!(
        (kind.as_str(), data["services"].as_object().unwrap().len()),
        ("event: directory", 2)
    );
    assert!(waiting.is_waiting());
    rig.see("web.r1.1", ILL);
    let (kind, data) = event();
    assert_eq!((kind.as_str(), &data["service"]), ("event: service", &"web".into()));
    assert_eq!(data["instances"][0]["health"], "unhealthy");
    assert_eq!(data["instances"][0]["weight"], 0);
    assert_eq!(waiting.end().0, 200);
    rig.see("web.r1.1", WELL);
    assert_eq!(event().1["instances"][0]["weight"], 65_535);
    rig.serve_web(&[(10_000, addrs("127.0.0.1:1001", 1))]);
    let (one, other) = (event(), event());
    let kinds = [one.0.as_str(), other.0.as_str()];
    assert!(kinds.contains(&"event: removed") && kinds.contains(&"event: service"), "{kinds:?}");
    events.kill().unwrap();
    events.wait().unwrap();
}
