//! Sizes that follow the load: alone, beside releases, and beside what people ask for.

use expect_test::expect;

use super::{Story, check, play};
use crate::model::{Epoch, Weight};
use crate::want::Want;

/// A service that runs, before anything is asked of it.
const RUNS: u64 = 20;

#[test]
fn a_service_grows_with_its_load_and_shrinks_later() {
    check(
        "web 2 rolling scales 2-10",
        "0 apply
         20 busy web.r1 57
         23 why
         40 busy web.r1 12
         50 why
         80 busy web.r1 200
         100 why
         140 end",
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
            23 ? web needs 6 instances and has 2: in_flight 28.5 of 10
            24 web scales from 2 to 6 instances: in_flight 28.5 of 10
            24   web r1 6+0 100 %
            50 ? web has 6 instances, and 2 have been enough: in_flight 2.0 of 10
            70 web scales from 6 to 2 instances: in_flight 2.0 of 10
            70   web r1 2+4 100 %
            71   web r1 2+0 100 %
            84 web scales from 2 to 6 instances: in_flight 100.0 of 10
            84   web r1 6+0 100 %
            90 web scales from 6 to 10 instances: in_flight 33.3 of 10
            90   web r1 10+0 100 %
            100 ? web is as large as it may be, 10, and needs 20: in_flight 20.0 of 10
        "#]],
    );
}

#[test]
fn what_is_not_measured_or_not_seen_does_not_shrink() {
    check(
        "web 5 rolling scales 2-10",
        "0 apply
         20 busy web.r1 ?
         90 why
         91 busy web.r1 5
         110 blind
         115 sees
         120 sick web.r1.1
         143 why
         200 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 5+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 5+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            90 ? web: in_flight of 5 of its instances is not known, so it does not shrink
            143 ? web has 5 instances, and 2 have been enough: in_flight 1.3 of 10
            143 ? web.r1.1 is unhealthy and gets no requests (it runs, but its health check does not pass)
            145 web scales from 5 to 2 instances: in_flight 1.3 of 10
            145   web r1 2+3 100 %
            146   web r1 2+0 100 %
        "#]],
    );
}

#[test]
fn d15_each_revision_scales_by_its_own_load() {
    check(
        "web 4 canary 10,50 bake 10 scales 2-10",
        "0 apply
         20 apply web:v2
         23 busy web.r1 60
         24 busy web.r2 38
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
            23 web: 10 % of the traffic goes to r2
            23   web r1 4+0 90 % r2 2+0 10 %
            27 web r1 scales from 4 to 6 instances: in_flight 15.0 of 10
            27   web r1 6+0 90 % r2 2+0 10 %
            28 web r2 scales from 2 to 4 instances: in_flight 19.0 of 10
            28   web r1 6+0 90 % r2 4+0 10 %
            31 web r2 passed step 1: healthy for 5s
            31 shifting web to r2: step 2 of 3
            31 web: 50 % of the traffic goes to r2
            31   web r1 6+0 50 % r2 4+0 50 %
            37 web r2 passed step 2: healthy for 5s
            37 shifting web to r2: step 3 of 3
            37   web r1 6+0 50 % r2 6+0 50 %
            40 web: 100 % of the traffic goes to r2
            40   web r1 6+0 0 % r2 6+0 100 %
            41 promoted; what it replaced is kept for 10s
            51 the old revisions are stopped now
            51   web r1 0+6 0 % r2 6+0 100 %
            52   web r2 6+0 100 %
            53 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn d15_what_is_left_stays_whole_while_it_idles() {
    check(
        "web 8 canary 50 bake 60 scales 2-10",
        "0 apply
         15 busy web.r1 80
         20 apply web:v2
         30 busy web.r1 0
         30 busy web.r2 95
         75 rollback
         120 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 8+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   web r1 8+0 100 %
            4 promoted
            4 nothing was replaced, so nothing is stopped
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 8+0 100 % r2 4+0 0 %
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 8+0 50 % r2 4+0 50 %
            29 web r2 passed step 1: healthy for 5s
            29 shifting web to r2: step 2 of 2
            29   web r1 8+0 50 % r2 8+0 50 %
            32 web: 100 % of the traffic goes to r2
            32   web r1 8+0 0 % r2 8+0 100 %
            33 promoted; what it replaced is kept for 1m
            34 web r2 scales from 8 to 10 instances: in_flight 11.9 of 10
            34   web r1 10+0 0 % r2 10+0 100 %
            75 > rollback
            75 < release #2 is taken back
            75 release #2 turns back: rolled back by ann
            75   web r1 10+0 100 % r2 0+10 0 %
            75   web r1 10+0 100 %
            76 release #2 ended: fast_rolled_back, rolled back by ann
            107 web scales from 10 to 2 instances: in_flight 0.0 of 10
            107   web r1 2+8 100 %
            108   web r1 2+0 100 %
        "#]],
    );
}

#[test]
fn a_rolling_release_makes_room_for_a_load_that_comes() {
    check(
        "web 4 rolling bake 10 scales 2-10",
        "0 apply
         15 busy web.r1 40
         20 apply web:v2
         24 busy web.r1 70
         28 busy web.r2 30
         34 busy web.r1 20
         34 busy web.r2 70
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
            28 web r1 has 3 instances and needs 7, which makes room: in_flight 23.3 of 10
            28   web r1 3+0 75 % r2 6+0 25 %
            31 web: 75 % of the traffic goes to r2
            31   web r1 2+1 25 % r2 6+0 75 %
            32   web r1 2+0 25 % r2 6+0 75 %
            33   web r1 2+0 25 % r2 7+0 75 %
            36 web: 87.5 % of the traffic goes to r2
            36   web r1 1+1 12.5 % r2 7+0 87.5 %
            37   web r1 1+0 12.5 % r2 7+0 87.5 %
            38   web r1 1+0 12.5 % r2 8+0 87.5 %
            41 web: 100 % of the traffic goes to r2
            41   web r1 1+0 0 % r2 8+0 100 %
            42 promoted; what it replaced is kept for 10s
            52 the old revisions are stopped now
            52   web r1 0+1 0 % r2 8+0 100 %
            53   web r2 8+0 100 %
            54 release #2 ended: promoted
            84 web scales from 8 to 7 instances: in_flight 8.8 of 10
            84   web r2 7+1 100 %
            85   web r2 7+0 100 %
        "#]],
    );
}

#[test]
fn the_file_says_where_it_begins_and_not_where_it_is() {
    check(
        "web 2 rolling scales 2-10",
        "0 apply
         20 busy web.r1 57
         30 apply
         31 apply web~2-5
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
            24 web scales from 2 to 6 instances: in_flight 28.5 of 10
            24   web r1 6+0 100 %
            30 > apply
            30 < nothing changes
            31 > apply web~2-5
            31 < release #2 is started
            31 release #2 started by ann: no new revision
            31 promoted
            31 what is not wanted any more is stopped now
            31   web r1 5+1 100 %
            31 release #2 ended: promoted
            32   web r1 5+0 100 %
        "#]],
    );
}

#[test]
fn a_person_sets_the_size_and_the_load_goes_on_from_there() {
    check(
        "web 2 rolling scales 2-10",
        "0 apply
         20 scale web 6
         21 scale web 11
         22 scale web 1
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
            20 > scale web 6
            20 < web scales from 2 to 6 instances, by ann; it goes on scaling from 2 to 10 by its load
            20 web scales from 2 to 6 instances, by ann; it goes on scaling from 2 to 10 by its load
            20   web r1 6+0 100 %
            21 > scale web 11
            21 < refused: web scales by itself, from 2 to 10 instances
            22 > scale web 1
            22 < refused: web scales by itself, from 2 to 10 instances
            50 web scales from 6 to 4 instances: in_flight 0.0 of 10
            50   web r1 4+2 100 %
            51   web r1 4+0 100 %
            55 web scales from 4 to 2 instances: in_flight 0.0 of 10
            55   web r1 2+2 100 %
            56   web r1 2+0 100 %
        "#]],
    );
}

#[test]
fn a_quiet_service_is_not_written_down_again_and_again() {
    let quiet = format!("0 apply\n15 busy web.r1 20\n{RUNS} end");
    let before = play("web 2 rolling scales 2-10", &quiet).commits;
    let later = play("web 2 rolling scales 2-10", &format!("{quiet}\n900 end")).commits;
    assert_eq!(later, before);
}

#[test]
fn processor_time_is_measured_only_where_it_counts_and_that_is_a_want_of_its_own() {
    let measured = |story: &Story| -> Vec<bool> {
        let wants = story.state.wants(Epoch(1));
        let pools = wants.into_iter().filter_map(|want| match want {
            Want::Pool(pool) => Some(pool.measured),
            Want::Listeners(_) | Want::Table(_) | Want::Checks(_) | Want::Schemas(_) => None,
        });
        pools.collect()
    };
    let mut story = play("db 1 rolling\nweb 2 rolling scales 2-10", "0 apply\n10 end");
    assert_eq!(measured(&story), [false, false]);
    let mut apply = |cpu: Option<Weight>, until: u64| {
        let web = story.file.services.get_mut(&"web".parse().unwrap()).unwrap();
        web.scale.as_mut().unwrap().cpu = cpu;
        let before = story.state.generation;
        story.happens("apply");
        story.run_until(until);
        assert!(story.state.generation > before, "executors refuse what is not newer");
        measured(&story)
    };
    assert_eq!(apply(Some(Weight(7_000)), 20), [false, true]);
    assert_eq!(apply(None, 30), [false, false]);
}
