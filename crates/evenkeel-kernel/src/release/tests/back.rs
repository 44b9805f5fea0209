//! Releases that are taken back, by themselves or by a person.

use expect_test::expect;

use super::*;

const CANARY: &str = "web 4 canary 25,50";

#[test]
fn an_instance_that_never_gets_healthy_ends_its_release() {
    check(
        CANARY,
        "0 apply
         20 never web.r2
         20 apply web:v2
         60 end",
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
            50 release #2 turns back: web.r2.1 was not healthy within 30s: it runs, but its health check does not pass
            50   web r1 4+0 100 % r2 0+2 0 %
            51   web r1 4+0 100 %
            52 release #2 ended: rolled_back, web.r2.1 was not healthy within 30s: it runs, but its health check does not pass
        "#]],
    );
}

#[test]
fn a_crash_loop_beyond_the_budget_ends_its_release() {
    check(
        CANARY,
        "0 apply
         20 crashes web.r2
         20 apply web:v2
         40 end",
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
            24 release #2 turns back: web r2 ended 4 times in a row by itself, last with exit status 1
            24   web r1 4+0 100 % r2 0+2 0 %
            25   web r1 4+0 100 %
            26 release #2 ended: rolled_back, web r2 ended 4 times in a row by itself, last with exit status 1
        "#]],
    );
}

#[test]
fn ten_failed_requests_in_a_row_end_a_release() {
    check(
        CANARY,
        "0 apply
         20 apply web:v2
         25 fails web.r2
         40 end",
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
            23 web: 25 % of the traffic goes to r2
            23   web r1 4+0 75 % r2 2+0 25 %
            25 release #2 turns back: ten requests in a row failed on web r2
            25   web r1 4+0 100 % r2 0+2 0 %
            26   web r1 4+0 100 %
            27 release #2 ended: rolled_back, ten requests in a row failed on web r2
        "#]],
    );
}

#[test]
fn an_unwell_canary_ends_its_release() {
    check(
        CANARY,
        "0 apply
         20 apply web:v2
         26 sick web.r2
         50 end",
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
            23 web: 25 % of the traffic goes to r2
            23   web r1 4+0 75 % r2 2+0 25 %
            36 release #2 turns back: only 0 of 2 instances of web r2 have been healthy for 10s
            36   web r1 4+0 100 % r2 0+2 0 %
            37   web r1 4+0 100 %
            38 release #2 ended: rolled_back, only 0 of 2 instances of web r2 have been healthy for 10s
        "#]],
    );
}

#[test]
fn a_release_without_progress_is_taken_back() {
    check(
        "web 4 blue-green",
        "0 apply
         20 apply web:v2
         24 sick web.r2.1
         24 sick web.r2.2
         100 end",
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
            20   web r1 4+0 100 % r2 4+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 4+0 0 % r2 4+0 100 %
            83 release #2 turns back: no progress for 1m
            83   web r1 4+0 100 % r2 0+4 0 %
            84   web r1 4+0 100 %
            85 release #2 ended: rolled_back, no progress for 1m
        "#]],
    );
}

#[test]
fn a_taken_address_ends_the_release_that_wants_it() {
    check(
        "web 1 rolling",
        "0 apply
         20 refused
         20 apply :9090
         40 end",
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
            20 > apply :9090
            20 < release #2 is started
            20 release #2 started by ann: no new revision
            25 release #2 turns back: could not listen on 127.0.0.1:9090: address in use
            25 release #2 ended: rolled_back, could not listen on 127.0.0.1:9090: address in use
        "#]],
    );
}

#[test]
fn s38_a_taken_port_is_replaced() {
    check(
        "web 1 rolling",
        "0 taken 20001
         0 apply
         20 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 1+0 0 %
            0 web.r1.1: 20001 is taken, 20002 instead
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 1+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn s14_abort_flips_the_split_in_the_decision_that_accepts_it() {
    for (at, weight) in [(21, Weight::NONE), (25, Weight(2_500)), (33, Weight(5_000))] {
        let mut story = play(CANARY, &format!("0 apply\n20 apply web:v2\n{at} end"));
        story.settle();
        let web: ServiceName = "web".parse().unwrap();
        let r2 = crate::model::RevisionNumber(2);
        assert_eq!(story.state.services[&web].weight(r2), weight, "before, at {at}");
        let accepted = story
            .state
            .act(Action::Abort { reason: None }, "ann", &story.world(), story.now())
            .unwrap();
        let after = accepted.decision.unwrap().state;
        assert_eq!(after.services[&web].weight(r2), Weight::NONE, "after, at {at}");
        assert!(after.generation > story.state.generation || weight == Weight::NONE);
    }
}

#[test]
fn s14_rollback_in_the_bake_is_one_decision() {
    check(
        "web 4 blue-green bake 20",
        "0 apply
         20 apply web:v2
         30 rollback
         50 end",
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
            20   web r1 4+0 100 % r2 4+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 4+0 0 % r2 4+0 100 %
            24 promoted; what it replaced is kept for 20s
            30 > rollback
            30 < release #2 is taken back
            30 release #2 turns back: rolled back by ann
            30   web r1 4+0 100 % r2 0+4 0 %
            30   web r1 4+0 100 %
            31 release #2 ended: fast_rolled_back, rolled back by ann
        "#]],
    );
}

#[test]
fn rollback_after_contract_is_a_release_to_a_kept_revision() {
    check(
        "web 2 canary 50",
        "0 apply
         20 apply web:v2
         60 rollback
         100 end",
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
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 2+0 50 % r2 2+0 50 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29 web: 100 % of the traffic goes to r2
            29   web r1 2+0 0 % r2 2+0 100 %
            30 promoted; what it replaced is kept for 10s
            40 the old revisions are stopped now
            40   web r1 0+2 0 % r2 2+0 100 %
            41   web r2 2+0 100 %
            42 release #2 ended: promoted
            60 > rollback
            60 < release #3 is started
            60 release #3 started by ann: web r2 to r1
            60   web r1 2+0 0 % r2 2+0 100 %
            63 shifting web to r1: step 1 of 1
            63 web: 100 % of the traffic goes to r1
            63   web r1 2+0 100 % r2 2+0 0 %
            64 promoted; what it replaced is kept for 10s
            74 the old revisions are stopped now
            74   web r1 2+0 100 % r2 0+2 0 %
            75   web r1 2+0 100 %
            76 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn s14_s16_there_is_no_way_back_inside_contract() {
    let mut story = play("web 2 blue-green bake 3", "0 apply\n20 apply web:v2\n23 end");
    while !story.state.release.as_ref().is_some_and(|it| it.phase == Phase::Contracting) {
        let decision = story.state.decide(&story.world(), story.now());
        match decision {
            Some(decision) => story.take(decision),
            None => {
                story.obey();
                story.second += 1;
            }
        }
    }
    let refusal = story
        .state
        .act(Action::Abort { reason: None }, "ann", &story.world(), story.now())
        .unwrap_err();
    assert_eq!(refusal.reason, "release #2 has passed its point of no return");
    let back = Action::Rollback { to: None, force: false, reason: None };
    let accepted = story.state.act(back, "ann", &story.world(), story.now()).unwrap();
    assert_eq!(
        accepted.text,
        "release #3 is accepted: release #2 is contracting; it is waited for"
    );
}

#[test]
fn what_was_taken_back_is_not_tried_again_unasked() {
    check(
        "web 2 blue-green",
        "0 apply
         20 fails web.r2
         20 apply web:v2
         40 apply web:v2
         41 well web.r2
         42 apply --force web:v2
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
            20   web r1 2+0 100 % r2 2+0 0 %
            20 release #2 turns back: ten requests in a row failed on web r2
            20   web r1 2+0 100 % r2 0+2 0 %
            21   web r1 2+0 100 %
            22 release #2 ended: rolled_back, ten requests in a row failed on web r2
            40 > apply web:v2
            40 < refused: this revision of web was taken back before: ten requests in a row failed on web r2
            42 > apply --force web:v2
            42 < release #3 is started
            42 release #3 started by ann: web r1 to r2
            42   web r1 2+0 100 % r2 2+0 0 %
            45 shifting web to r2: step 1 of 1
            45 web: 100 % of the traffic goes to r2
            45   web r1 2+0 0 % r2 2+0 100 %
            46 promoted; what it replaced is kept for 10s
            56 the old revisions are stopped now
            56   web r1 0+2 0 % r2 2+0 100 %
            57   web r2 2+0 100 %
            58 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn services_of_one_release_are_taken_back_together_and_only_the_bad_one_is_held_back() {
    check(
        "api 2 blue-green
         web 2 blue-green uses api",
        "0 apply
         20 apply api:v2 web:v2
         24 fails web.r2
         50 apply api:v2 web:v1
         55 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: api r1, web r1
            0   api r1 2+0 0 % | web
            2   api r1 2+0 0 % | web r1 2+0 0 %
            5 shifting api to r1: step 1 of 1
            5 api: 100 % of the traffic goes to r1
            5   api r1 2+0 100 % | web r1 2+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   api r1 2+0 100 % | web r1 2+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply api:v2 web:v2
            20 < release #2 is started
            20 release #2 started by ann: api r1 to r2, web r1 to r2
            20   api r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 % r2 2+0 0 %
            23 shifting api to r2: step 1 of 1
            23 api: 100 % of the traffic goes to r2
            23   api r1 2+0 0 % r2 2+0 100 % | web r1 2+0 100 % r2 2+0 0 %
            24 release #2 turns back: ten requests in a row failed on web r2
            24   api r1 2+0 100 % r2 0+2 0 % | web r1 2+0 100 % r2 0+2 0 %
            25   api r1 2+0 100 % | web r1 2+0 100 %
            26 release #2 ended: rolled_back, ten requests in a row failed on web r2
            50 > apply api:v2 web:v1
            50 < release #3 is started
            50 release #3 started by ann: api r1 to r2
            50   api r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 %
            53 shifting api to r2: step 1 of 1
            53 api: 100 % of the traffic goes to r2
            53   api r1 2+0 0 % r2 2+0 100 % | web r1 2+0 100 %
            54 promoted; what it replaced is kept for 10s
        "#]],
    );
}

#[test]
fn a_release_that_may_not_go_back_by_itself_is_held() {
    check(
        "web 2 blue-green holds bake 20",
        "0 apply
         20 apply web:v2
         30 fails web.r2
         60 rollback
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
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 2+0 0 % r2 2+0 100 %
            24 promoted; what it replaced is kept for 20s
            30 held because ten requests in a row failed on web r2; auto_rollback is off
            60 > rollback
            60 < release #2 is taken back
            60 release #2 turns back: rolled back by ann
            60   web r1 2+0 100 % r2 0+2 0 %
            60   web r1 2+0 100 %
            61 release #2 ended: fast_rolled_back, rolled back by ann
        "#]],
    );
}
