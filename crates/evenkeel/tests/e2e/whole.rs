//! Revisions are whole: configuration files and secrets come with them and go back with them, and a
//! secret is nowhere but where it belongs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_kernel::model::Digest;

use crate::house::House;
use crate::http::Client;
use crate::load::{ALL, Load};
use crate::machine::{program, skip};
use crate::programs::node;

const KEPT_WARM: &str = "strategy = \"blue-green\"\nmin_ready = \"0s\"\nbake = \"5m\"";

/// A house whose web server is configured by a file and knows a secret.
fn house() -> House {
    let house = House::new();
    let service = node(&house, "");
    house.write("version", "v1");
    house.write("token", "hunter-one\n");
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = 2\nconfig = [\"version\"]\n\
         secrets = {{ TOKEN = \"file:token\" }}\nsecrets_in_env = [\"TOKEN\"]\n\
         [service.web.rollout]\n{KEPT_WARM}\n[route.web]\nto = \"web\"\n"
    ));
    house
}

fn token(house: &House) -> String {
    Client::new(house.listen).get("/token").unwrap().text()
}

fn hashed(secret: &str) -> String {
    let hex = Digest::of(secret.as_bytes()).hex().to_owned();
    format!("{hex} {hex}")
}

#[test]
fn a_change_of_configuration_is_a_release_and_goes_back_like_one() {
    let house = house();
    house.up();
    let load = Load::start(house.listen, ALL);
    load.until_answered("v1", 20);
    house.run(&["plan"]).exits(0);
    house.write("version", "v2");
    house.run(&["plan"]).exits(2).says("version").says("r1 -> r2");
    house.apply().exits(0);
    load.until_answered("v2", 20);
    // An instance that starts again starts as its own revision, whatever lies there now.
    house.write("version", "v3");
    let (_, pid) = house.instances("web").into_iter().next().unwrap();
    let report = load.stop_unharmed();
    println!("{report}");
    crate::machine::kill(pid);
    house.until("it is back", |status| {
        let pids = crate::house::instances(status, "web");
        (status["services"][0]["ready"] == 2 && !pids.values().any(|it| *it == pid)).then_some(())
    });
    let load = Load::start(house.listen, ALL);
    load.until_answered("v2", 20);
    house.run(&["rollback"]).exits(0);
    let before = load.look(|report| report.answers("v1"));
    load.until_answered("v1", before + 20);
    let report = load.stop_unharmed();
    assert!(!report.by.contains_key("v3"), "{report}");
}

#[test]
fn s40_a_secret_is_delivered_rotated_and_nowhere_else() {
    let house = house();
    let said = house.up();
    assert_eq!(token(&house), hashed("hunter-one"));
    house.write("token", "hunter-two\n");
    let plan = house.run(&["plan"]).exits(2).says("secrets.TOKEN");
    let applied = house.apply().exits(0);
    assert_eq!(token(&house), hashed("hunter-two"));
    house.run(&["rollback"]).exits(0);
    assert_eq!(token(&house), hashed("hunter-one"));

    let json = house.run(&["status", "--json", "--instances"]).exits(0);
    let journal = house.run(&["history", "--journal", "--json"]).exits(0);
    for told in [&said, &plan, &applied, &json, &journal] {
        assert!(!format!("{told:?}").contains("hunter-"));
    }
    assert!(!house.processes().values().any(|command| command.contains("hunter-")));
    let (mut kept, mut delivered) = (0, 0);
    for file in files(&house.file("")) {
        let Ok(content) = fs::read(&file) else { continue };
        if !content.windows(7).any(|part| part == b"hunter-") {
            continue;
        }
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o400, "{}", file.display());
        let inside = |folder: &str| file.parent().is_some_and(|it| it.ends_with(folder));
        match (inside("h/secrets"), inside("secrets")) {
            (true, _) => kept += 1,
            (false, true) => delivered += 1,
            (false, false) => panic!("a secret lies in {}", file.display()),
        }
    }
    assert!(kept == 2 && delivered >= 2, "{kept} kept, {delivered} delivered");

    house.write("token", "");
    house.apply().exits(1).says("evenkeel.toml:").says("it is empty");
    fs::remove_file(house.folder().join("token")).unwrap();
    house.apply().exits(1).says("evenkeel.toml:").says("could not be read");
}

#[test]
fn an_encrypted_secret_is_opened_with_the_key_of_whoever_applies() {
    let (Some(age), Some(keygen)) = (program("age"), program("age-keygen")) else {
        return skip("age is not installed");
    };
    let house = house();
    let made = Command::new(keygen).args(["-o", "identity"]).current_dir(house.folder()).output();
    let words = String::from_utf8(made.unwrap().stderr).unwrap();
    let recipient = words.trim().rsplit(' ').next().unwrap().to_owned();
    house.write("plain", "hunter-three");
    let encrypt = Command::new(age)
        .args(["--encrypt", "--recipient", &recipient, "--output", "token.age", "plain"])
        .current_dir(house.folder())
        .status();
    assert!(encrypt.unwrap().success());
    fs::remove_file(house.folder().join("plain")).unwrap();
    let file = fs::read_to_string(house.folder().join("evenkeel.toml")).unwrap();
    house.write("evenkeel.toml", &file.replace("file:token", "age:token.age"));
    house.up();
    assert_eq!(token(&house), hashed("hunter-three"));
    fs::remove_file(house.folder().join("identity")).unwrap();
    house.run(&["plan"]).exits(1).says("evenkeel.toml:").says("could not be read");
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found
}
