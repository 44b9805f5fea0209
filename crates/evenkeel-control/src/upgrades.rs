//! Control is replaced by another version in the middle of a release: what the older one saved goes
//! on, and what a newer one saved is refused (S28 of the scenarios).
//!
//! `tests/formats/2/` holds a canary in each of its phases as format 2 was written.

use evenkeel_journal::{Journal, Kind, Row, Store as _, Version};
use evenkeel_kernel::model::{Epoch, PoolId};
use evenkeel_kernel::release::{Action, Outcome, Stage, State};
use evenkeel_kernel::time::Timestamp;
use evenkeel_kernel::want::Want;
use evenkeel_kernel::world::{
    Backend, Edge, Fence, Health, Instance, InstancePhase, Keeper, Observed, Platform, World,
};

use crate::saved::{self, FORMAT};

const PHASES: [(&str, &str, Outcome); 5] = [
    ("expanding", include_str!("../tests/formats/2/expanding.json"), Outcome::Promoted),
    ("shifting", include_str!("../tests/formats/2/shifting.json"), Outcome::Promoted),
    ("baking", include_str!("../tests/formats/2/baking.json"), Outcome::Promoted),
    ("contracting", include_str!("../tests/formats/2/contracting.json"), Outcome::Promoted),
    ("turning back", include_str!("../tests/formats/2/turning-back.json"), Outcome::Aborted),
];
/// When they were saved, and a little later.
const RESUMED: Timestamp = Timestamp(100_000);
/// Seconds that each is given to end.
const SECONDS_MAX: u64 = 120;

/// A world in which all that is wanted has been so for long.
fn obeys(state: &State, now: Timestamp) -> World {
    let (mut platform, mut edge) = (Platform::default(), Edge::default());
    edge.incarnation = 1;
    edge.serving = Fence { epoch: Epoch(1), generation: state.generation };
    let mut keeper = Keeper::default();
    for want in state.wants(Epoch(1)) {
        let Want::Listeners(listeners) = want else { continue };
        edge.listeners = listeners.keys().cloned().collect();
        keeper.listeners = listeners.into_keys().map(|name| (name, None)).collect();
    }
    for (name, service) in &state.services {
        for (revision, kept) in &service.revisions {
            for (number, slot) in &kept.slots {
                let id = PoolId::new(name, *revision).instance(*number);
                let instance = Instance {
                    phase: InstancePhase::Running,
                    since: slot.since,
                    port: slot.port,
                    exits: 0,
                    streak: 0,
                    last_exit: None,
                    pid: None,
                    cpu_milli: None,
                    fence: Fence::default(),
                };
                platform.instances.insert(id.clone(), instance);
                let health = match slot.stage {
                    Stage::Active => Health::Healthy,
                    Stage::Retiring { .. } => Health::Unknown,
                };
                let backend = Backend { health, since: slot.since, ..Backend::default() };
                edge.instances.insert(id, backend);
            }
        }
    }
    World {
        platform: Observed::Known(platform, now),
        edge: Observed::Known(edge, now),
        keeper: Observed::Known(keeper, now),
        ..World::unknown()
    }
}

/// Runs until the release has ended, and says how.
fn ends(mut state: State) -> Outcome {
    state = state.resumed(RESUMED);
    for second in 0..SECONDS_MAX {
        let now = Timestamp(RESUMED.0 + second * 1_000);
        while let Some(decision) = state.decide(&obeys(&state, now), now) {
            // Every state on the way can be saved, and is the same when it is read back.
            state = saved::decode(FORMAT, &saved::encode(&decision.state)).unwrap();
            assert_eq!(state, decision.state);
        }
        if state.release.is_none() {
            return state.past.last().unwrap().outcome;
        }
    }
    panic!("it does not end: {:?}", state.release);
}

#[test]
fn s28_a_release_that_an_older_version_saved_goes_on_in_every_phase() {
    for (phase, body, outcome) in PHASES {
        let state = saved::decode(FORMAT - 1, body).unwrap();
        assert_eq!(state.release.as_ref().unwrap().phase.name(), phase);
        assert_eq!(ends(state), outcome, "{phase}");
    }
}

#[test]
fn s28_a_release_that_an_older_version_saved_goes_back_from_every_phase() {
    for (phase, body, _) in PHASES {
        let state = saved::decode(FORMAT - 1, body).unwrap();
        let answer =
            state.act(Action::Abort { reason: None }, "ann", &obeys(&state, RESUMED), RESUMED);
        match (phase, answer) {
            ("contracting" | "baking", Err(_)) => {}
            ("turning back", Ok(accepted)) => assert!(accepted.decision.is_none()),
            (_, Ok(accepted)) => {
                let state = accepted.decision.unwrap().state;
                assert_eq!(ends(state), Outcome::Aborted, "{phase}");
            }
            (_, Err(refusal)) => panic!("{phase}: {refusal}"),
        }
    }
}

#[test]
fn s28_a_state_of_a_newer_version_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let newer = FORMAT + 1;
    let mut journal = Journal::open(home.path(), newer).unwrap();
    let epoch = journal.claim().unwrap();
    let row = Row {
        release: None,
        at: 1,
        actor: "ann".to_owned(),
        kind: "release.started".to_owned(),
        body: "{}".to_owned(),
    };
    journal.commit(Version(0), epoch, &[row], newer, "{\"new\":1}").unwrap();
    drop(journal);
    let refused = Journal::open(home.path(), FORMAT).and_then(|mut it| it.load()).unwrap_err();
    assert_eq!(refused.kind, Kind::Newer { found: newer, reads: FORMAT });
    let mut journal = Journal::open(home.path(), newer).unwrap();
    assert_eq!(journal.load().unwrap().unwrap().body, "{\"new\":1}");
}
