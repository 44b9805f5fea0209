//! Certificates as people see them: what is said when one runs out or cannot be had.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::house::House;
use crate::machine::free_port;
use crate::programs::node;

const DAY: u64 = 24 * 3600;

/// Puts a certificate for `house.test` into the house's folder, which is good for so many days.
fn certificate(house: &House, days: u64) {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::new(vec!["house.test".to_owned()]).unwrap();
    params.not_before = at(now - (90 - days) * DAY);
    // An hour more, so that it is so many days for the whole test.
    params.not_after = at(now + days * DAY + 3600);
    let key = KeyPair::generate().unwrap();
    house.write("key.pem", &key.serialize_pem());
    house.write("chain.pem", &params.self_signed(&key).unwrap().pem());
}

/// A stack with a door for TLS, with more in its `[edge]` and in its certificate.
fn stack(house: &House, edge: &str, certificate: &str) {
    let service = node(house, "VERSION = \"v1\"");
    let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    house.stack(&format!(
        "tls = [\"{tls}\"]\nto_https = false\n{edge}\n\
         [certificate.house]\nhosts = [\"house.test\"]\n{certificate}\n\
         [service.web]\n{service}\n[service.web.rollout]\nmin_ready = \"0s\"\nbake = \"0s\"\n\
         [route.web]\nto = \"web\"\n"
    ));
}

fn seen(status: &Value) -> Option<&Value> {
    status["edge"]["certificates"].as_array()?.iter().find(|it| it["name"] == "house")
}

/// How often this was told.
fn told(house: &House, kind: &str) -> usize {
    let journal = house.run(&["history", "--journal", "--json"]).exits(0).out;
    let rows = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == kind).count()
}

#[test]
fn s22_a_certificate_that_runs_out_is_said_and_replaced_without_a_release() {
    let house = House::new();
    certificate(&house, 5);
    stack(&house, "", "chain = \"chain.pem\"\nkey = \"key.pem\"");
    house.up();
    let text = "certificate house runs out in 5 days";
    house.until("it is said", |status| {
        let waits = status["waits"].as_array()?;
        waits.iter().any(|it| it["what"] == text).then_some(())
    });
    house.run(&["status"]).exits(0).says(text).says("house        5 days");
    house.run(&["doctor"]).says("certificate house is good for 5 days");
    let released = house.last_release()["id"].clone();
    certificate(&house, 80);
    house.until("the next is shown", |status| {
        (seen(status)?["left_s"].as_u64()? >= 80 * DAY && status["waits"].as_array()?.is_empty())
            .then_some(())
    });
    assert_eq!(told(&house, "certificate.expires"), 1);
    assert_eq!(house.last_release()["id"], released);
}

#[test]
fn s22_an_issuer_that_is_not_there_is_said_and_holds_up_nothing() {
    let house = House::new();
    // Any certificate will do as a root.
    certificate(&house, 80);
    let dead = free_port();
    let acme =
        format!("acme = {{ directory = \"https://127.0.0.1:{dead}/dir\", root = \"chain.pem\" }}");
    stack(&house, &acme, "acme = true");
    house.up();
    let why = "could not speak to 127.0.0.1: Connection refused";
    house.until("it is said", |status| {
        let it = seen(status)?;
        let so = it["failed"].as_str()?.starts_with(why) && it["left_s"].is_null();
        (so && told(&house, "certificate.failed") == 1).then_some(())
    });
    house
        .run(&["status"])
        .exits(0)
        .says("there is none yet  could not be ordered, next try in ")
        .says(why);
    house.run(&["why"]).exits(0).says("certificate house could not be ordered");
    house.run(&["doctor"]).exits(1).says("there is no certificate house");
}
