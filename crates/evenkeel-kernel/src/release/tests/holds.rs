//! Services whose requests wait: by whose order, for how long, and what the edge is told.

use expect_test::expect;

use super::{Story, check, play};
use crate::model::{Epoch, Hold};
use crate::want::Want;

/// What the edge is told of `web`.
fn told(story: &Story) -> Option<Hold> {
    let table = story.state.wants(Epoch(1)).into_iter().find_map(|want| match want {
        Want::Table(table) => Some(table),
        Want::Listeners(_) | Want::Pool(_) | Want::Checks(_) | Want::Schemas(_) => None,
    });
    table.unwrap().services.get(&"web".parse().unwrap())?.hold
}

#[test]
fn a_hold_ends_by_itself_or_by_somebodys_word() {
    check(
        "web 2 rolling",
        "0 apply
         10 hold web 5 because=cut-over
         11 waits web 7
         11 why
         20 hold web 60
         21 hold web 10
         25 unhold web
         26 unhold web
         30 hold api 10
         31 hold web 61
         40 end",
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
            10 > hold web 5 because=cut-over
            10 < web is held for 5s at most, by ann (cut-over): its requests wait
            10 web is held for 5s at most, by ann (cut-over): its requests wait
            11 ? web is held by ann (cut-over): its requests wait; 7 wait now, 0 are still being answered
            15 web is served again: its hold has ended after 5s
            20 > hold web 60
            20 < web is held for 1m at most, by ann: its requests wait
            20 web is held for 1m at most, by ann: its requests wait
            21 > hold web 10
            21 < web is held for 10s at most, by ann: its requests wait
            21 web is held for 10s at most, by ann: its requests wait
            25 > unhold web
            25 < web is served again, by ann
            25 web is served again, by ann
            26 > unhold web
            26 < web is not held
            30 > hold api 10
            30 < refused: there is no service api
            31 > hold web 61
            31 < refused: web cannot be held for 1m1s
        "#]],
    );
}

#[test]
fn a_hold_goes_with_its_service() {
    check(
        "web 1 rolling\napi 1 rolling",
        "0 apply
         10 hold api 60
         12 apply -api --destroy=1
         15 why
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: api r1, web r1
            0   api r1 1+0 0 % | web r1 1+0 0 %
            3 shifting api to r1: step 1 of 1
            3 api: 100 % of the traffic goes to r1
            3   api r1 1+0 100 % | web r1 1+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   api r1 1+0 100 % | web r1 1+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            10 > hold api 60
            10 < api is held for 1m at most, by ann: its requests wait
            10 api is held for 1m at most, by ann: its requests wait
            12 > apply -api --destroy=1
            12 < release #2 is started
            12 release #2 started by ann: no new revision
            12 promoted; what it replaced is kept for 10s
            15 ? baking: healthy for 3s of 10s
            15 ? api is held by ann: its requests wait; 0 wait now, 0 are still being answered
            22 the old revisions are stopped now
            22   api r1 0+1 0 % | web r1 1+0 100 %
            23   api | web r1 1+0 100 %
            23 api is gone, and its hold with it
            24 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn the_edge_is_told_of_each_hold_by_a_number_of_its_own() {
    let mut story = play("web 2 rolling", "0 apply\n10 end");
    let before = story.state.generation;
    assert_eq!(told(&story), None);
    story.happens("hold web 30");
    let first = told(&story).unwrap();
    assert_eq!(first.lasts.as_secs(), 30);
    assert!(story.state.generation > before, "executors refuse what is not newer");
    story.run_until(12);
    assert_eq!(told(&story), Some(first), "the same goes on");
    story.happens("hold web 30");
    assert_ne!(told(&story).unwrap().number, first.number);
    story.happens("unhold web");
    assert_eq!(told(&story), None);
}

#[test]
fn a_control_that_comes_back_late_ends_it() {
    let mut story = play("web 2 rolling", "0 apply\n10 hold web 5\n11 end");
    story.second = 60;
    story.state = story.state.resumed(story.now());
    story.settle();
    assert_eq!(told(&story), None);
    assert!(story.lines.contains("60 web is served again"), "{}", story.lines);
}
