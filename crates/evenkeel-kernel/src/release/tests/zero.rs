//! Services that have no instance while nobody asks for them.

use expect_test::expect;

use super::{Story, check, play};
use crate::model::{Epoch, Protocol};
use crate::routing;
use crate::want::Want;

/// What the edge is told of `web`.
fn told(story: &Story) -> routing::Service {
    let table = story.state.wants(Epoch(1)).into_iter().find_map(|want| match want {
        Want::Table(table) => Some(table),
        Want::Listeners(_) | Want::Pool(_) | Want::Checks(_) | Want::Schemas(_) => None,
    });
    table.unwrap().services[&"web".parse().unwrap()].clone()
}

#[test]
fn it_sleeps_when_nobody_asks_and_wakes_when_somebody_waits() {
    check(
        "web 2 rolling scales 0-10",
        "0 apply
         10 waits web 0
         20 busy web.r1 0
         40 why
         100 why
         120 waits web 3
         121 waits web 0
         150 busy web.r1 25
         151 waits web 0
         170 busy web.r1 0
         260 end",
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
            34 web scales from 2 to 1 instances: in_flight 0.0 of 10
            34   web r1 1+1 100 %
            35   web r1 1+0 100 %
            40 ? nobody asks for web
            70 web scales from 1 to 0 instances: nobody asked for it for 1m
            70   web r1 0+1 100 %
            71   web
            120 web wakes: 3 requests wait for it
            120   web r1 1+0 100 %
            154 web scales from 1 to 3 instances: in_flight 25.0 of 10
            154   web r1 3+0 100 %
            200 web scales from 3 to 1 instances: in_flight 0.0 of 10
            200   web r1 1+2 100 %
            201   web r1 1+0 100 %
            211 web scales from 1 to 0 instances: nobody asked for it for 1m
            211   web r1 0+1 100 %
            212   web
        "#]],
    );
}

#[test]
fn what_is_not_told_of_or_not_seen_or_not_well_stays_awake() {
    check(
        "web 1 rolling scales 0-10",
        "0 apply
         90 waits web 0
         140 blind
         160 sees
         161 waits web 1
         162 waits web 0
         170 sick web.r1.2
         230 why
         231 well web.r1.2
         240 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            160 web scales from 1 to 0 instances: nobody asked for it for 1m
            160   web r1 0+1 100 %
            160   web
            161 web wakes: 1 request waits for it
            161   web r1 1+0 100 %
            230 ? web.r1.2 is unhealthy and gets no requests (it runs, but its health check does not pass)
            231 web scales from 1 to 0 instances: nobody asked for it for 1m
            231   web r1 0+1 100 %
            231   web
        "#]],
    );
}

#[test]
fn a_release_wakes_it_so_that_both_revisions_can_be_judged() {
    check(
        "web 1 canary 10 bake 10 scales 0-10",
        "0 apply
         10 waits web 0
         80 apply web:v2
         200 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            70 web scales from 1 to 0 instances: nobody asked for it for 1m
            70   web r1 0+1 100 %
            71   web
            80 > apply web:v2
            80 < release #2 is started
            80 release #2 started by ann: web r1 to r2
            80   web r1 1+0 100 % r2 1+0 0 %
            83 shifting web to r2: step 1 of 2
            83 web: 10 % of the traffic goes to r2
            83   web r1 1+0 90 % r2 1+0 10 %
            89 web r2 passed step 1: healthy for 5s
            89 shifting web to r2: step 2 of 2
            89 web: 100 % of the traffic goes to r2
            89   web r1 1+0 0 % r2 1+0 100 %
            90 promoted; what it replaced is kept for 10s
            100 the old revisions are stopped now
            100   web r1 0+1 0 % r2 1+0 100 %
            101   web r2 1+0 100 %
            102 release #2 ended: promoted
            140 web scales from 1 to 0 instances: nobody asked for it for 1m
            140   web r2 0+1 100 %
            141   web
        "#]],
    );
}

#[test]
fn a_release_of_one_that_sleeps_can_be_taken_back() {
    check(
        "web 1 blue-green bake 20 scales 0-10",
        "0 apply
         10 waits web 0
         80 apply web:v2
         90 rollback
         160 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            70 web scales from 1 to 0 instances: nobody asked for it for 1m
            70   web r1 0+1 100 %
            71   web
            80 > apply web:v2
            80 < release #2 is started
            80 release #2 started by ann: web r1 to r2
            80   web r1 1+0 100 % r2 1+0 0 %
            83 shifting web to r2: step 1 of 1
            83 web: 100 % of the traffic goes to r2
            83   web r1 1+0 0 % r2 1+0 100 %
            84 promoted; what it replaced is kept for 20s
            90 > rollback
            90 < release #2 is taken back
            90 release #2 turns back: rolled back by ann
            90   web r1 1+0 100 % r2 0+1 0 %
            90   web r1 1+0 100 %
            91 release #2 ended: fast_rolled_back, rolled back by ann
            140 web scales from 1 to 0 instances: nobody asked for it for 1m
            140   web r1 0+1 100 %
            141   web
        "#]],
    );
}

#[test]
fn a_release_of_others_lets_it_sleep_and_wake() {
    check(
        "web 1 rolling scales 0-10\napi 1 rolling uses web bake 60",
        "0 apply
         10 waits web 0
         80 apply api:v2
         90 waits web 1
         91 waits web 0
         170 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1, api r1
            0   api | web r1 1+0 0 %
            2   api r1 1+0 0 % | web r1 1+0 0 %
            5 shifting web to r1: step 1 of 1
            5 web: 100 % of the traffic goes to r1
            5   api r1 1+0 0 % | web r1 1+0 100 %
            6 shifting api to r1: step 1 of 1
            6 api: 100 % of the traffic goes to r1
            6   api r1 1+0 100 % | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            70 web scales from 1 to 0 instances: nobody asked for it for 1m
            70   api r1 1+0 100 % | web r1 0+1 100 %
            71   api r1 1+0 100 % | web
            80 > apply api:v2
            80 < release #2 is started
            80 release #2 started by ann: api r1 to r2
            80   api r1 1+0 100 % r2 1+0 0 % | web
            83 shifting api to r2: step 1 of 1
            83 api: 100 % of the traffic goes to r2
            83   api r1 1+0 0 % r2 1+0 100 % | web
            84 promoted; what it replaced is kept for 1m
            90 web wakes: 1 request waits for it
            90   api r1 1+0 0 % r2 1+0 100 % | web r1 1+0 100 %
            144 the old revisions are stopped now
            144   api r1 0+1 0 % r2 1+0 100 % | web r1 1+0 100 %
            145   api r2 1+0 100 % | web r1 1+0 100 %
            146 release #2 ended: promoted
            151 web scales from 1 to 0 instances: nobody asked for it for 1m
            151   api r2 1+0 100 % | web r1 0+1 100 %
            152   api r2 1+0 100 % | web
        "#]],
    );
}

#[test]
fn a_person_may_send_it_to_sleep_and_wake_it() {
    check(
        "web 2 rolling scales 0-10\napi 1 rolling scales 1-10",
        "0 apply
         10 waits web 0
         11 scale web 0
         15 scale web 3
         60 restart api
         80 end
         90 restart web
         91 scale web 0
         120 scale api 0
         130 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: api r1, web r1
            0   api r1 1+0 0 % | web r1 2+0 0 %
            3 shifting api to r1: step 1 of 1
            3 api: 100 % of the traffic goes to r1
            3   api r1 1+0 100 % | web r1 2+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   api r1 1+0 100 % | web r1 2+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            11 > scale web 0
            11 < web scales from 2 to 0 instances, by ann; it goes on scaling from 0 to 10 by its load
            11 web scales from 2 to 0 instances, by ann; it goes on scaling from 0 to 10 by its load
            11   api r1 1+0 100 % | web r1 0+2 100 %
            11   api r1 1+0 100 % | web
            15 > scale web 3
            15 < web scales from 0 to 3 instances, by ann; it goes on scaling from 0 to 10 by its load
            15 web scales from 0 to 3 instances, by ann; it goes on scaling from 0 to 10 by its load
            15   api r1 1+0 100 % | web r1 3+0 100 %
            47 web scales from 3 to 1 instances: in_flight 0.0 of 10
            47   api r1 1+0 100 % | web r1 1+2 100 %
            48   api r1 1+0 100 % | web r1 1+0 100 %
            60 > restart api
            60 < release #2 is started
            60 release #2 started by ann: api r1 to r2
            60   api r1 1+0 100 % r2 1+0 0 % | web r1 1+0 100 %
            63 shifting api to r2: step 1 of 1
            63 api: 100 % of the traffic goes to r2
            63   api r1 1+0 0 % r2 1+0 100 % | web r1 1+0 100 %
            64 promoted; what it replaced is kept for 10s
            74 the old revisions are stopped now
            74   api r1 0+1 0 % r2 1+0 100 % | web r1 1+0 100 %
            75 web scales from 1 to 0 instances: nobody asked for it for 1m
            75   api r2 1+0 100 % | web r1 0+1 100 %
            76   api r2 1+0 100 % | web
            77 release #2 ended: promoted
            90 > restart web
            90 < release #3 is started
            90 release #3 started by ann: web r1 to r2
            90   api r2 1+0 100 % | web r1 1+0 100 % r2 1+0 0 %
            91 > scale web 0
            91 < refused: a release moves web, and what has no instance cannot be judged
            93 shifting web to r2: step 1 of 1
            93 web: 100 % of the traffic goes to r2
            93   api r2 1+0 100 % | web r1 1+0 0 % r2 1+0 100 %
            94 promoted; what it replaced is kept for 10s
            104 the old revisions are stopped now
            104   api r2 1+0 100 % | web r1 0+1 0 % r2 1+0 100 %
            105   api r2 1+0 100 % | web r2 1+0 100 %
            106 release #3 ended: promoted
            120 > scale api 0
            120 < refused: api would have no instance
        "#]],
    );
}

#[test]
fn it_is_told_of_by_its_door_and_sends_nothing_to_those_that_leave() {
    let mut story = play("web 1 rolling scales 0-10", "0 apply\n10 waits web 0\n60 end");
    let awake = told(&story);
    assert_eq!((awake.by_door, awake.split.len(), awake.pools.len()), (Some(Protocol::Http), 1, 1));
    story.second = 75;
    let world = story.world();
    let slept = story.state.decide(&world, story.now()).unwrap();
    story.state = slept.state;
    let asleep = told(&story);
    assert!(asleep.split.is_empty(), "an edge refuses traffic for nobody");
    assert!(asleep.pools.values().all(|pool| pool.instances.values().all(|it| it.draining)));
    assert_eq!((asleep.by_door, asleep.listener), (awake.by_door, awake.listener));
    let other = play("web 1 rolling scales 1-10", "0 apply\n10 end");
    assert_eq!(told(&other).by_door, None);
}

#[test]
fn asleep_it_is_not_written_down_again_and_again() {
    let script = "0 apply\n10 waits web 0\n100 end";
    let before = play("web 1 rolling scales 0-10", script).commits;
    let later = play("web 1 rolling scales 0-10", &format!("{script}\n900 end")).commits;
    assert_eq!(later, before);
}
