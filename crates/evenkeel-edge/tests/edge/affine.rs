//! Listeners that lead to one revision as long as it can serve.

use std::collections::BTreeMap;

use evenkeel_kernel::model::RevisionNumber;
use evenkeel_kernel::routing::RoutingTable;
use evenkeel_kernel::world::Health;

use crate::client::Client;
use crate::instance::Instance;
use crate::rig::{Rig, pool_of, table, until};

/// The same table with the internal listener pinned to a revision.
fn pinned(mut table: RoutingTable, to: Option<u32>) -> RoutingTable {
    let service = table.services.values_mut().next().unwrap();
    service.listener = None;
    service.pinned = BTreeMap::from([("svc-web".to_owned(), to.map(RevisionNumber))]);
    table
}

#[test]
fn a_pinned_listener_leads_to_its_revision_and_to_the_split_when_that_cannot_serve() {
    let (old, new) = (Instance::says("old"), Instance::says("new"));
    let rig = Rig::new();
    let split: [(u16, &[&Instance]); 2] = [(10_000, &[&old]), (0, &[&new])];
    rig.serve(&pinned(table(1, &split), Some(2)));
    let (mut inside, mut outside) = (Client::connect(rig.internal), rig.client());
    for _ in 0..50 {
        assert_eq!([inside.get("/").body, outside.get("/").body], ["new", "old"]);
    }
    // By the split, to a revision that is not there, and to one that drains.
    let mut draining = pinned(table(4, &split), Some(2));
    pool_of(&mut draining, 2).instances.values_mut().for_each(|it| it.draining = true);
    let others = [pinned(table(2, &split), None), pinned(table(3, &split), Some(9)), draining];
    for other in others {
        rig.door().apply(&other).unwrap();
        for _ in 0..10 {
            assert_eq!(inside.get("/").body, "old");
        }
    }
    rig.serve(&pinned(table(5, &split), Some(2)));
    assert_eq!(inside.get("/").body, "new");
    new.kill();
    for _ in 0..50 {
        assert_eq!(inside.get("/").body, "old", "no error because of the pin");
    }
    until("it is seen", || rig.health("web.r2.1") == Health::Unhealthy);
    assert_eq!(inside.post("/", "x").body, "old");
    assert_eq!(rig.counts(1).failed() + rig.counts(2).failed(), 0);
}
