//! New talks to new and old to old, while both move under load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::house::House;
use crate::http::Client;
use crate::load::{FILES, Load};
use crate::machine::until;
use crate::programs::node;

/// Who answered, and who answered behind: how often.
type Pairs = BTreeMap<(String, String), u64>;

/// Somebody who asks without end, and notes who answers.
struct Witness {
    stop: Arc<AtomicBool>,
    pairs: Arc<Mutex<Pairs>>,
    thread: JoinHandle<()>,
}

impl Witness {
    fn of(addr: SocketAddr) -> Self {
        let (stop, pairs) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Pairs>>::default());
        let (ends, notes) = (Arc::clone(&stop), Arc::clone(&pairs));
        let thread = thread::spawn(move || {
            let mut client = Client::new(addr);
            while !ends.load(Ordering::Relaxed) {
                let answer = client.get("/relay").unwrap();
                assert_eq!(answer.status, 200);
                let said = |name| answer.header(name).unwrap_or("nobody").to_owned();
                let pair = (said("x-version"), said("x-behind"));
                *notes.lock().unwrap().entry(pair).or_default() += 1;
            }
        });
        Self { stop, pairs, thread }
    }

    #[track_caller]
    fn until_seen(&self, front: &str, back: &str, times: u64) {
        let pair = (front.to_owned(), back.to_owned());
        until(&format!("{front} is seen before {back}"), || {
            let count = self.pairs.lock().unwrap().get(&pair).copied().unwrap_or(0);
            (count >= times).then_some(())
        });
    }

    fn end(self) -> Pairs {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.pairs.lock().unwrap())
    }
}

/// Writes the stack file: both in this version.
fn stack(house: &House, version: u32) {
    let canary = "strategy = \"canary\"\nmin_ready = \"0s\"\nbake = \"1s\"\n\
        analysis = { latency = false, min_requests = 20 }\n\
        steps = [{ weight = \"30%\", bake = \"1s\" }, { weight = \"60%\", bake = \"1s\" }]";
    let web = node(house, &format!("VERSION = \"w{version}\", RELAY_TO = \"CATALOG_URL\""));
    let catalog = node(house, &format!("VERSION = \"c{version}\""));
    house.stack(&format!(
        "[service.web]\n{web}\nreplicas = 3\nuses = [\"catalog\"]\n\
         [service.web.rollout]\n{canary}\n[route.web]\nto = \"web\"\n\
         [service.catalog]\n{catalog}\nreplicas = 3\n\
         [service.catalog.rollout]\naffinity = true\n{canary}\n"
    ));
}

#[test]
fn a_web_only_ever_talks_to_the_catalog_of_its_release() {
    let house = House::new();
    stack(&house, 1);
    house.up();
    house.until_settled();
    let load = Load::on(house.listen, "/relay", FILES);
    let witness = Witness::of(house.listen);
    witness.until_seen("w1", "c1", 20);

    stack(&house, 2);
    house.run(&["plan"]).exits(2).says("send what the new web calls to catalog r2");
    let said = house.apply().exits(0);
    let (web, catalog) = (said.out.find("shifting web"), said.out.find("shifting catalog"));
    assert!(web.is_some() && web < catalog, "{}", said.out);
    witness.until_seen("w2", "c2", 50);
    house.until_settled();

    // And back, from the middle.
    stack(&house, 3);
    let apply = house.start(&["apply", "--yes"]);
    witness.until_seen("w3", "c3", 5);
    house.run(&["abort"]).exits(0);
    apply.wait().exits(3);
    house.until_settled();
    let pairs = witness.end();
    println!("{pairs:?}");
    let both = |(front, back): &(String, String)| front[1..] == back[1..];
    assert!(pairs.keys().all(both), "{pairs:?}");
    let report = load.stop_unharmed();
    println!("{report}");
}
