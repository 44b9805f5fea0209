//! People who step in.

use expect_test::expect;

use super::*;

#[test]
fn s31_d16_a_newer_change_takes_back_what_is_under_way() {
    check(
        "web 4 canary 25,50",
        "0 apply
         20 apply web:v2
         26 apply web:v3
         80 end",
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
            26 > apply web:v3
            26 < release #3 is accepted: release #2 is under way; it is taken back first (superseded)
            26 release #3 by ann waits for release #2
            26 release #2 turns back: superseded by release #3
            26   web r1 4+0 100 % r2 0+2 0 %
            26   web r1 4+0 100 %
            27 release #2 ended: superseded, superseded by release #3
            27 release #3 started by ann: web r1 to r3
            27   web r1 4+0 100 % r3 2+0 0 %
            30 shifting web to r3: step 1 of 3
            30 web: 25 % of the traffic goes to r3
            30   web r1 4+0 75 % r3 2+0 25 %
            36 web r3 passed step 1: healthy for 5s
            36 shifting web to r3: step 2 of 3
            36 web: 50 % of the traffic goes to r3
            36   web r1 4+0 50 % r3 2+0 50 %
            42 web r3 passed step 2: healthy for 5s
            42 shifting web to r3: step 3 of 3
            42   web r1 4+0 50 % r3 4+0 50 %
            45 web: 100 % of the traffic goes to r3
            45   web r1 4+0 0 % r3 4+0 100 %
            46 promoted; what it replaced is kept for 10s
            56 the old revisions are stopped now
            56   web r1 0+4 0 % r3 4+0 100 %
            57   web r3 4+0 100 %
            58 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn a_newer_change_contracts_what_is_promoted() {
    check(
        "web 2 blue-green bake 30",
        "0 apply
         20 apply web:v2
         30 apply web:v3
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
            24 promoted; what it replaced is kept for 30s
            30 > apply web:v3
            30 < release #3 is accepted: release #2 is promoted; it is contracted first
            30 release #3 by ann waits for release #2
            30 the old revisions are stopped now
            30   web r1 0+2 0 % r2 2+0 100 %
            30   web r2 2+0 100 %
            31 release #2 ended: promoted
            31 release #3 started by ann: web r2 to r3
            31   web r2 2+0 100 % r3 2+0 0 %
            34 shifting web to r3: step 1 of 1
            34 web: 100 % of the traffic goes to r3
            34   web r2 2+0 0 % r3 2+0 100 %
            35 promoted; what it replaced is kept for 30s
            65 the old revisions are stopped now
            65   web r2 0+2 0 % r3 2+0 100 %
            66   web r3 2+0 100 %
            67 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn a_pause_outlasts_the_progress_deadline() {
    check(
        "web 4 canary 25,50",
        "0 apply
         20 apply web:v2
         26 pause
         200 resume
         240 end",
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
            26 > pause
            26 < release #2 paused by ann
            26 release #2 paused by ann
            200 > resume
            200 < release #2 resumed by ann
            200 release #2 resumed by ann
            204 web r2 passed step 1: healthy for 5s
            204 shifting web to r2: step 2 of 3
            204 web: 50 % of the traffic goes to r2
            204   web r1 4+0 50 % r2 2+0 50 %
            210 web r2 passed step 2: healthy for 5s
            210 shifting web to r2: step 3 of 3
            210   web r1 4+0 50 % r2 4+0 50 %
            213 web: 100 % of the traffic goes to r2
            213   web r1 4+0 0 % r2 4+0 100 %
            214 promoted; what it replaced is kept for 10s
            224 the old revisions are stopped now
            224   web r1 0+4 0 % r2 4+0 100 %
            225   web r2 4+0 100 %
            226 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_pause_stops_a_rolling_release_where_it_is() {
    check(
        "web 3 rolling",
        "0 apply
         20 apply web:v2
         24 pause
         40 resume
         80 end",
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
            24 > pause
            24 < release #2 paused by ann
            24 release #2 paused by ann
            24   web r1 2+0 66.67 % r2 1+0 33.33 %
            40 > resume
            40 < release #2 resumed by ann
            40 release #2 resumed by ann
            40   web r1 2+0 66.67 % r2 2+0 33.33 %
            43 web: 66.66 % of the traffic goes to r2
            43   web r1 1+1 33.34 % r2 2+0 66.66 %
            44   web r1 1+0 33.34 % r2 2+0 66.66 %
            45   web r1 1+0 33.34 % r2 3+0 66.66 %
            48 web: 100 % of the traffic goes to r2
            48   web r1 1+0 0 % r2 3+0 100 %
            49 promoted; what it replaced is kept for 10s
            59 the old revisions are stopped now
            59   web r1 0+1 0 % r2 3+0 100 %
            60   web r2 3+0 100 %
            61 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn promote_takes_the_next_step_and_promote_full_all_of_them() {
    check(
        "web 4 canary 10,25,50 bake 5",
        "0 apply
         20 apply web:v2
         24 promote
         27 promote full
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
            23 shifting web to r2: step 1 of 4
            23 web: 10 % of the traffic goes to r2
            23   web r1 4+0 90 % r2 2+0 10 %
            24 > promote
            24 < release #2 is promoted to its next step by ann
            24 release #2 is promoted to its next step by ann
            24 shifting web to r2: step 2 of 4
            24 web: 25 % of the traffic goes to r2
            24   web r1 4+0 75 % r2 2+0 25 %
            27 > promote full
            27 < release #2 is promoted to all traffic by ann
            27 release #2 is promoted to all traffic by ann
            27   web r1 4+0 75 % r2 4+0 25 %
            30 web: 100 % of the traffic goes to r2
            30   web r1 4+0 0 % r2 4+0 100 %
            31 promoted; what it replaced is kept for 5s
            36 the old revisions are stopped now
            36   web r1 0+4 0 % r2 4+0 100 %
            37   web r2 4+0 100 %
            38 release #2 ended: fast_promoted
        "#]],
    );
}

#[test]
fn scaling_goes_out_and_in() {
    check(
        "web 2 rolling",
        "0 apply
         20 scale web 4
         30 scale web 1
         40 scale web 0
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
            20 > scale web 4
            20 < web scales from 2 to 4 instances, by ann
            20 web scales from 2 to 4 instances, by ann
            20   web r1 4+0 100 %
            30 > scale web 1
            30 < web scales from 4 to 1 instances, by ann
            30 web scales from 4 to 1 instances, by ann
            30   web r1 1+3 100 %
            30   web r1 1+0 100 %
            40 > scale web 0
            40 < refused: web would have no instance
        "#]],
    );
}

#[test]
fn scaling_during_a_release_reaches_both_pools() {
    check(
        "web 2 canary 50 bake 10",
        "0 apply
         20 apply web:v2
         25 scale web 4
         36 scale web 3
         70 end",
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
            25 > scale web 4
            25 < web scales from 2 to 4 instances, by ann
            25 web scales from 2 to 4 instances, by ann
            25   web r1 4+0 50 % r2 2+0 50 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29   web r1 4+0 50 % r2 4+0 50 %
            32 web: 100 % of the traffic goes to r2
            32   web r1 4+0 0 % r2 4+0 100 %
            33 promoted; what it replaced is kept for 10s
            36 > scale web 3
            36 < web scales from 4 to 3 instances, by ann
            36 web scales from 4 to 3 instances, by ann
            36   web r1 3+1 0 % r2 4+0 100 %
            36   web r1 3+0 0 % r2 4+0 100 %
            44 the old revisions are stopped now
            44   web r1 0+3 0 % r2 3+1 100 %
            45   web r2 3+0 100 %
            46 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn an_edge_that_restarts_moves_no_traffic() {
    check(
        "web 4 rolling",
        "0 apply
         20 apply web:v2
         28 edge restarts
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
            20   web r1 4+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 25 % of the traffic goes to r2
            23   web r1 3+1 75 % r2 1+0 25 %
            24   web r1 3+0 75 % r2 1+0 25 %
            25   web r1 3+0 75 % r2 2+0 25 %
            30 web: 50 % of the traffic goes to r2
            30   web r1 2+1 50 % r2 2+0 50 %
            31   web r1 2+0 50 % r2 2+0 50 %
            32   web r1 2+0 50 % r2 3+0 50 %
            35 web: 75 % of the traffic goes to r2
            35   web r1 1+1 25 % r2 3+0 75 %
            36   web r1 1+0 25 % r2 3+0 75 %
            37   web r1 1+0 25 % r2 4+0 75 %
            40 web: 100 % of the traffic goes to r2
            40   web r1 1+0 0 % r2 4+0 100 %
            41 promoted; what it replaced is kept for 10s
            51 the old revisions are stopped now
            51   web r1 0+1 0 % r2 4+0 100 %
            52   web r2 4+0 100 %
            53 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn refusals_say_why() {
    check(
        "web 2 blue-green",
        "0 abort
         0 scale web 3
         0 apply
         20 rollback
         21 rollback web r7
         22 apply
         23 restart db
         24 promote
         25 end",
        &expect![[r#"
            0 > abort
            0 < refused: there is no release under way to abort
            0 > scale web 3
            0 < refused: there is no service web
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
            20 > rollback
            20 < refused: there is nothing to go back to: no release has replaced a revision
            21 > rollback web r7
            21 < refused: web r7 is not kept any more
            22 > apply
            22 < nothing changes
            23 > restart db
            23 < refused: there is no service db
            24 > promote
            24 < refused: there is no release under way to promote
        "#]],
    );
}

#[test]
fn s14_s32_who_goes_back_does_not_go_on() {
    check(
        "web 2 canary 50",
        "0 apply
         20 apply web:v2
         26 apply web:v3
         26 apply web:v3
         26 apply web:v4
         26 abort
         40 apply web:v2
         48 apply web:v5
         48 rollback
         48 rollback
         60 end",
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
            26 > apply web:v3
            26 < release #3 is accepted: release #2 is under way; it is taken back first (superseded)
            26 release #3 by ann waits for release #2
            26 release #2 turns back: superseded by release #3
            26   web r1 2+0 100 % r2 0+2 0 %
            26 > apply web:v3
            26 < nothing changes: release #3 is on its way to this already
            26   web r1 2+0 100 %
            26 > apply web:v4
            26 < release #4 is accepted: release #2 is turning back; it is waited for; release #3, which waits for it, is dropped
            26 release #4 by ann waits for release #2
            26 release #3 ended before it started: superseded, superseded by release #4
            26 release #2 ended: superseded, superseded by release #3
            26 release #4 started by ann: web r1 to r3
            26   web r1 2+0 100 % r3 2+0 0 %
            26 > abort
            26 < release #4 is taken back
            26 release #4 turns back: aborted by ann
            26   web r1 2+0 100 % r3 0+2 0 %
            26   web r1 2+0 100 %
            27 release #4 ended: aborted, aborted by ann
            40 > apply web:v2
            40 < release #5 is started
            40 release #5 started by ann: web r1 to r2
            40   web r1 2+0 100 % r2 2+0 0 %
            43 shifting web to r2: step 1 of 2
            43 web: 50 % of the traffic goes to r2
            43   web r1 2+0 50 % r2 2+0 50 %
            48 > apply web:v5
            48 < release #6 is accepted: release #5 is under way; it is taken back first (superseded)
            48 release #6 by ann waits for release #5
            48 release #5 turns back: superseded by release #6
            48   web r1 2+0 100 % r2 0+2 0 %
            48 > rollback
            48 < release #5 is turning back already; release #6, which waited for it, is dropped
            48 release #6 ended before it started: aborted, aborted by ann
            48   web r1 2+0 100 %
            48 > rollback
            48 < release #5 is turning back already
            48 release #5 ended: superseded, superseded by release #6
        "#]],
    );
}

#[test]
fn a_restart_ends_no_release_unasked() {
    check(
        "web 2 canary 50 bake 30",
        "0 apply
         20 apply web:v2
         26 restart web
         40 restart
         41 restart web --force
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
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 2+0 50 % r2 2+0 50 %
            26 > restart web
            26 < refused: release #2 is under way, and a restart would take it back
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29 web: 100 % of the traffic goes to r2
            29   web r1 2+0 0 % r2 2+0 100 %
            30 promoted; what it replaced is kept for 30s
            40 > restart
            40 < refused: release #2 is promoted, and a restart would contract it: what it replaced could not come back at once any more
            41 > restart web --force
            41 < release #3 is accepted: release #2 is promoted; it is contracted first
            41 release #3 by ann waits for release #2
            41 the old revisions are stopped now
            41   web r1 0+2 0 % r2 2+0 100 %
            41   web r2 2+0 100 %
            42 release #2 ended: promoted
            42 release #3 started by ann: web r2 to r3
            42   web r2 2+0 100 % r3 2+0 0 %
            45 shifting web to r3: step 1 of 2
            45 web: 50 % of the traffic goes to r3
            45   web r2 2+0 50 % r3 2+0 50 %
            51 web r3 passed step 1: healthy for 5s
            51 shifting web to r3: step 2 of 2
            51 web: 100 % of the traffic goes to r3
            51   web r2 2+0 0 % r3 2+0 100 %
            52 promoted; what it replaced is kept for 30s
        "#]],
    );
}

#[test]
fn a_service_is_scaled_while_its_first_release_is_under_way() {
    check(
        "web 2 rolling",
        "0 apply
         1 scale web 3
         20 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 2+0 0 %
            1 > scale web 3
            1 < web scales from 2 to 3 instances, by ann
            1 web scales from 2 to 3 instances, by ann
            1   web r1 3+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   web r1 3+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_step_with_a_gate_waits_for_somebody_however_long() {
    check(
        "web 2 canary 50 gated",
        "0 apply
         10 approve
         20 apply web:v2
         30 why
         400 approve
         401 approve
         440 apply web:v3
         450 promote
         480 end",
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
            10 > approve
            10 < refused: there is no release under way to approve
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 2+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 2+0 50 % r2 2+0 50 %
            29 web r2 waits at the gate of step 1: `evenkeel approve` lets it pass
            30 ? somebody approves that web r2 takes its next step
            400 > approve
            400 < release #2 may take its next step: approved by ann
            400 release #2 may take its next step: approved by ann
            400 web r2 passed step 1: healthy for 5s
            400 shifting web to r2: step 2 of 2
            400 web: 100 % of the traffic goes to r2
            400   web r1 2+0 0 % r2 2+0 100 %
            400 promoted; what it replaced is kept for 10s
            401 > approve
            401 < refused: release #2 waits for nobody's approval
            410 the old revisions are stopped now
            410   web r1 0+2 0 % r2 2+0 100 %
            411   web r2 2+0 100 %
            412 release #2 ended: promoted
            440 > apply web:v3
            440 < release #3 is started
            440 release #3 started by ann: web r2 to r3
            440   web r2 2+0 100 % r3 2+0 0 %
            443 shifting web to r3: step 1 of 2
            443 web: 50 % of the traffic goes to r3
            443   web r2 2+0 50 % r3 2+0 50 %
            449 web r3 waits at the gate of step 1: `evenkeel approve` lets it pass
            450 > promote
            450 < release #3 is promoted to its next step by ann
            450 release #3 is promoted to its next step by ann
            450 shifting web to r3: step 2 of 2
            450 web: 100 % of the traffic goes to r3
            450   web r2 2+0 0 % r3 2+0 100 %
            450 promoted; what it replaced is kept for 10s
            460 the old revisions are stopped now
            460   web r2 0+2 0 % r3 2+0 100 %
            461   web r3 2+0 100 %
            462 release #3 ended: fast_promoted
        "#]],
    );
}

#[test]
fn a_lock_lets_only_hotfixes_and_ways_back_pass() {
    check(
        "web 20 canary 50 needs 100 bake 30",
        "0 apply
         10 lock sale
         11 why
         12 apply web:v2
         13 apply web:v2 --hotfix
         100 rollback
         120 unlock
         121 unlock
         122 apply web:v3
         125 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 20+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 20+0 100 %
            4 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            10 > lock sale
            10 < nothing new is released: locked by ann, sale; `evenkeel scale`, hotfixes and ways back still work
            10 nothing new is released: locked by ann, sale
            11 ? nothing new is released: locked by ann, sale
            12 > apply web:v2
            12 < refused: nothing new is released: locked by ann, sale
            13 > apply web:v2 --hotfix
            13 < release #2 is started
            13 release #2 started by ann: web r1 to r2
            13 release #2 is a HOTFIX by ann: it burns
            13   web r1 20+0 100 % r2 2+0 0 %
            16 shifting web to r2: step 1 of 2
            16 web: 10 % of the traffic goes to r2
            16   web r1 20+0 90 % r2 2+0 10 %
            22 web r2 passed step 1: healthy for 5s
            22 shifting web to r2: step 2 of 2
            22   web r1 20+0 90 % r2 20+0 10 %
            25 web: 100 % of the traffic goes to r2
            25   web r1 20+0 0 % r2 20+0 100 %
            26 promoted; what it replaced is kept for 30s
            56 the old revisions are stopped now
            56   web r1 0+20 0 % r2 20+0 100 %
            57   web r2 20+0 100 %
            58 release #2 ended: promoted
            100 > rollback
            100 < release #3 is started
            100 release #3 started by ann: web r2 to r1
            100   web r1 20+0 0 % r2 20+0 100 %
            103 shifting web to r1: step 1 of 1
            103 web: 100 % of the traffic goes to r1
            103   web r1 20+0 100 % r2 20+0 0 %
            104 promoted; what it replaced is kept for 30s
            120 > unlock
            120 < changes may be released again: unlocked by ann
            120 changes may be released again: unlocked by ann
            121 > unlock
            121 < nothing is locked
            122 > apply web:v3
            122 < release #4 is accepted: release #3 is promoted; it is contracted first
            122 release #4 by ann waits for release #3
            122 the old revisions are stopped now
            122   web r1 20+0 100 % r2 0+20 0 %
            122   web r1 20+0 100 %
            123 release #3 ended: promoted
            123 release #4 started by ann: web r1 to r3
            123   web r1 20+0 100 % r3 10+0 0 %
        "#]],
    );
}

#[test]
fn s31_a_newer_change_of_other_services_waits_and_takes_nothing_back() {
    check(
        "web 4 canary 50 bake 600
         mail 2 rolling",
        "0 apply
         20 apply web:v2
         24 apply mail:v2
         25 apply mail:v3
         26 why
         80 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: mail r1, web r1
            0   mail r1 2+0 0 % | web r1 4+0 0 %
            3 shifting mail to r1: step 1 of 1
            3 mail: 100 % of the traffic goes to r1
            3   mail r1 2+0 100 % | web r1 4+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   mail r1 2+0 100 % | web r1 4+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   mail r1 2+0 100 % | web r1 4+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   mail r1 2+0 100 % | web r1 4+0 50 % r2 2+0 50 %
            24 > apply mail:v2
            24 < release #3 is accepted: release #2 is under way with other services; it is waited for
            24 release #3 by ann waits for release #2
            25 > apply mail:v3
            25 < release #4 is accepted: release #2 is under way with other services; it is waited for; release #3, which waits for it, is dropped
            25 release #4 by ann waits for release #2
            25 release #3 ended before it started: superseded, superseded by release #4
            26 ? baking: healthy for 2s of 5s
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29   mail r1 2+0 100 % | web r1 4+0 50 % r2 4+0 50 %
            32 web: 100 % of the traffic goes to r2
            32   mail r1 2+0 100 % | web r1 4+0 0 % r2 4+0 100 %
            33 promoted
            33 the old revisions are stopped now
            33   mail r1 2+0 100 % | web r1 0+4 0 % r2 4+0 100 %
            34   mail r1 2+0 100 % | web r2 4+0 100 %
            35 release #2 ended: promoted
            35 release #4 started by ann: mail r1 to r2
            35   mail r1 2+0 100 % r2 1+0 0 % | web r2 4+0 100 %
            38 shifting mail to r2: step 1 of 1
            38 mail: 50 % of the traffic goes to r2
            38   mail r1 1+1 50 % r2 1+0 50 % | web r2 4+0 100 %
            39   mail r1 1+0 50 % r2 1+0 50 % | web r2 4+0 100 %
            40   mail r1 1+0 50 % r2 2+0 50 % | web r2 4+0 100 %
            43 mail: 100 % of the traffic goes to r2
            43   mail r1 1+0 0 % r2 2+0 100 % | web r2 4+0 100 %
            44 promoted; what it replaced is kept for 10s
            54 the old revisions are stopped now
            54   mail r1 0+1 0 % r2 2+0 100 % | web r2 4+0 100 %
            55   mail r2 2+0 100 % | web r2 4+0 100 %
            56 release #4 ended: promoted
        "#]],
    );
}

#[test]
fn what_waited_for_a_revision_that_was_taken_back_is_not_tried_with_it() {
    check(
        "web 4 canary 50
         mail 2 rolling",
        "0 apply
         20 apply web:v2
         24 apply mail:v2
         25 crashes web.r2
         60 apply web:v3
         90 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: mail r1, web r1
            0   mail r1 2+0 0 % | web r1 4+0 0 %
            3 shifting mail to r1: step 1 of 1
            3 mail: 100 % of the traffic goes to r1
            3   mail r1 2+0 100 % | web r1 4+0 0 %
            4 shifting web to r1: step 1 of 1
            4 web: 100 % of the traffic goes to r1
            4   mail r1 2+0 100 % | web r1 4+0 100 %
            5 promoted
            5 nothing was replaced, so nothing is stopped
            5 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   mail r1 2+0 100 % | web r1 4+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   mail r1 2+0 100 % | web r1 4+0 50 % r2 2+0 50 %
            24 > apply mail:v2
            24 < release #3 is accepted: release #2 is under way with other services; it is waited for
            24 release #3 by ann waits for release #2
            25 release #2 turns back: web r2 ended 4 times in a row by itself, last with exit status 1
            25   mail r1 2+0 100 % | web r1 4+0 100 % r2 0+2 0 %
            26   mail r1 2+0 100 % | web r1 4+0 100 %
            27 release #2 ended: rolled_back, web r2 ended 4 times in a row by itself, last with exit status 1
            27 release #3 ended before it started: aborted, this revision of web was taken back before: web r2 ended 4 times in a row by itself, last with exit status 1
            60 > apply web:v3
            60 < release #4 is started
            60 release #4 started by ann: mail r1 to r2, web r1 to r3
            60   mail r1 2+0 100 % r2 1+0 0 % | web r1 4+0 100 % r3 2+0 0 %
            63 shifting mail to r2: step 1 of 1
            63 mail: 50 % of the traffic goes to r2
            63   mail r1 1+1 50 % r2 1+0 50 % | web r1 4+0 100 % r3 2+0 0 %
            64   mail r1 1+0 50 % r2 1+0 50 % | web r1 4+0 100 % r3 2+0 0 %
            65   mail r1 1+0 50 % r2 2+0 50 % | web r1 4+0 100 % r3 2+0 0 %
            68 mail: 100 % of the traffic goes to r2
            68   mail r1 1+0 0 % r2 2+0 100 % | web r1 4+0 100 % r3 2+0 0 %
            69 shifting web to r3: step 1 of 2
            69 web: 50 % of the traffic goes to r3
            69   mail r1 1+0 0 % r2 2+0 100 % | web r1 4+0 50 % r3 2+0 50 %
            75 web r3 passed step 1: healthy for 5s
            75 shifting web to r3: step 2 of 2
            75   mail r1 1+0 0 % r2 2+0 100 % | web r1 4+0 50 % r3 4+0 50 %
            78 web: 100 % of the traffic goes to r3
            78   mail r1 1+0 0 % r2 2+0 100 % | web r1 4+0 0 % r3 4+0 100 %
            79 promoted; what it replaced is kept for 10s
            89 the old revisions are stopped now
            89   mail r1 0+1 0 % r2 2+0 100 % | web r1 0+4 0 % r3 4+0 100 %
        "#]],
    );
}

#[test]
fn why_names_the_instance_that_the_point_of_no_return_waits_for() {
    check(
        "web 4 blue-green bake 5",
        "0 apply
         20 apply web:v2
         26 why
         27 never web.r2.4
         40 why
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
            24 promoted; what it replaced is kept for 5s
            26 ? baking: healthy for 2s of 5s
            40 ? web r2: 3 of 4 instances ready (web.r2.4: it runs, but its health check does not pass)
        "#]],
    );
}
