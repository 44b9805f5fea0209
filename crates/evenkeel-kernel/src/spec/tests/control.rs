//! Freezes, the pace and gates: generated for the round trip, and what is said of wrong ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::round_trip::{address, kept};
use crate::calendar::{Civil, Weekday, Window};
use crate::lint::missing_files;
use crate::model::{
    Address, Digest, Freeze, FreezeName, Gate, GateWebhook, Pace, RevisionNumber, SecretSource,
    ServiceName, Stack,
};
use crate::plan::{Deployed, Now, plan};
use crate::spec::starter::quoted;
use crate::spec::{Materials, draft, read};

/// The beginning of a minute of a day of this century.
fn civil() -> impl Strategy<Value = Civil> {
    let minutes = (2000_i32..2100, 1_u8..=12, 1_u8..=28, 0_u16..1_440);
    minutes
        .prop_filter_map("a day", |(year, month, day, minute)| Civil::new(year, month, day, minute))
}

fn window() -> impl Strategy<Value = Window> {
    let weekly = (0_u16..10_080, 0_u16..10_080).prop_map(|(from, to)| Window::Weekly { from, to });
    let dated = (civil(), civil()).prop_map(|(from, to)| Window::Dated { from, to });
    prop_oneof![weekly, dated].prop_filter("some length", |window| match window {
        Window::Weekly { from, to } => from != to,
        Window::Dated { from, to } => from < to,
    })
}

pub(super) fn freezes() -> impl Strategy<Value = BTreeMap<FreezeName, Freeze>> {
    let zone = select(vec!["UTC", "Europe/Berlin", "America/Port-au-Prince", "Etc/GMT+5"]);
    let reason = proptest::option::of("[^\0]{1,12}");
    let freeze =
        (window(), zone, reason, any::<bool>()).prop_map(|(window, zone, reason, holds)| Freeze {
            window,
            zone: zone.to_owned(),
            reason,
            holds,
        });
    vec(freeze, 0..3).prop_map(|all| {
        let named = |(number, freeze)| (format!("f{number}").parse().unwrap(), freeze);
        all.into_iter().enumerate().map(named).collect()
    })
}

pub(super) fn pace() -> impl Strategy<Value = Pace> {
    let between = proptest::option::of((0_u64..604_800_000).prop_map(Duration::from_millis));
    (proptest::option::of(1_u32..=10_000), between)
        .prop_map(|(starts, between)| Pace { starts, between })
}

pub(super) fn gate() -> impl Strategy<Value = Option<Gate>> {
    proptest::option::of(
        (vec("[a-z]{1,8}", 0..3), any::<bool>(), proptest::option::of(webhook()))
            .prop_map(|(approvers, own, webhook)| Gate { approvers, own, webhook }),
    )
}

fn webhook() -> impl Strategy<Value = GateWebhook> {
    (address(), proptest::option::of(kept())).prop_map(|(to, secret)| GateWebhook { to, secret })
}

/// A gate as it is written in a step.
pub(super) fn gate_text(gate: Option<&Gate>) -> String {
    match gate {
        None => "false".to_owned(),
        Some(gate) if *gate == Gate::default() => "true".to_owned(),
        Some(Gate { approvers, own, webhook }) => {
            let names: Vec<String> = approvers.iter().map(|name| quoted(name)).collect();
            let webhook = webhook.as_ref().map_or_else(String::new, |it| {
                let to = match &it.to {
                    Address::Url(url) => quoted(url),
                    Address::Secret(kept) => quoted(&kept.from.to_string()),
                };
                let secret = it.secret.as_ref().map(|it| format!(", secret = \"{}\"", it.from));
                format!(", webhook = {to}{}", secret.unwrap_or_default())
            });
            format!("{{ approvers = [{}], own = {own}{webhook} }}", names.join(", "))
        }
    }
}

/// Prints freezes and the pace as a file has them.
pub(super) fn print(out: &mut String, stack: &Stack) {
    for (name, freeze) in &stack.freezes {
        let week = |minute: u16| {
            let day = Weekday::ALL[usize::from(minute / 1_440)].name();
            format!("{day} {:02}:{:02}", minute / 60 % 24, minute % 60)
        };
        let (from, to) = match freeze.window {
            Window::Weekly { from, to } => (week(from), week(to)),
            Window::Dated { from, to } => (from.to_string(), to.to_string()),
        };
        writeln!(out, "[freeze.{name}]\nfrom = \"{from}\"\nto = \"{to}\"").unwrap();
        writeln!(out, "zone = \"{}\"\nholds = {}", freeze.zone, freeze.holds).unwrap();
        if let Some(reason) = &freeze.reason {
            writeln!(out, "reason = {}", quoted(reason)).unwrap();
        }
    }
    writeln!(out, "[pace]").unwrap();
    if let Some(starts) = stack.pace.starts {
        writeln!(out, "starts = {starts}").unwrap();
    }
    if let Some(between) = stack.pace.between {
        writeln!(out, "between = \"{}ms\"", between.as_millis()).unwrap();
    }
}

#[test]
fn wrong_freezes_and_gates_are_told_at_their_lines() {
    let text = r#"stack = "shop"
[service.web]
run = "./web"
replicas = 9
health = { http = "/", timeout = "2x" }
[service.web.rollout]
strategy = "canary"
steps = [{ weight = "1%", gate = { approver = "ann", own = "no" } }, { weight = "2%", gate = 1 }]
[freeze.weekend]
from = "Friday 16:00"
to = "Mon 8:00"
zone = "Europe Berlin"
[freeze.holidays]
from = 2026-12-20
to = "2026-02-29"
[freeze.backwards]
from = "2027-01-04"
to = "2026-12-20"
[freeze.mixed]
from = "Fri"
to = "2026-12-20"
hold = true
[freeze.always]
from = "Fri 16:00"
to = "Fri 16:00"
[freeze.open]
from = "Fri 16:00"
[pace]
starts = 0
between = 10
"#;
    let (_, problems) = read(text, "/srv");
    let told: String = problems
        .iter()
        .map(|it| {
            let hint = it.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let expected = it.expected.as_deref().unwrap_or("-");
            format!("{}: {}; {expected}{hint}\n", it.line, it.message)
        })
        .collect();
    expect![[r#"
        5: `2x` is not a duration; a duration from "10ms" to "10m" (the units are `ms`, `s`, `m`, `h` and `d`)
        8: unknown key `approver` in `service.web.rollout.steps[0].gate`; `approvers`, `own`, `webhook` or `secret` (did you mean `approvers`?)
        8: `own` is a text; `true` or `false`
        8: `gate` is a number; `true`, `false` or a table
        10: `Friday 16:00` is not a moment; a moment such as "Fri 16:00", "2026-12-20" or "2026-12-20 16:00" (write `"Fri 16:00"`)
        11: `Mon 8:00` is not a moment; a moment such as "Fri 16:00", "2026-12-20" or "2026-12-20 16:00" (write `"Mon 08:00"`)
        12: `Europe Berlin` is not a time zone; a time zone such as "Europe/Berlin"
        14: `from` is a date; a moment such as "Fri 16:00", "2026-12-20" or "2026-12-20 16:00" (write `from = "2026-12-20"`)
        15: `2026-02-29` is not a moment; a moment such as "Fri 16:00", "2026-12-20" or "2026-12-20 16:00"
        18: it ends before it begins; a `to` after its `from`
        21: one end is a day of the week, the other a date; both of one kind
        22: unknown key `hold` in `freeze.mixed`; `from`, `to`, `zone`, `reason` or `holds` (did you mean `holds`?)
        25: a week later it begins again: it would never be over; another `to`
        26: `freeze.open` needs `to`; a moment such as "Fri 16:00", "2026-12-20" or "2026-12-20 16:00" (write `to = "Mon 08:00"`)
        29: `starts` is 0; a whole number from 1 to 10000
        30: `between` has no unit; a duration from "0s" to "7d" (write `between = "10s"` for seconds)
    "#]].assert_eq(&told);
}

#[test]
fn files_that_a_command_names_and_are_not_there_are_a_hazard() {
    let missing = |run: &str, missing: &[&str]| -> Vec<String> {
        let text = format!("stack = \"s\"\n[service.web]\nrun = {run}\n");
        let materials = Materials {
            missing: missing.iter().map(|path| (*path).to_owned()).collect(),
            ..Materials::default()
        };
        let stack = read(&text, "/srv").0.unwrap();
        let empty = Stack::empty("s".parse().unwrap());
        let next = stack.services.keys().map(|name| (name, RevisionNumber(1))).collect();
        let now = Now { stack: &empty, services: BTreeMap::new(), next, leads_back: false };
        let hazards = missing_files(&plan(&now, &stack), &stack, &materials);
        assert!(hazards.iter().all(|it| it.component == "service.web"));
        hazards.into_iter().map(|it| it.text).collect()
    };
    let script = "web is started with worker.py, and there is no such file";
    let python = "[\"python3\", \"worker.py\"]";
    assert_eq!(missing(python, &["/srv/worker.py"]), [script]);
    assert_eq!(missing(python, &[]), [""; 0]);
    let all = [
        "[\"node\", \"--require=lib/tracing\", \"dist/server.mjs\", \"/healthz\", \"text/html; q=1\"]",
        "[\"x\", \"http://a/b.js\", \"serve\", \"a/b c.py\", \"-q\", \"img:v1.sh\"]",
    ];
    let there_is_nothing = [
        "/srv/lib/tracing",
        "/srv/dist/server.mjs",
        "/healthz",
        "/srv/text/html; q=1",
        "/srv/http:/a/b.js",
        "/srv/serve",
        "/srv/a/b c.py",
        "/srv/img:v1.sh",
    ];
    let told = |file: &str| format!("web is started with {file}, and there is no such file");
    let found = missing(all[0], &there_is_nothing);
    assert_eq!(found, [told("lib/tracing"), told("dist/server.mjs")]);
    assert_eq!(missing(all[1], &there_is_nothing), [""; 0]);
}

/// A stack with one gated step.
fn gated(gate: &str) -> String {
    format!(
        "stack = \"shop\"\n[service.web]\nrun = \"./web\"\nreplicas = 2\n[service.web.rollout]\n\
         strategy = \"canary\"\n\
         steps = [\n  {{ weight = \"5%\" }},\n  {{ weight = \"50%\", gate = {gate} }},\n]\n"
    )
}

#[test]
fn what_is_wrong_with_the_webhook_of_a_gate_is_told_without_its_line() {
    let mut told = String::new();
    for gate in [
        "{ secret = \"env:KEY\" }",
        "{ webhook = \"hunter2.example.com\", secret = \"hunter2\" }",
        "{ webhook = \"https:///hunter2\", secret = \"env:KEY\" }",
        "{ url = \"https://x/hunter2\" }",
        "{ secret = \"hunter2\" }",
        "{\n    address = \"hunter2\",\n  }",
        "{ approver = [\"ann\"] }",
    ] {
        let text = gated(gate);
        let (_, problems) = read(&text, "/srv/shop");
        told.extend(problems.iter().map(|it| it.render("evenkeel.toml", &text)));
    }
    assert!(!told.contains("hunter2"), "{told}");
    expect![[r#"
        evenkeel.toml:9:30: error: only what a `webhook` is asked is signed
        evenkeel.toml:9:40: error: `webhook` is not a URL, nor where one is kept
          = help: expected a URL that begins with `https://` or `http://`, or where it is read from: `env:NAME`, `file:PATH` or `age:PATH`
        evenkeel.toml:9:72: error: `secret` does not say where it comes from
          = help: expected `env:NAME`, `file:PATH` or `age:PATH`
          = help: a secret itself never stands in this file
        evenkeel.toml:9:40: error: `webhook` is not a URL, nor where one is kept
          = help: expected a URL that begins with `https://` or `http://`, or where it is read from: `env:NAME`, `file:PATH` or `age:PATH`
        evenkeel.toml:9:30: error: unknown key `url` in `service.web.rollout.steps[1].gate`
          = help: expected `approvers`, `own`, `webhook` or `secret`
          = help: it is called `webhook` here
        evenkeel.toml:9:30: error: only what a `webhook` is asked is signed
        evenkeel.toml:9:39: error: `secret` does not say where it comes from
          = help: expected `env:NAME`, `file:PATH` or `age:PATH`
          = help: a secret itself never stands in this file
        evenkeel.toml:10:5: error: unknown key `address` in `service.web.rollout.steps[1].gate`
          = help: expected `approvers`, `own`, `webhook` or `secret`
        evenkeel.toml:9:30: error: unknown key `approver` in `service.web.rollout.steps[1].gate`
          |
        9 |   { weight = "50%", gate = { approver = ["ann"] } },
          |                              ^^^^^^^^ expected `approvers`, `own`, `webhook` or `secret`
          = help: did you mean `approvers`?
    "#]].assert_eq(&told);
}

#[test]
fn the_secrets_of_gates_are_read_and_a_change_of_a_webhook_is_planned() {
    let text = gated("{ webhook = \"file:url\", secret = \"env:KEY\" }");
    let (url, key) = (SecretSource::File("/srv/shop/url".into()), SecretSource::Env("KEY".into()));
    assert_eq!(draft(&text, "/srv/shop").needs().secrets, [url, key].into());
    let stack = |text: &str, key: &str| {
        let read = |content: &str| Ok(Digest::of(content.as_bytes()));
        let secrets = [("file:/srv/shop/url", read("url")), ("env:KEY", read(key))];
        let secrets = secrets.map(|(from, it)| (from.to_owned(), it)).into();
        let bound = draft(text, "/srv/shop").bind(&Materials { secrets, ..Materials::default() });
        bound.stack.unwrap()
    };
    let at = |path: &str| gated(&format!("{{ webhook = \"https://x.example.com/{path}\" }}"));
    let stacks = [
        stack(&gated("true"), ""),
        stack(&text, "one"),
        stack(&text, "two"),
        stack(&at("hunter2"), ""),
        stack(&at("hunter3"), ""),
    ];
    let mut told = String::new();
    for pair in stacks.windows(2) {
        let web = Deployed { revision: RevisionNumber(1), replicas: 2 };
        let name: ServiceName = "web".parse().unwrap();
        let services = [(&name, web)].into();
        let now = Now { stack: &pair[0], services, next: [].into(), leads_back: false };
        for change in plan(&now, &pair[1]).changes {
            for field in change.fields {
                let (from, to) = (field.from.unwrap(), field.to.unwrap());
                writeln!(told, "{}: {from}\n  -> {to}", field.field).unwrap();
            }
        }
    }
    assert!(!told.contains("hunter"), "{told}");
    expect![[r#"
        rollout.steps: 5 % for 5m, 50 % for 5m and a gate
          -> 5 % for 5m, 50 % for 5m and a gate, asking file:/srv/shop/url (sha256:28e5ebabd9d8), signed with env:KEY (sha256:7692c3ad3540)
        rollout.steps: 5 % for 5m, 50 % for 5m and a gate, asking file:/srv/shop/url (sha256:28e5ebabd9d8), signed with env:KEY (sha256:7692c3ad3540)
          -> 5 % for 5m, 50 % for 5m and a gate, asking file:/srv/shop/url (sha256:28e5ebabd9d8), signed with env:KEY (sha256:3fc4ccfe7458)
        rollout.steps: 5 % for 5m, 50 % for 5m and a gate, asking file:/srv/shop/url (sha256:28e5ebabd9d8), signed with env:KEY (sha256:3fc4ccfe7458)
          -> 5 % for 5m, 50 % for 5m and a gate, asking https://x.example.com/…
        rollout.steps: 5 % for 5m, 50 % for 5m and a gate, asking https://x.example.com/…
          -> 5 % for 5m, 50 % for 5m and a gate, asking https://x.example.com/…, where the URL of a webhook is another
    "#]].assert_eq(&told);
    let problems = draft(&text, "/srv/shop").bind(&Materials::default()).problems;
    let told: String = problems.iter().map(|it| it.render("evenkeel.toml", &text)).collect();
    expect![[r#"
        evenkeel.toml:9:40: error: file:/srv/shop/url was not read
        evenkeel.toml:9:61: error: env:KEY was not read
    "#]]
    .assert_eq(&told);
}
