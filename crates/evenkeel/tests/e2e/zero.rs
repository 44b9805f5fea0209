//! A service that has no instance while nobody asks for it: whoever asks then waits until one has
//! started, and nobody's request fails.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::house::{House, service};
use crate::http::Client;
use crate::machine::free_port;
use crate::programs::node;

/// Writes a stack file with `web`, which sleeps after two seconds, and `api`, which asks it.
fn stack(house: &House, version: &str, more: &str) {
    let web = node(house, &format!("VERSION = \"{version}\""));
    let api = node(house, "VERSION = \"api\", RELAY_TO = \"WEB_URL\"");
    house.stack(&format!(
        "[service.web]\n{web}\n[service.web.rollout]\nmin_ready = \"0s\"\nbake = \"0s\"\n\
         [service.web.scale]\nmin = 0\nmax = 4\nin_flight = 4\nup_after = \"1s\"\n\
         down_after = \"2s\"\nzero_after = \"2s\"\n\
         [service.api]\n{api}\nuses = [\"web\"]\nrollout.min_ready = \"0s\"\n\
         [route.web]\nto = \"web\"\n[route.api]\nhost = \"api.test\"\nto = \"api\"\n{more}\n"
    ));
}

/// `web`, if it has no instance at all.
fn sleeping(status: &Value) -> Option<()> {
    let web = service(status, "web")?;
    let empty = web["pools"].as_array()?.is_empty();
    (empty && web["replicas"] == 0 && status["release"].is_null()).then_some(())
}

/// So many clients ask at once, each several times; all must be answered well, by this version.
fn crowd(addr: SocketAddr, count: usize, version: &str) {
    let together = Barrier::new(count);
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut client = Client::new(addr);
                together.wait();
                for _ in 0..5 {
                    let answer = client.get("/page").unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.header("x-version"), Some(version));
                }
            });
        }
    });
}

#[test]
fn who_asks_for_a_service_that_sleeps_waits_and_no_request_fails() {
    let house = House::new();
    stack(&house, "v1", "");
    house.up();
    assert_eq!(Client::new(house.listen).get("/page").unwrap().status, 200);
    for count in [1, 200] {
        house.until("it sleeps", sleeping);
        assert!(house.instances("web").is_empty());
        let began = Instant::now();
        crowd(house.listen, count, "v1");
        println!("{count} clients, five requests each, from none: {:.1?}", began.elapsed());
    }
    house.run(&["status"]).exits(0).says("(0 to 4, by in_flight");
    house.until("it sleeps", sleeping);
    house.run(&["status"]).exits(0).says("asleep");
    house.run(&["why"]).exits(0);
    let journal = house.run(&["history", "--journal"]).exits(0);
    for told in ["to 0 instances: nobody asked for it for 2s", "web wakes: "] {
        assert!(journal.out.contains(told), "{}", journal.out);
    }
    // Who uses it wakes it as well.
    let answer = Client::new(house.listen).host("api.test").get("/relay").unwrap();
    assert_eq!((answer.status, answer.header("x-behind")), (200, Some("v1")));

    // A release wakes it, judges both, and lets it sleep again.
    house.until("it sleeps", sleeping);
    stack(&house, "v2", "");
    house.apply().exits(0);
    crowd(house.listen, 8, "v2");
    house.until("it sleeps", sleeping);
    crowd(house.listen, 8, "v2");

    // Control is away when somebody asks, and so is the edge.
    for role in ["control", "edge"] {
        house.until("it sleeps", sleeping);
        let former = house.kill(role);
        crowd(house.listen, 8, "v2");
        house.until_back(role, former);
    }

    // A person may say so too.
    house.run(&["scale", "web=0", "--yes"]).exits(0);
    house.until("it sleeps", sleeping);
    house.run(&["scale", "api=0", "--yes"]).exits(1).says("`min = 0`");
    crowd(house.listen, 8, "v2");
    house.bring_down();
}

#[test]
fn discovery_tells_of_its_door_so_that_who_is_told_wakes_it() {
    let house = House::new();
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    stack(&house, "v1", &format!("[discovery]\nhttp = \"{http}\""));
    house.up();
    let told = |path: &str| -> Value {
        serde_json::from_slice(&Client::new(http).get(path).unwrap().body).unwrap()
    };
    let door = || {
        let all = told("/v1/health/service/web?passing");
        let [it] = all.as_array().unwrap().as_slice() else { panic!("{all}") };
        u16::try_from(it["Service"]["Port"].as_u64().unwrap()).unwrap()
    };
    let awake = door();
    house.until("it sleeps", sleeping);
    assert_eq!(door(), awake, "the same, whether it sleeps or not");
    // Who looks at instances does not wake it.
    assert_eq!(told("/v1/http_sd?service=web"), Value::Array(Vec::new()));
    assert!(sleeping(&house.status()).is_some());
    crowd(SocketAddr::from(([127, 0, 0, 1], door())), 8, "v1");
    assert_eq!(told("/v1/http_sd?service=web").as_array().unwrap().len(), 1);
    house.bring_down();
}
