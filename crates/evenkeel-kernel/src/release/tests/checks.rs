//! What checks say before, during and after a rollout.

use expect_test::expect;

use super::*;

#[test]
fn no_traffic_moves_before_the_first_checks_pass() {
    check(
        "web 4 canary 25 asks smoke:before:twice",
        "0 apply
         1 says smoke failed
         20 apply web:v2
         21 says smoke done
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 check smoke of web r1 fails: exit status 1
            5 check smoke of web r1 fails: exit status 1
            5 release #1 turns back: web r1: check smoke failed 2 times: exit status 1
            5   web r1 0+4 0 %
            6   web
            7 release #1 ended: rolled_back, web r1: check smoke failed 2 times: exit status 1
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r2
            20   web r2 4+0 0 %
            23 check smoke of web r2 passes: it succeeded
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r2 4+0 100 %
            24 promoted
            24 nothing was replaced, so nothing is stopped
            24 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_first_check_that_fails_takes_the_release_back() {
    check(
        "web 4 blue-green asks smoke:before",
        "0 says smoke done
         0 apply
         20 says smoke failed
         20 apply web:v2
         30 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 check smoke of web r1 passes: it succeeded
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
            23 check smoke of web r2 fails: exit status 1
            23 release #2 turns back: web r2: check smoke failed: exit status 1
            23   web r1 4+0 100 % r2 0+4 0 %
            24   web r1 4+0 100 %
            25 release #2 ended: rolled_back, web r2: check smoke failed: exit status 1
        "#]],
    );
}

#[test]
fn a_check_that_nobody_answers_holds_the_release() {
    check(
        "web 4 rolling asks smoke:before",
        "0 says smoke error
         0 apply
         4 why
         12 why
         20 says smoke done
         21 resume
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 check smoke of web r1 could not be answered: nobody answers
            4 ? check smoke of web r1 passes (./smoke succeeds) (nobody answers)
            7 held because check smoke of web could not be answered 3 times in a row: nobody answers
            12 ? release #1 is held: check smoke of web could not be answered 3 times in a row: nobody answers
            21 > resume
            21 < release #1 resumed by ann
            21 release #1 resumed by ann
            21 check smoke of web r1 passes: it succeeded
            21 shifting web to r1: step 1 of 1
            21 web: 100 % of the traffic goes to r1
            21   web r1 4+0 100 %
            21 promoted
            21 nothing was replaced, so nothing is stopped
            21 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn every_step_needs_a_pass_of_its_own() {
    check(
        "web 4 canary 25,50 asks queue:during:max",
        "0 says queue 3
         0 apply
         20 apply web:v2
         24 says queue nothing
         30 why
         36 says queue 4
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 4+0 100 %
            3 check queue of web r1 passes: it is 3
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
            23 check queue of web r2 passes: it is 3
            25 check queue of web r2 says nothing yet: no sample
            29 held because check queue of web could not be answered 3 times in a row: no sample
            30 ? release #2 is held: check queue of web could not be answered 3 times in a row: no sample
            37 check queue of web r2 passes: it is 4
        "#]],
    );
}

#[test]
fn answers_that_nothing_waits_for_are_no_progress() {
    check(
        "db 2 rolling asks queue:during:max
         web 4 blue-green uses db",
        "0 says queue 3
         0 apply
         20 apply db:v2 web:v2
         24 sick web.r2.1
         24 sick web.r2.2
         100 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            0   db r1 2+0 0 % | web
            2   db r1 2+0 0 % | web r1 4+0 0 %
            5 shifting db to r1: step 1 of 1
            5 db: 100 % of the traffic goes to r1
            5   db r1 2+0 100 % | web r1 4+0 0 %
            5 check queue of db r1 passes: it is 3
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   db r1 2+0 100 % | web r1 4+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply db:v2 web:v2
            20 < release #2 is started
            20 release #2 started by ann: db r1 to r2, web r1 to r2
            20   db r1 2+0 100 % r2 1+0 0 % | web r1 4+0 100 % r2 4+0 0 %
            23 shifting db to r2: step 1 of 1
            23 db: 50 % of the traffic goes to r2
            23   db r1 1+1 50 % r2 1+0 50 % | web r1 4+0 100 % r2 4+0 0 %
            23 check queue of db r2 passes: it is 3
            24   db r1 1+0 50 % r2 1+0 50 % | web r1 4+0 100 % r2 4+0 0 %
            25   db r1 1+0 50 % r2 2+0 50 % | web r1 4+0 100 % r2 4+0 0 %
            28 db: 100 % of the traffic goes to r2
            28   db r1 1+0 0 % r2 2+0 100 % | web r1 4+0 100 % r2 4+0 0 %
            29 shifting web to r2: step 1 of 1
            89 release #2 turns back: no progress for 1m
            89   db r1 1+0 100 % r2 0+2 0 % | web r1 4+0 100 % r2 0+4 0 %
            90   db r1 1+0 100 % | web r1 4+0 100 %
            91 release #2 ended: rolled_back, no progress for 1m
            91   db r1 2+0 100 % | web r1 4+0 100 %
        "#]],
    );
}

#[test]
fn what_is_counted_of_both_revisions_is_compared() {
    check(
        "worker 4 canary 25 asks jobs:during:counts",
        "0 apply
         20 says jobs counts 0 0 10000 10
         20 apply worker:v2
         25 says jobs counts 40 0 10100 10
         28 why
         29 says jobs counts 60 12 10200 10
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: worker r1
            0   worker r1 4+0 0 %
            3 shifting worker to r1: step 1 of 1
            3 worker: 100 % of the traffic goes to r1
            3   worker r1 4+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply worker:v2
            20 < release #2 is started
            20 release #2 started by ann: worker r1 to r2
            20   worker r1 4+0 100 % r2 2+0 0 %
            23 shifting worker to r2: step 1 of 2
            23 worker: 25 % of the traffic goes to r2
            23   worker r1 4+0 75 % r2 2+0 25 %
            23 check jobs of worker r2 passes: lost is 0.00 % of 0, beside 0.00 % of 0 before
            28 ? baking: healthy for 4s of 5s
            29 worker r2 passed step 1: healthy for 5s
            29 shifting worker to r2: step 2 of 2
            29 check jobs of worker r2 fails: lost is 20 % of 60, beside 0.00 % of 200 before
            29 release #2 turns back: worker r2: check jobs failed: lost is 20 % of 60, beside 0.00 % of 200 before
            29   worker r1 4+0 100 % r2 0+2 0 %
            30   worker r1 4+0 100 %
            31 release #2 ended: rolled_back, worker r2: check jobs failed: lost is 20 % of 60, beside 0.00 % of 200 before
        "#]],
    );
}

#[test]
fn a_last_check_takes_everything_back_before_contract() {
    check(
        "web 2 blue-green bake 5 asks smoke:after",
        "0 says smoke done
         0 apply
         20 says smoke error
         20 apply web:v2
         26 why
         27 says smoke failed
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
            4 check smoke of web r1 passes: it succeeded
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 2+0 0 % r2 2+0 100 %
            24 promoted; what it replaced is kept for 5s
            24 check smoke of web r2 could not be answered: nobody answers
            26 ? baking: healthy for 2s of 5s
            26 ? check smoke of web r2 passes (./smoke succeeds) (nobody answers)
            28 check smoke of web r2 fails: exit status 1
            28 release #2 turns back: web r2: check smoke failed: exit status 1
            28   web r1 2+0 100 % r2 0+2 0 %
            29   web r1 2+0 100 %
            30 release #2 ended: rolled_back, web r2: check smoke failed: exit status 1
        "#]],
    );
}

#[test]
fn a_dry_run_decides_nothing_and_neither_does_any_check_in_a_hotfix() {
    check(
        "web 2 blue-green bake 5 asks smoke:before,try:during:dry",
        "0 says smoke done
         0 says try failed
         0 apply
         20 says smoke failed
         20 apply web:v2 --hotfix
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 2+0 0 %
            3 check smoke of web r1 passes: it succeeded
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 2+0 100 %
            3 check try of web r1 fails (dry run): exit status 1
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2 --hotfix
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 release #2 is a HOTFIX by ann: it burns
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 check smoke of web r2 fails (told only, as this is a hotfix): exit status 1
            23 web: 10 % of the traffic goes to r2
            23   web r1 2+0 90 % r2 2+0 10 %
            23 check try of web r2 fails (dry run): exit status 1
        "#]],
    );
}
