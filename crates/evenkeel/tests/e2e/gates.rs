//! Gates at which a program decides: it is asked over HTTP, signed, until it says yes or no.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::house::House;
use crate::load::{ALL, Load};
use crate::machine::free_port;
use crate::programs::{Program, node};
use crate::whole::files;

const SOURCE: &str = include_str!("programs/approver.py");
const BOOK: &str = "book";
/// Two that decide nothing, a yes, and a no for the next release.
const ANSWERS: &str = r#"202 {"approved": true}
202
200 {"approved": true, "by": "CHG-1234 (ann)"}
200 {"approved": false, "reason": "the till is closed"}
"#;

/// A webhook that knows the key, as a process of its own. It ends with this.
#[derive(Debug)]
struct Approver(Child);

impl Approver {
    fn start(house: &House, port: u16) -> Self {
        house.write("approver.py", SOURCE);
        house.write("answers", ANSWERS);
        let child = Command::new("python3")
            .args(["approver.py", &port.to_string(), "key", "answers", BOOK])
            .current_dir(house.folder())
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Approver {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn stack(house: &House, version: &str) {
    let service = node(house, &format!("VERSION = \"{version}\""));
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 2\n[service.web.rollout]\nstrategy = \"canary\"\n\
         analysis.min_requests = 0\nmin_ready = \"0s\"\nbake = \"0s\"\n\
         steps = [{{ weight = \"50%\", bake = \"200ms\", gate = {{ webhook = \"file:url\", \
         secret = \"file:key\", approvers = [\"no-one-here\"] }} }}]\n[route.web]\nto = \"web\"\n"
    ));
}

/// What the webhook was asked.
fn book(house: &House) -> Vec<Value> {
    let text = fs::read_to_string(house.folder().join(BOOK)).unwrap_or_default();
    // Its last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_webhook_is_asked_until_it_approves_and_may_refuse() {
    if !Program::Python.is_here() {
        return;
    }
    let house = House::new();
    let port = free_port();
    house.write("url", &format!("http://127.0.0.1:{port}/hook/hunter-path\n"));
    house.write("key", "hunter-key\n");
    stack(&house, "v1");
    let mut said = vec![house.up()];
    house.until_settled();
    let me = house.last_release()["by"].as_str().unwrap().to_owned();
    let load = Load::start(house.listen, ALL);

    // Nobody listens yet: that neither approves nor fails anything.
    stack(&house, "v2");
    said.push(house.run(&["plan"]).exits(2).says("no-one-here or by the webhook file:"));
    let release = house.start(&["apply", "--yes", "--wait", "complete"]);
    house.until("it could not ask", |status| {
        let answer = status["release"]["gate_answer"].as_str()?;
        answer.contains(&format!("could not ask 127.0.0.1:{port}: ")).then_some(())
    });
    assert_eq!(book(&house), Vec::<Value>::new());
    let approver = Approver::start(&house, port);
    let began = Instant::now();
    house.until("it is asked, and nobody has decided", |status| {
        let answer = status["release"]["gate_answer"].as_str()?;
        (answer == "nobody has decided yet: status 202").then_some(())
    });
    said.push(house.run(&["status"]).exits(0).says("nobody has decided yet: status 202"));
    said.push(house.run(&["why"]).exits(0).says("nobody has decided yet: status 202"));
    said.push(house.run(&["status", "--json"]).exits(0));
    house.run(&["approve"]).exits(1).says("no-one-here may");
    said.push(release.wait().exits(0));
    assert!(began.elapsed().as_secs() >= 20, "it is asked every ten seconds");
    load.until_answered("v2", 20);
    let asked = book(&house);
    let mut runs = Vec::new();
    for line in &asked {
        let id = line["delivery"].as_str().unwrap();
        runs.push(id.rsplit_once('/').unwrap().1.parse::<u32>().unwrap());
        let text = format!(
            "web r2 waits at the gate of step 1 of 2: may it take its next step? (release #2, \
             asked for by {me})"
        );
        let body = json!({
            "id": id, "event": "gate.asked", "stack": "house", "release": 2, "service": "web",
            "revision": "r2", "stable_revision": "r1", "step": 1, "by": me, "text": text,
        });
        let line = line.clone();
        let expected = json!({
            "known": true, "path": "/hook/hunter-path", "event": "gate.asked", "delivery": id,
            "body": body,
        });
        assert_eq!(line, expected);
    }
    assert!(runs.len() == 3 && runs.is_sorted_by(|a, b| a + 1 == *b), "{runs:?}");
    let last = house.last_release();
    assert_eq!(last["approvals"].as_array().unwrap().len(), 1, "{last}");
    assert_eq!(last["approvals"][0]["by"], "CHG-1234 (ann) by webhook");
    let approved = "approved by CHG-1234 (ann) by webhook (file:";
    said.push(house.run(&["history", "--journal"]).exits(0).says(approved));

    // The next release is asked about for itself.
    stack(&house, "v3");
    let refused = "gate refused: the till is closed";
    said.push(house.run(&["apply", "--yes", "--wait", "complete"]).exits(3).says(refused));
    house.until_settled();
    let last = house.last_release();
    assert_eq!((&last["outcome"], &last["because"]), (&json!("rolled_back"), &json!(refused)));
    assert_eq!(book(&house).len(), 4);
    load.until_answered("v2", 20);
    load.stop_unharmed();
    drop(approver);

    said.push(house.run(&["history", "--journal", "--json"]).exits(0));
    for told in &said {
        assert!(!format!("{told:?}").contains("hunter-"), "{told:?}");
    }
    assert!(!house.logs().contains("hunter-"));
    assert!(!house.processes().values().any(|command| command.contains("hunter-")));
    let kept = files(&house.file("")).into_iter().filter(|file| {
        let content = fs::read(file).unwrap_or_default();
        content.windows(7).any(|part| part == b"hunter-")
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 2, "the URL and the key");
    assert!(kept.iter().all(|file| file.parent().unwrap().ends_with("h/secrets")), "{kept:?}");
}
