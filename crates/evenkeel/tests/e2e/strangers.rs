//! Other users of the machine (S40): they may not even look.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::house::House;
use crate::machine::{program, skip};
use crate::programs::web;

const QUICK: &str = "min_ready = \"0s\"\nbake = \"0s\"";
/// The user and group that nobody is.
const NOBODY: &str = "65534";

/// Asks the API as another user. Returns the status, 0 if there was no connection.
fn asks(house: &House, method: &str, path: &str) -> (u16, String) {
    let socket = house.file("run/control.sock").display().to_string();
    let out = Command::new("setpriv")
        .args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--",
            "curl",
            "-s",
            "-m",
            "9",
        ])
        .args(["-w", "\n%{http_code}", "--unix-socket", &socket, "-X", method])
        .args(["-H", "content-type: application/json", "-d", "{}"])
        .arg(format!("http://evenkeel{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap_or_default();
    (code.parse().unwrap_or(0), body.to_owned())
}

#[test]
fn s40_every_path_of_the_api_is_closed_to_other_users() {
    let tools = program("setpriv").is_some() && program("curl").is_some();
    if !rustix::process::geteuid().is_root() || !tools {
        return skip(
            "other users of the API: only root can be another user, with setpriv and curl",
        );
    }
    let house = House::new();
    web(&house, "VERSION = \"v1\"", 1, QUICK);
    house.up();
    let mode = |name: &str| fs::metadata(house.file(name)).unwrap().permissions().mode() & 0o777;
    for (file, wanted) in [
        ("run/control.sock", 0o600),
        ("run/edge.sock", 0o600),
        ("run/keeper.sock", 0o600),
        ("state", 0o700),
        ("instances", 0o700),
        ("artifacts", 0o700),
    ] {
        assert_eq!(mode(file) & 0o077, 0, "{file} has mode {:o}, not {wanted:o}", mode(file));
    }
    assert_eq!(asks(&house, "GET", "/v1/status").0, 0, "the socket is open to everybody");

    // Even where somebody has opened the doors to it.
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(house.folder().parent().unwrap(), 0o755);
    open(&house.file(""), 0o755);
    open(&house.file("run"), 0o755);
    open(&house.file("run/control.sock"), 0o666);
    let documented: Value = serde_json::from_str(&house.run(&["openapi"]).exits(0).out).unwrap();
    let paths = documented["paths"].as_object().unwrap();
    assert!(paths.len() >= 20);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "1");
            let (code, body) = asks(&house, &method.to_uppercase(), &path);
            assert_eq!(code, 403, "{method} {path}: {body}");
            assert!(!body.contains(house.folder().to_str().unwrap()), "{body}");
        }
    }
    for (method, path) in [("GET", "/v1/openapi.json"), ("DELETE", "/v1/status"), ("GET", "/")] {
        let (code, body) = asks(&house, method, path);
        assert!([403, 404, 405].contains(&code), "{method} {path}: {code} {body}");
    }
    assert_eq!(house.status()["services"][0]["ready"], 1);
}

#[test]
fn s40_names_lead_nowhere_else_and_commands_reach_no_shell() {
    let house = House::new();
    let service = crate::programs::node(&house, "VERSION = \"v1\"");
    for name in ["../web", "a/b", "web.r1", "WEB", "-web", "w$b"] {
        house.stack(&format!("[service.\"{name}\"]\n{service}\n"));
        house.run(&["plan"]).exits(1).says("1 to 63 lower-case letters");
    }
    // What a shell would do with these, nobody does.
    let stack = format!(
        "[service.web]\n{}\n[service.web.rollout]\n{QUICK}\n[route.web]\nto = \"web\"\n",
        service.replace(
            "\"server.js\"",
            "\"server.js\", \"$(touch hit)\", \"; touch hit\", \"`touch hit`\""
        )
    );
    house.stack(&stack);
    house.up();
    for name in ["../../etc", "web.r1.1/../../state", "/etc/passwd"] {
        assert_ne!(house.run(&["logs", name]).code, 0, "{name}");
    }
    house.run(&["scale", "../web=2"]).exits(1);
    house.run(&["rollback", "../web", "r1"]).exits(1);
    assert!(!house.folder().join("hit").exists(), "a shell has read the command");
    assert!(house.processes().values().any(|it| it.contains("$(touch hit)")));
}
