//! The drop catalogue, as far as it is decided here: see "How requests are not dropped" in
//! docs/scenarios.md.

use expect_test::expect;

use super::*;

const CANARY: &str = "web 4 canary 10,50";

/// A canary story until this second.
fn canary_until(second: u64) -> Story {
    let mut story = play(CANARY, "0 apply\n20 apply web:v2");
    story.run_until(second);
    story.settle();
    story
}

fn table(story: &Story) -> crate::routing::RoutingTable {
    story.state.table(Fence { epoch: Epoch(1), generation: Generation(9) })
}

#[test]
fn d01_d05_nothing_is_stopped_and_no_step_taken_before_the_edge_has_taken_the_last() {
    check(
        "web 2 rolling",
        "0 apply
         20 apply web:v2
         23 edge takes no table
         40 why
         41 edge takes tables
         80 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 2+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 2+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 2+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 50 % of the traffic goes to r2
            23   web r1 1+1 50 % r2 1+0 50 %
            40 ? web r2: places become free for new instances
            41   web r1 1+0 50 % r2 1+0 50 %
            42   web r1 1+0 50 % r2 2+0 50 %
            45 web: 100 % of the traffic goes to r2
            45   web r1 1+0 0 % r2 2+0 100 %
            46 promoted; what it replaced is kept for 10s
            56 the old revisions are stopped now
            56   web r1 0+1 0 % r2 2+0 100 %
            57   web r2 2+0 100 %
            58 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn d04_d07_d14_a_promotion_changes_weights_and_the_canarys_instances_are_the_stable_ones() {
    let pools = |story: &Story| {
        let web = table(story).services.remove(&"web".parse().unwrap()).unwrap();
        (web.split, web.pools)
    };
    // All traffic moves at 38: see the story of the canary.
    let (before, after) = (canary_until(37), canary_until(38));
    let ((split, old), (next_split, new)) = (pools(&before), pools(&after));
    assert_ne!(split, next_split);
    assert_eq!(old, new, "nobody comes, goes, or is somebody else");

    let canary = canary_until(24).running;
    let end = canary_until(70);
    assert!(end.state.release.is_none(), "{}", end.lines);
    let stable = |id: &InstanceId| id.pool.revision == crate::model::RevisionNumber(2);
    assert_eq!(canary.keys().filter(|id| stable(id)).count(), 2);
    for (id, started) in canary.iter().filter(|(id, _)| stable(id)) {
        assert_eq!(end.running.get(id), Some(started), "{id} is the process that it was");
    }
    assert_eq!(end.running.len(), 4);
}

#[test]
fn d08_a_drain_is_not_nothing_unless_somebody_says_so() {
    let Stop { drain, drain_long_lived, grace, .. } = Stop::default();
    for time in [drain, drain_long_lived, grace] {
        assert!(time >= Duration::from_secs(5), "{time:?}");
    }
}
