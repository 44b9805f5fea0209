//! Which instance answers: the ways to choose, and those that are left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evenkeel_kernel::model::traffic::{Balance, HashKey};
use evenkeel_kernel::model::{Traffic, Weight};

use crate::instance::{Instance, answer};
use crate::rig::{Rig, table, until, with};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

fn balanced(rig: &Rig, instances: &[Instance], balance: Balance) {
    let all: Vec<&Instance> = instances.iter().collect();
    let traffic = Traffic { balance, slow_start: std::time::Duration::ZERO, ..Traffic::default() };
    rig.serve(&with(table(1, &[(10_000, &all)]), &traffic));
}

#[test]
fn in_turn_all_get_the_same() {
    let instances = NAMES.map(Instance::says);
    let rig = Rig::new();
    balanced(&rig, &instances, Balance::RoundRobin);
    let mut client = rig.client();
    let order: Vec<String> = (0..40).map(|_| client.get("/").body).collect();
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    order.iter().for_each(|it| *shares.entry(it).or_default() += 1);
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [10; 4]);
}

#[test]
fn the_same_key_leads_to_the_same_instance_while_it_is_there() {
    let instances = NAMES.map(Instance::says);
    let rig = Rig::new();
    balanced(&rig, &instances, Balance::Hash(HashKey::Path));
    let mut client = rig.client();
    let mut all =
        |_: ()| -> Vec<String> { (0..100).map(|n| client.get(&format!("/{n}")).body).collect() };
    let first = all(());
    assert_eq!(first, all(()));
    let [one, two, three, four] = instances;
    drop(one);
    let later = all(());
    let moved = first.iter().zip(&later).filter(|(a, b)| a != b && *a != "one").count();
    assert_eq!(moved, 0, "only those of the one that is gone move");
    assert!(later.iter().all(|it| it != "one"));
    drop((two, three, four));
}

#[test]
fn the_least_busy_is_chosen() {
    let instances = NAMES.map(Instance::says);
    let rig = Rig::new();
    balanced(&rig, &instances, Balance::LeastRequest);
    let mut client = rig.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(instances.iter().all(|it| it.requests() > 0));
}

#[test]
fn who_fails_alone_is_left_out_and_comes_back() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let bad = Instance::new(move |_, stream| match fails.load(Ordering::SeqCst) {
        true => answer(stream, "500 Internal Server Error", "bad"),
        false => answer(stream, "200 OK", "good again"),
    });
    let good = ["one", "two", "three"].map(Instance::says);
    let rig = Rig::new();
    let mut all: Vec<&Instance> = good.iter().collect();
    all.push(&bad);
    let traffic = Traffic {
        balance: Balance::RoundRobin,
        slow_start: std::time::Duration::ZERO,
        eject_max: Weight(5_000),
        ..Traffic::default()
    };
    rig.serve(&with(table(1, &[(10_000, &all)]), &traffic));
    let mut client = rig.client();
    until("it is left out", || {
        let asked: Vec<u16> = (0..40).map(|_| client.get("/").status).collect();
        asked.iter().all(|status| *status == 200)
    });
    failing.store(false, Ordering::SeqCst);
    until("it is back", || (0..40).any(|_| client.get("/").body == "good again"));
}
