//! What requests tell.

use expect_test::expect;

use super::*;

#[test]
fn a_revision_that_fails_more_requests_is_taken_back_and_one_that_fails_as_many_is_not() {
    check(
        "web 20 canary 10,50",
        "0 apply
         1 load web.r1 900 1
         20 apply web:v2
         22 load web.r2 100 20
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 20+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 20+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 20+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 3
            23 web: 10 % of the traffic goes to r2
            23   web r1 20+0 90 % r2 2+0 10 %
            26 release #2 turns back: web r2: 2.0 % of the tries on it fail, beside 0.09 %; the odds against chance are 250 to 1; 8 of its 400 requests had failed, at 10 % of the traffic
            26   web r1 20+0 100 % r2 0+2 0 %
            27   web r1 20+0 100 %
            28 release #2 ended: rolled_back, web r2: 2.0 % of the tries on it fail, beside 0.09 %; the odds against chance are 250 to 1; 8 of its 400 requests had failed, at 10 % of the traffic
        "#]],
    );
    check(
        "web 20 canary 10",
        "0 apply
         1 load web.r1 900 20
         20 apply web:v2
         22 load web.r2 100 20
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 20+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 20+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 20+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 10 % of the traffic goes to r2
            23   web r1 20+0 90 % r2 2+0 10 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29   web r1 20+0 90 % r2 20+0 10 %
            32 web: 100 % of the traffic goes to r2
            32   web r1 20+0 0 % r2 20+0 100 %
            33 promoted; what it replaced is kept for 10s
        "#]],
    );
}

#[test]
fn what_hits_both_revisions_takes_back_neither() {
    check(
        "web 20 canary 10",
        "0 apply
         1 load web.r1 900 1
         20 apply web:v2
         22 load web.r2 100 1
         24 load web.r1 900 300
         24 load web.r2 100 300
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 20+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 20+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 20+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 10 % of the traffic goes to r2
            23   web r1 20+0 90 % r2 2+0 10 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29   web r1 20+0 90 % r2 20+0 10 %
            32 web: 100 % of the traffic goes to r2
            32   web r1 20+0 0 % r2 20+0 100 %
            33 promoted; what it replaced is kept for 10s
        "#]],
    );
}

#[test]
fn a_step_waits_for_requests_and_is_held_without_them() {
    check(
        "web 4 canary 25 needs 50",
        "0 apply
         20 apply web:v2
         24 load web.r2 4 0
         30 why
         60 apply web:v3
         82 why
         90 resume
         110 promote
         120 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 4+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 4+0 100 %
            4 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 4+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 25 % of the traffic goes to r2
            23   web r1 4+0 75 % r2 2+0 25 %
            30 ? baking: healthy for 5s of 5s; asked 24 of 50 requests
            37 web r2 passed step 1: healthy for 5s, 52 requests, 0.00 % failed beside 0.00 % of r1
            37 shifting web to r2: step 2 of 2
            37   web r1 4+0 75 % r2 4+0 25 %
            40 web: 100 % of the traffic goes to r2
            40   web r1 4+0 0 % r2 4+0 100 %
            41 promoted; what it replaced is kept for 10s
            51 the old revisions are stopped now
            51   web r1 0+4 0 % r2 4+0 100 %
            52   web r2 4+0 100 %
            53 release #2 ended: promoted
            60 > apply web:v3
            60 < release #3 is started
            60 release #3 started by ann: web r2 to r3
            60   web r2 4+0 100 % r3 2+0 0 %
            63 shifting web to r3: step 1 of 2
            63 web: 25 % of the traffic goes to r3
            63   web r2 4+0 75 % r3 2+0 25 %
            79 held because web r3 was asked 0 of 50 requests in 15s
            82 ? release #3 is held: web r3 was asked 0 of 50 requests in 15s
            90 > resume
            90 < release #3 resumed by ann
            90 release #3 resumed by ann
            100 held because web r3 was asked 0 of 50 requests in 15s
            110 > promote
            110 < release #3 is promoted to its next step by ann
            110 release #3 is promoted to its next step by ann
            110 shifting web to r3: step 2 of 2
            110   web r2 4+0 75 % r3 4+0 25 %
            113 web: 100 % of the traffic goes to r3
            113   web r2 4+0 0 % r3 4+0 100 %
            114 promoted; what it replaced is kept for 10s
        "#]],
    );
}
