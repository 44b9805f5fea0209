//! What the edge shows to discovery: the table and the health, as they are now.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_edge::handover;
use evenkeel_kernel::layout::discovery_listener;
use evenkeel_kernel::model::ServiceName;
use evenkeel_kernel::routing::directory::{Directory, Listing};

use crate::instance::Instance;
use crate::rig::{Rig, pool_of, table, until};

fn web(directory: &Directory) -> Option<&Arc<Listing>> {
    directory.services.get(&"web".parse::<ServiceName>().unwrap())
}

/// The ports that are offered, with their weights.
fn offered(rig: &Rig) -> Vec<(u16, u16)> {
    let outlook = rig.edge.as_ref().unwrap().outlook();
    let directory = Arc::clone(&outlook.directory.borrow());
    let offers = web(&directory).map(|it| it.offers()).unwrap_or_default();
    offers.iter().map(|it| (it.addr.port(), it.weight)).collect()
}

#[test]
fn the_directory_follows_the_table_and_the_health() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let (a, b) = (old.addr.port(), new.addr.port());
    let mut rig = Rig::new();
    assert_eq!(offered(&rig), []);
    let mut first = table(1, &[(9_000, &[&old]), (1_000, &[&new])]);
    first.stack = Some("shop".parse().unwrap());
    rig.serve(&first);
    until("both are offered", || offered(&rig) == [(a, 65_535), (b, 7_282)]);
    rig.door().apply(&table(2, &[(5_000, &[&old]), (5_000, &[&new])])).unwrap();
    assert_eq!(offered(&rig), [(a, 65_535), (b, 65_535)], "an acknowledged table is shown");
    new.kill();
    until("the dead one is gone", || offered(&rig) == [(a, 65_535)]);

    let third = Instance::says("third");
    let mut draining = table(3, &[(10_000, &[&old, &third])]);
    pool_of(&mut draining, 1).instances.get_mut(&1).unwrap().draining = true;
    rig.door().apply(&draining).unwrap();
    until("only the new one is offered", || offered(&rig) == [(third.addr.port(), 65_535)]);

    rig.door().apply(&table(4, &[(10_000, &[&old])])).unwrap();
    until("it is offered again", || offered(&rig) == [(a, 65_535)]);
    until("it is saved", || {
        rig.stop_edge();
        rig.start_edge();
        offered(&rig) == [(a, 65_535)]
    });
}

#[test]
fn no_request_comes_in_by_a_listener_of_discovery() {
    let rig = Rig::new();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let name = discovery_listener("http", &any);
    let wanted = BTreeMap::from([("edge-0".to_owned(), rig.addr), (name.clone(), any)]);
    let have = handover::want(&rig.home, &wanted).unwrap();
    let addr = have[&name].clone().unwrap();
    let mut outlook = rig.edge.as_ref().unwrap().outlook();
    until("the edge has it", || outlook.sockets().len() == 1);
    // Not taken by a thread of the edge, it is still there for whoever accepts.
    let mut stream = TcpStream::connect(addr).unwrap();
    let socket = TcpListener::from(outlook.sockets().remove(0).2.try_clone().unwrap());
    until("it can be accepted", || socket.accept().is_ok());
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed by us, and not answered");
}
