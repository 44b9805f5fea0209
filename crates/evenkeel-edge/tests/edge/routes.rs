//! Routes: what they look at, what they say themselves, and what holds on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use evenkeel_kernel::model::{
    Leads, Matches, Mirror, Rate, Redirect, RevisionNumber, Route, RoutePolicy, Sticky, Weight,
    traffic::HashKey,
};
use evenkeel_kernel::routing::{self, RoutingTable};

use crate::client::{Answer, Client};
use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until};

/// A route to `web`, or with another change of it.
fn route(name: &str, change: impl FnOnce(&mut Route)) -> routing::Route {
    let mut route = Route::plain(None, "/".to_owned(), "web".parse().unwrap());
    change(&mut route);
    routing::Route { name: name.parse().unwrap(), route, revision: None }
}

/// A table of one pool, with these routes beside the one for everything.
fn routed(instance: &Instance, more: Vec<routing::Route>) -> RoutingTable {
    let mut it = table(1, &[(10_000, &[instance])]);
    it.routes.extend(more);
    it.sort_routes();
    it
}

fn ask(rig: &Rig, head: &str) -> Answer {
    rig.client().raw(&format!("{head}\r\nHost: shop.test\r\n\r\n"))
}

#[test]
fn a_route_looks_at_method_headers_and_cookies() {
    let instance = Instance::new(|request, stream| answer(stream, "200 OK", request.path()));
    let pairs = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let away = |to: &str| Leads::Redirect(Redirect { to: format!("https://{to}"), status: 302 });
    let rig = Rig::new();
    rig.serve(&routed(
        &instance,
        vec![
            route("beta", |it| {
                it.matches.headers = pairs("x-beta", "*");
                it.leads = away("beta.test");
            }),
            route("red", |it| {
                it.matches.cookies = pairs("team", "red*");
                it.leads = away("red.test");
            }),
            route("purge", |it| {
                it.matches.methods = BTreeSet::from(["PURGE".to_owned()]);
                it.path = "/cache".to_owned();
                it.leads = away("purge.test/x");
            }),
            route("exact", |it| {
                it.exact = true;
                it.path = "/only".to_owned();
                it.leads = away("only.test");
            }),
            route("wild", |it| {
                it.host = Some("*.wild.test".to_owned());
                it.leads = away("wild.test");
            }),
        ],
    ));
    let goes = |head: &str, to: Option<&str>| {
        let answer = ask(&rig, head);
        assert_eq!(answer.header("location"), to, "{head}");
        assert_eq!(answer.status, if to.is_some() { 302 } else { 200 });
    };
    goes("GET /a?b HTTP/1.1", None);
    goes("GET /a?b HTTP/1.1\r\nX-Beta: 1", Some("https://beta.test/a?b"));
    goes("GET /a HTTP/1.1\r\nCookie: a=b; team=red-2", Some("https://red.test/a"));
    goes("GET /a HTTP/1.1\r\nCookie: team=blue", None);
    goes("PURGE /cache/x HTTP/1.1", Some("https://purge.test/x"));
    goes("GET /cache/x HTTP/1.1", None);
    goes("GET /only HTTP/1.1", Some("https://only.test/only"));
    goes("GET /only/not HTTP/1.1", None);
    let wild =
        |host: &str| rig.client().raw(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status;
    assert_eq!([wild("a.wild.test"), wild("wild.test"), wild("a.b.wild.test")], [302, 200, 200]);
}

#[test]
fn a_route_that_is_closed_says_so() {
    let instance = Instance::says("open");
    let rig = Rig::new();
    let closed = |text: &str| {
        let text = Some(text.to_owned());
        route("closed", |it| it.policy = RoutePolicy { maintenance: text, ..it.policy.clone() })
    };
    let mut it = routed(&instance, vec![]);
    it.routes = vec![closed("<h1>Back at nine</h1>")];
    rig.serve(&it);
    let answer = ask(&rig, "GET / HTTP/1.1");
    assert_eq!((answer.status, answer.body.trim()), (503, "<h1>Back at nine</h1>"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("retry-after"), Some("60"));
    assert_eq!(instance.requests(), 0);
}

#[test]
fn a_prefix_is_stripped_and_told() {
    let instance = Instance::new(|request, stream| {
        let prefix = request.header("x-forwarded-prefix").unwrap_or("none");
        answer(stream, "200 OK", &format!("{} {prefix}", request.path()))
    });
    let rig = Rig::new();
    let api = route("api", |it| {
        it.path = "/api".to_owned();
        it.policy.strip = true;
    });
    rig.serve(&routed(&instance, vec![api]));
    assert_eq!(ask(&rig, "GET /api/x?y HTTP/1.1").body, "/x?y /api");
    assert_eq!(ask(&rig, "GET /api HTTP/1.1").body, "/ /api");
    assert_eq!(ask(&rig, "GET /apis HTTP/1.1").body, "/apis none");
}

#[test]
fn so_many_requests_come_through_and_no_more() {
    let instance = Instance::says("through");
    let rig = Rig::new();
    let rate = Rate { requests: 1, per: Duration::from_secs(3600), burst: 3, by_client: true };
    let mut it = routed(&instance, vec![]);
    it.routes[0].route.policy.rate = Some(rate);
    rig.serve(&it);
    let mut client = rig.client();
    let statuses: Vec<u16> = (0..5).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = client.get("/");
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 3_000);
    // What was let through counts on in the next table.
    it.fence = crate::rig::fence(2);
    rig.serve(&it);
    assert_eq!(client.get("/").status, 429);
}

#[test]
fn a_body_has_its_bound_whether_its_length_is_told_or_not() {
    let instance =
        Instance::new(|request, stream| answer(stream, "200 OK", &request.body.len().to_string()));
    let rig = Rig::new();
    let mut it = routed(&instance, vec![]);
    it.routes[0].route.policy.body_max = Some(1_000);
    rig.serve(&it);
    assert_eq!(rig.client().post("/", &"x".repeat(1_000)).body, "1000");
    let told = rig.client().post("/", &"x".repeat(1_001));
    assert_eq!((told.status, told.header("x-evenkeel-error")), (413, Some("body-too-large")));
    let chunks = |sizes: &[usize]| {
        let mut client = rig.client();
        client.write("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for size in sizes {
            client.write(&format!("{size:x}\r\n{}\r\n", "x".repeat(*size)));
        }
        client.write("0\r\n\r\n");
        client.answer(false).unwrap()
    };
    assert_eq!(chunks(&[500, 500]).body, "1000");
    assert_eq!(chunks(&[500, 501]).status, 413);
    until("none is under way", || rig.counts(1).in_flight == 0);
    assert_eq!(rig.counts(1).failed(), 0);
}

#[test]
fn a_try_has_its_time_and_all_of_them_have_theirs() {
    let (_never, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let slow = Instance::new(move |_, _| {
        let _ended = gone.lock().unwrap().recv_timeout(Duration::from_secs(20));
        false
    });
    let fast = Instance::says("fast");
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&slow, &fast])]);
    it.routes[0].route.policy.try_timeout = Some(Duration::from_millis(200));
    rig.serve(&it);
    for _ in 0..10 {
        assert_eq!(rig.client().get("/").body, "fast");
    }
    let mut it = table(2, &[(10_000, &[&slow])]);
    it.routes[0].route.policy.timeout = Some(Duration::from_millis(300));
    rig.serve(&it);
    let asked = Instant::now();
    let answer = rig.client().get("/");
    assert_eq!((answer.status, answer.header("x-evenkeel-error")), (504, Some("timeout")));
    let took = asked.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn a_person_stays_where_they_are() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    let serve = |generation: u64, share: u16, sticky: Sticky| {
        let mut it = table(generation, &[(10_000 - share, &[&old]), (share, &[&new])]);
        it.services.values_mut().for_each(|it| it.sticky = Some(sticky.clone()));
        rig.serve(&it);
    };
    let by = |user: u32| {
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\nX-User: {user}\r\n\r\n");
        rig.client().raw(&head).body
    };
    let user = Sticky::By(HashKey::Header("x-user".to_owned()));
    serve(1, 2_000, user.clone());
    let first: Vec<String> = (0..100).map(by).collect();
    assert_eq!(first, (0..100).map(by).collect::<Vec<_>>());
    let on_new = first.iter().filter(|it| *it == "new").count();
    assert!((8..35).contains(&on_new), "{on_new}");
    serve(2, 6_000, user);
    let later: Vec<String> = (0..100).map(by).collect();
    let went_back = first.iter().zip(&later).filter(|(a, b)| *a == "new" && *b == "old").count();
    assert_eq!(went_back, 0);
    assert!(later.iter().filter(|it| *it == "new").count() > on_new);

    // By a cookie that the edge gives.
    serve(3, 5_000, Sticky::Own);
    for _ in 0..10 {
        let first = rig.client().get("/");
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..10 {
            let head = format!("GET / HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n");
            let again = rig.client().raw(&head);
            assert_eq!(
                (again.body.as_str(), again.header("set-cookie")),
                (first.body.as_str(), None)
            );
        }
    }
}

#[test]
fn testers_meet_the_new_before_it_has_a_weight() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&old]), (0, &[&new])]);
    let headers = BTreeMap::from([("x-beta".to_owned(), "1".to_owned())]);
    let testers = Matches { headers, ..Matches::default() };
    it.services.values_mut().for_each(|it| it.testers = Some((testers.clone(), RevisionNumber(2))));
    rig.serve(&it);
    let beta = "GET / HTTP/1.1\r\nHost: test\r\nX-Beta: 1\r\n\r\n";
    for _ in 0..20 {
        assert_eq!(rig.client().raw(beta).body, "new");
        assert_eq!(Client::connect(rig.internal).raw(beta).body, "new");
        assert_eq!(rig.client().get("/").body, "old");
    }
    // Better the old one than none.
    drop(new);
    assert_eq!(rig.client().raw(beta).body, "old");
}

#[test]
fn copies_go_to_the_new_and_nobody_waits_for_them() {
    let (seen, copies) = mpsc::channel();
    let seen = Mutex::new(seen);
    let old = Instance::says("old");
    let new = Instance::new(move |request, stream| {
        let marked = request.header("x-evenkeel-mirror").map(str::to_owned);
        let text = String::from_utf8_lossy(&request.body).into_owned();
        seen.lock().unwrap().send((marked, request.path().to_owned(), text)).unwrap();
        // Far too late, and broken.
        std::thread::sleep(Duration::from_millis(300));
        let _late = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nx");
        false
    });
    let rig = Rig::new();
    let mut it = table(1, &[(10_000, &[&old]), (0, &[&new])]);
    let methods = BTreeSet::from(["GET".to_owned(), "PUT".to_owned()]);
    let mirror = Mirror { share: Weight::ALL, methods };
    it.services.values_mut().for_each(|it| it.mirror = Some((mirror.clone(), RevisionNumber(2))));
    rig.serve(&it);
    let mut client = rig.client();
    let asked = Instant::now();
    assert_eq!(client.get("/a").body, "old");
    assert_eq!(client.post("/not", "x").body, "old");
    let put = "PUT /b HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nxyz";
    assert_eq!(client.raw(put).body, "old");
    assert!(asked.elapsed() < Duration::from_millis(300));
    let mut got: Vec<_> =
        (0..2).map(|_| copies.recv_timeout(Duration::from_secs(5)).unwrap()).collect();
    got.sort();
    let one = Some("1".to_owned());
    let expected =
        [(one.clone(), "/a".to_owned(), String::new()), (one, "/b".to_owned(), "xyz".to_owned())];
    assert_eq!(got, expected);
    until("they are over", || rig.counts(2).in_flight == 0);
    assert_eq!((rig.counts(2).requests, rig.counts(2).failed()), (0, 0));
}
