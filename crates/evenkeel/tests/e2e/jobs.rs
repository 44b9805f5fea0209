//! Jobs: real programs that run once per release, beside services under load.

use std::fs;

use crate::house::House;
use crate::load::{ALL, Load};
use crate::machine::until;
use crate::programs::node;

const QUICK: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"0s\"";

/// Asks the service it uses for its page, and writes down whose it was.
const LOOK: &str = "fetch(`${process.env.WEB_URL}/page`).then(async (answer) => {\n\
    if (!answer.ok) process.exit(9);\n\
    const line = `${process.env.NAME} ${answer.headers.get('x-version')}\\n`;\n\
    require('node:fs').appendFileSync('seen', line);\n});\n";

/// Writes the stack file: a web server in this version, and these jobs.
fn stack(house: &House, version: &str, jobs: &str) {
    let service = node(house, &format!("VERSION = \"{version}\""));
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 2\n[service.web.rollout]\n{QUICK}\n\
         [route.web]\nto = \"web\"\n{jobs}"
    ));
}

/// A job that writes a line into `runs` when it starts, and then does this.
fn migrate(then: &str) -> String {
    format!("[job.migrate]\nrun = [\"sh\", \"-c\", \"echo run | tee -a runs; {then}\"]\n")
}

/// The lines of a file beside the stack file.
fn lines(house: &House, name: &str) -> Vec<String> {
    let text = fs::read_to_string(house.folder().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_job_runs_once_per_release_and_takes_it_back_when_it_fails() {
    let house = House::new();
    stack(&house, "v1", &migrate("exit 0"));
    house.run(&["plan"]).exits(2).says("run job migrate before anything new starts");
    house.up();
    house.until_settled();
    assert_eq!(lines(&house, "runs").len(), 1);
    house.run(&["logs", "migrate"]).exits(0).says("run");
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 20);

    stack(&house, "v2", &migrate("exit 0"));
    house.apply().exits(0);
    load.until_answered("v2", 20);
    house.until_settled();
    assert_eq!(lines(&house, "runs").len(), 2);

    stack(&house, "v3", &migrate("echo it cannot be done; exit 4"));
    house.apply().exits(3).says("job migrate failed: exit status 4");
    house.until_settled();
    load.until_more(20);
    let report = load.stop_unharmed();
    assert!(!report.by.contains_key("v3"), "{report}");
    assert_eq!(lines(&house, "runs").len(), 3);
    house.run(&["logs", "migrate"]).exits(0).says("it cannot be done");
    house.run(&["explain"]).exits(0).says("job migrate r2 failed after").says("exit status 4");
    assert_eq!(house.last_release()["outcome"], "rolled_back");
}

#[test]
fn a_job_reaches_what_serves_when_it_runs() {
    let house = House::new();
    house.write("look.js", LOOK);
    let jobs = ["before", "after"].map(|when| {
        format!(
            "[job.look-{when}]\nrun = \"node look.js\"\nuses = [\"web\"]\nwhen = \"{when}\"\n\
             env = {{ NAME = \"{when}\" }}\n"
        )
    });
    let jobs = jobs.concat();
    stack(&house, "v1", &jobs);
    house.up();
    house.until_settled();
    stack(&house, "v2", &jobs);
    house.apply().exits(0);
    house.until_settled();
    assert_eq!(lines(&house, "seen"), ["before v1", "after v1", "before v1", "after v2"]);
}

#[test]
fn control_that_is_killed_in_the_middle_does_not_run_it_again() {
    let house = House::new();
    stack(&house, "v1", "");
    house.up();
    house.until_settled();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 20);
    stack(&house, "v2", &migrate("until [ -e go ]; do sleep 0.05; done; echo done >> done"));
    let apply = house.start(&["apply", "--yes"]);
    until("the job runs", || (lines(&house, "runs").len() == 1).then_some(()));
    for _ in 0..3 {
        let former = house.kill("control");
        house.until_back("control", former);
        house.until("the job is seen to run", |status| {
            (status["release"]["jobs"][0]["state"] == "running").then_some(())
        });
        house.run(&["why"]).exits(0).says("job migrate r1 runs");
    }
    assert!(lines(&house, "done").is_empty());
    house.write("go", "");
    apply.wait().exits(0);
    load.until_answered("v2", 20);
    load.stop_unharmed();
    house.until_settled();
    assert_eq!([lines(&house, "runs").len(), lines(&house, "done").len()], [1, 1]);
}
