//! Releases that go well.

use expect_test::expect;

use super::*;

#[test]
fn what_is_used_comes_before_what_uses_it() {
    check(
        "api 1 rolling uses db
         db 2 rolling",
        "0 apply />api
         20 end",
        &expect![[r#"
            0 > apply />api
            0 < release #1 is started
            0 release #1 started by ann: db r1, api r1
            0   api | db r1 2+0 0 %
            2   api r1 1+0 0 % | db r1 2+0 0 %
            5 shifting db to r1: step 1 of 1
            5 db: 100 % of the traffic goes to r1
            5   api r1 1+0 0 % | db r1 2+0 100 %
            6 shifting api to r1: step 1 of 1
            6 api: 100 % of the traffic goes to r1
            6   api r1 1+0 100 % | db r1 2+0 100 %
            7 promoted
            8 nothing was replaced, so nothing is stopped
            8 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn rolling_replaces_a_few_at_a_time() {
    check(
        "web 3 rolling",
        "0 apply
         20 apply web:v2
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 3+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 3+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 3+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 33.33 % of the traffic goes to r2
            23   web r1 2+1 66.67 % r2 1+0 33.33 %
            24   web r1 2+0 66.67 % r2 1+0 33.33 %
            25   web r1 2+0 66.67 % r2 2+0 33.33 %
            28 web: 66.66 % of the traffic goes to r2
            28   web r1 1+1 33.34 % r2 2+0 66.66 %
            29   web r1 1+0 33.34 % r2 2+0 66.66 %
            30   web r1 1+0 33.34 % r2 3+0 66.66 %
            33 web: 100 % of the traffic goes to r2
            33   web r1 1+0 0 % r2 3+0 100 %
            34 promoted; what it replaced is kept for 10s
            44 the old revisions are stopped now
            44   web r1 0+1 0 % r2 3+0 100 %
            45   web r2 3+0 100 %
            46 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn blue_green_switches_at_once_and_can_be_looked_at_before() {
    let script = "0 apply
                  20 apply web:v2
                  21 end";
    let story = play("web 2 blue-green preview next.test", script);
    let table = story.state.table(Fence { epoch: Epoch(1), generation: Generation(9) });
    let preview = table
        .routes
        .iter()
        .find(|it| it.route.host.as_deref() == Some("next.test"))
        .and_then(|route| route.revision);
    assert_eq!(preview, Some(crate::model::RevisionNumber(2)));
    check(
        "web 2 blue-green preview next.test",
        &script.replace("21", "50"),
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
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 2+0 0 % r2 2+0 100 %
            24 promoted; what it replaced is kept for 10s
            34 the old revisions are stopped now
            34   web r1 0+2 0 % r2 2+0 100 %
            35   web r2 2+0 100 %
            36 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_canary_takes_its_steps_and_bakes_at_each() {
    check(
        "web 4 canary 10,50",
        "0 apply
         20 apply web:v2
         70 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 4+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 4+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 3
            23 web: 10 % of the traffic goes to r2
            23   web r1 4+0 90 % r2 2+0 10 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 3
            29 web: 50 % of the traffic goes to r2
            29   web r1 4+0 50 % r2 2+0 50 %
            35 web r2 passed step 2: healthy for 5s
            35 shifting web to r2: step 3 of 3
            35   web r1 4+0 50 % r2 4+0 50 %
            38 web: 100 % of the traffic goes to r2
            38   web r1 4+0 0 % r2 4+0 100 %
            39 promoted; what it replaced is kept for 10s
            49 the old revisions are stopped now
            49   web r1 0+4 0 % r2 4+0 100 %
            50   web r2 4+0 100 %
            51 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_service_goes_and_with_it_its_route() {
    check(
        "api 1 rolling
         web 1 rolling",
        "0 apply />web
         20 apply -web --destroy=1
         50 end",
        &expect![[r#"
            0 > apply />web
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
            6 nothing was replaced, so nothing is stopped
            6 release #1 ended: promoted
            20 > apply -web --destroy=1
            20 < release #2 is started
            20 release #2 started by ann: no new revision
            20 promoted; what it replaced is kept for 10s
            30 the old revisions are stopped now
            30   api r1 1+0 100 % | web r1 0+1 0 %
            31   api r1 1+0 100 % | web
            32 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_release_of_routes_only_moves_no_instance() {
    check(
        "api 1 rolling
         web 1 rolling",
        "0 apply />web
         20 apply />api
         40 end",
        &expect![[r#"
            0 > apply />web
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
            6 nothing was replaced, so nothing is stopped
            6 release #1 ended: promoted
            20 > apply />api
            20 < release #2 is started
            20 release #2 started by ann: no new revision
            20 promoted
            20 nothing was replaced, so nothing is stopped
            20 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_restart_is_a_rollout_like_any_other() {
    check(
        "web 2 blue-green",
        "0 apply
         20 restart web
         50 end",
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
            20 > restart web
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 2+0 0 % r2 2+0 100 %
            24 promoted; what it replaced is kept for 10s
            34 the old revisions are stopped now
            34   web r1 0+2 0 % r2 2+0 100 %
            35   web r2 2+0 100 %
            36 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn s04_the_bake_clock_stands_still_while_nobody_looks() {
    check(
        "web 1 blue-green bake 10",
        "0 apply
         20 apply web:v2
         27 blind
         50 sees
         53 resumed
         70 end",
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
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 1+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 1+0 0 % r2 1+0 100 %
            24 promoted; what it replaced is kept for 10s
            59 the old revisions are stopped now
            59   web r1 0+1 0 % r2 1+0 100 %
            60   web r2 1+0 100 %
            61 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn names_and_numbers_are_never_given_again() {
    let story = play(
        "web 2 rolling",
        "0 apply
         20 scale web 3
         30 scale web 1
         40 scale web 2
         50 apply web:v2
         52 abort
         60 apply web:v3
         100 end",
    );
    let web = &story.state.services[&"web".parse::<ServiceName>().unwrap()];
    let pools: Vec<String> = web
        .revisions
        .iter()
        .map(|(number, kept)| format!("{number}: {:?}, next {}", kept.slots.keys(), kept.next_slot))
        .collect();
    expect![[r#"
        r1: [], next 5
        r2: [], next 2
        r3: [1, 2], next 3"#]]
    .assert_eq(&pools.join("\n"));
    let mut ports = BTreeSet::new();
    assert!(
        web.revisions.values().flat_map(|kept| kept.slots.values()).all(|it| ports.insert(it.port))
    );
    let pool = PoolId::new(&"web".parse().unwrap(), web.stable.unwrap());
    assert!(story.running.contains_key(&pool.instance(1)));
}
