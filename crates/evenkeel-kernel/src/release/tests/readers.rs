//! Clients that go to instances by themselves, as discovery told them: nothing is stopped before
//! they have moved on, and they hold nothing for ever.

use expect_test::expect;

use super::*;

#[test]
fn who_is_asked_for_by_discovery_is_stopped_only_when_clients_have_had_their_time() {
    check(
        "web 2 blue-green
         db 1 blue-green",
        "0 apply
         20 asked web
         20 apply web:v2 db:v2
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            0   db r1 1+0 0 % | web r1 2+0 0 %
            3 shifting db to r1: step 1 of 1
            3 db: 100 % of the traffic goes to r1
            3   db r1 1+0 100 % | web r1 2+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   db r1 1+0 100 % | web r1 2+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2 db:v2
            20 < release #2 is started
            20 release #2 started by ann: db r1 to r2, web r1 to r2
            20   db r1 1+0 100 % r2 1+0 0 % | web r1 2+0 100 % r2 2+0 0 %
            23 shifting db to r2: step 1 of 1
            23 db: 100 % of the traffic goes to r2
            23   db r1 1+0 0 % r2 1+0 100 % | web r1 2+0 100 % r2 2+0 0 %
            24 shifting web to r2: step 1 of 1
            24 web: 100 % of the traffic goes to r2
            24   db r1 1+0 0 % r2 1+0 100 % | web r1 2+0 0 % r2 2+0 100 %
            25 promoted; what it replaced is kept for 10s
            35 the old revisions are stopped now
            35   db r1 0+1 0 % r2 1+0 100 % | web r1 0+2 0 % r2 2+0 100 %
            36   db r2 1+0 100 % | web r1 0+2 0 % r2 2+0 100 %
            40   db r2 1+0 100 % | web r2 2+0 100 %
            41 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn why_says_that_clients_are_waited_for() {
    let waits = |script: &str| {
        let mut story = play("web 1 blue-green", script);
        story.run_until(36);
        let waits = story.state.waits(&story.world(), story.now());
        waits.into_iter().map(|it| it.unblock).collect::<Vec<_>>().join("; ")
    };
    let script = "0 apply\n20 asked web\n20 apply web:v2\n35 end";
    assert!(waits(script).contains("`linger` of `[discovery]`"), "{}", waits(script));
}

#[test]
fn a_client_of_xds_has_taken_what_is_new_before_the_old_is_stopped_or_has_had_its_time_to_drain() {
    // At 34 or 35 the old one gets nothing new.
    let ends = |takes: &str| {
        let script = format!("0 apply\n20 takes web\n20 apply web:v2\n{takes}\n90 end");
        let lines = play("web 1 blue-green", &script).lines;
        let end = lines.lines().find_map(|it| it.strip_suffix(" release #2 ended: promoted"));
        end.and_then(|at| at.parse::<u64>().ok())
    };
    assert_eq!(ends("36 takes web"), Some(40), "it has its time besides");
    assert_eq!(ends("50 takes web"), Some(50));
    assert_eq!(ends("36 why"), Some(65), "it hangs, and the time to drain is over");
}

#[test]
fn the_time_of_clients_begins_when_the_edge_tells_them() {
    check(
        "web 1 blue-green",
        "0 apply
         20 asked web
         20 apply web:v2
         34 edge takes no table
         50 edge takes tables
         90 end",
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
            34 the old revisions are stopped now
            34   web r1 0+1 0 % r2 1+0 100 %
            55   web r2 1+0 100 %
            56 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn rolling_goes_on_as_clients_move_on() {
    check(
        "web 2 rolling",
        "0 apply
         20 asked web
         20 apply web:v2
         90 end",
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
            28   web r1 1+0 50 % r2 1+0 50 %
            29   web r1 1+0 50 % r2 2+0 50 %
            32 web: 100 % of the traffic goes to r2
            32   web r1 1+0 0 % r2 2+0 100 %
            33 promoted; what it replaced is kept for 10s
            43 the old revisions are stopped now
            43   web r1 0+1 0 % r2 2+0 100 %
            48   web r2 2+0 100 %
            49 release #2 ended: promoted
        "#]],
    );
}
