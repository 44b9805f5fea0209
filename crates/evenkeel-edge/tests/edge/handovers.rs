//! The edge and the keeper, each without the other.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use evenkeel_edge::handover;
use evenkeel_kernel::layout;
use evenkeel_kernel::world::Health;

use crate::instance::Instance;
use crate::rig::{Keeper, Rig, fence, table, until};

#[test]
fn s12_an_edge_that_starts_alone_serves_its_last_good_table() {
    let instance = Instance::says("still here");
    let mut rig = Rig::new();
    rig.serve(&table(3, &[(10_000, &[&instance])]));
    rig.stop_edge();
    // Believed before any probe: the first request needs no luck.
    rig.start_edge();
    assert_eq!(rig.client().get("/").body, "still here");
    assert_eq!(rig.observe().serving, fence(3));
    until("it is probed", || rig.health("web.r1.1") == Health::Healthy);
}

#[test]
fn an_edge_that_cannot_read_its_table_says_503() {
    let instance = Instance::says("new");
    let mut rig = Rig::new();
    rig.serve(&table(3, &[(10_000, &[&instance])]));
    rig.stop_edge();
    std::fs::write(rig.home.join(layout::EDGE_TABLE), "garbage").unwrap();
    rig.start_edge();
    let answer = rig.client().get("/");
    assert_eq!((answer.status, answer.header("x-evenkeel-error")), (503, Some("no-table")));
    rig.serve(&table(4, &[(10_000, &[&instance])]));
    assert_eq!(rig.client().get("/").body, "new");
}

#[test]
fn a_new_keeper_adopts_the_sockets_of_the_edge() {
    let instance = Instance::says("served");
    let mut rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let mut client = rig.client();
    for _ in 0..3 {
        rig.keeper = None;
        assert_eq!(client.get("/").body, "served");
        assert_eq!(rig.client().get("/").body, "served");
        rig.keeper = Some(Keeper::start(&rig.home));
        assert_eq!(client.get("/").body, "served");
    }
    // It has them: the edge goes, who comes now waits, and the next edge serves them.
    rig.stop_edge();
    let mut waiting = rig.client();
    waiting.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    rig.start_edge();
    assert_eq!(waiting.answer(false).unwrap().body, "served");
}

#[test]
fn a_keeper_that_starts_alone_binds_again() {
    let instance = Instance::says("served");
    let mut rig = Rig::new();
    // Ports that are known, so that they can be had again.
    let wanted =
        BTreeMap::from([("edge-0".to_owned(), rig.addr), ("svc-web".to_owned(), rig.internal)]);
    let have = handover::want(&rig.home, &wanted).unwrap();
    assert_eq!(have["edge-0"], Ok(rig.addr));
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    rig.stop_edge();
    rig.keeper = None;
    rig.keeper = Some(Keeper::start(&rig.home));
    rig.start_edge();
    assert_eq!(rig.client().get("/").body, "served");
}

#[test]
fn listeners_are_exactly_those_that_are_wanted() {
    let instance = Instance::says("served");
    let rig = Rig::new();
    rig.serve(&table(1, &[(10_000, &[&instance])]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let wanted = BTreeMap::from([
        ("edge-0".to_owned(), rig.addr),
        ("edge-1".to_owned(), any),
        ("edge-2".to_owned(), taken.local_addr().unwrap()),
    ]);
    let have = handover::want(&rig.home, &wanted).unwrap();
    assert_eq!(have["edge-0"], Ok(rig.addr));
    assert_eq!(have["edge-2"], Err("address already in use".to_owned()));
    let added = have["edge-1"].clone().unwrap();
    until("the edge follows", || rig.observe().listeners == ["edge-0", "edge-1"]);
    assert_eq!(crate::client::Client::connect(added).get("/").body, "served");
    until("the internal one is closed", || std::net::TcpStream::connect(rig.internal).is_err());
    // What was taken is had as soon as it is free.
    assert_ne!(added, rig.internal);
    let addr = taken.local_addr().unwrap();
    drop(taken);
    until("it is had", || rig.observe().listeners.len() == 3);
    assert_eq!(crate::client::Client::connect(addr).get("/").body, "served");
    // Names change places without closing anything.
    let swapped = BTreeMap::from([("edge-0".to_owned(), added), ("edge-1".to_owned(), rig.addr)]);
    let have = handover::want(&rig.home, &swapped).unwrap();
    assert_eq!((have["edge-0"].clone(), have["edge-1"].clone()), (Ok(added), Ok(rig.addr)));
    assert_eq!(rig.client().get("/").body, "served");
}
