//! Affinity: new talks to new and old to old, in every phase.

use expect_test::expect;

use super::*;

const PAIR: &str = "web 2 canary 10 uses catalog
                    catalog 2 canary 10 affine";

/// Where the calls of each revision of a service go first, as the table says: `r1>r2`, or `r1>split`.
fn ways(story: &Story) -> String {
    let table = story.state.table(Fence::default());
    let pins = table.services.values().flat_map(|service| &service.pinned);
    let told = pins.map(|(listener, to)| {
        let to = to.map_or("split".to_owned(), |to| to.to_string());
        format!("{}>{to}", listener.trim_start_matches("svc-"))
    });
    told.collect::<Vec<_>>().join(" ")
}

/// The ways after each second in which they changed.
fn told(services: &str, script: &str) -> String {
    let mut story = Story::new(services);
    let (mut out, mut last) = (String::new(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (at, what) = line.split_once(' ').unwrap();
        while story.second < at.parse().unwrap() {
            story.run_until(story.second + 1);
            story.settle();
            let now = ways(&story);
            if now != last {
                writeln!(out, "{} {now}", story.second).unwrap();
                last = now;
            }
        }
        if story.happens(what) {
            story.settle();
        }
    }
    format!("{out}{}", story.lines)
}

#[test]
fn new_talks_to_new_and_old_to_old_until_contract() {
    let told = told(
        PAIR,
        "0 apply />web
         20 apply web:v2 catalog:v2
         60 end",
    );
    expect![[r#"
        1 catalog.web.r1>split
        21 catalog.web.r1>r1 catalog.web.r2>r2
        41 catalog.web.r1>split catalog.web.r2>split
        42 catalog.web.r2>split
        0 > apply />web
        0 < release #1 is started
        0 release #1 started by ann: catalog r1, web r1
        0   catalog r1 2+0 0 % | web
        2   catalog r1 2+0 0 % | web r1 2+0 0 %
        5 shifting catalog to r1: step 1 of 1
        5 catalog: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 0 %
        5 shifting web to r1: step 1 of 1
        5 web: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 100 %
        6 promoted
        6 nothing was replaced, so nothing is stopped
        6 release #1 ended: promoted
        20 > apply web:v2 catalog:v2
        20 < release #2 is started
        20 release #2 started by ann: web r1 to r2, catalog r1 to r2
        20   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 %
        22   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 % r2 2+0 0 %
        25 shifting web to r2: step 1 of 2
        25 web: 10 % of the traffic goes to r2
        25   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 90 % r2 2+0 10 %
        30 web r2 passed step 1: healthy for 5s
        30 shifting web to r2: step 2 of 2
        30 web: 100 % of the traffic goes to r2
        30   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 0 % r2 2+0 100 %
        30 shifting catalog to r2: step 1 of 1
        30 catalog: 100 % of the traffic goes to r2
        30   catalog r1 2+0 0 % r2 2+0 100 % | web r1 2+0 0 % r2 2+0 100 %
        31 promoted; what it replaced is kept for 10s
        41 the old revisions are stopped now
        41   catalog r1 0+2 0 % r2 2+0 100 % | web r1 0+2 0 % r2 2+0 100 %
        41   catalog r2 2+0 100 % | web r2 2+0 100 %
        42 release #2 ended: promoted
    "#]]
    .assert_eq(&told);
}

#[test]
fn what_follows_and_is_reached_otherwise_takes_its_own_steps_after_its_callers() {
    check(
        &format!("{PAIR}\n other 1 rolling uses catalog"),
        "0 apply />web
         20 apply web:v2 catalog:v2
         60 end",
        &expect![[r#"
            0 > apply />web
            0 < release #1 is started
            0 release #1 started by ann: catalog r1, other r1, web r1
            0   catalog r1 2+0 0 % | other | web
            2   catalog r1 2+0 0 % | other r1 1+0 0 % | web r1 2+0 0 %
            5 shifting catalog to r1: step 1 of 1
            5 catalog: 100 % of the traffic goes to r1
            5   catalog r1 2+0 100 % | other r1 1+0 0 % | web r1 2+0 0 %
            6 shifting other to r1: step 1 of 1
            6 other: 100 % of the traffic goes to r1
            6   catalog r1 2+0 100 % | other r1 1+0 100 % | web r1 2+0 0 %
            7 shifting web to r1: step 1 of 1
            7 web: 100 % of the traffic goes to r1
            7   catalog r1 2+0 100 % | other r1 1+0 100 % | web r1 2+0 100 %
            8 promoted
            9 nothing was replaced, so nothing is stopped
            9 release #1 ended: promoted
            20 > apply web:v2 catalog:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2, catalog r1 to r2
            20   catalog r1 2+0 100 % r2 2+0 0 % | other r1 1+0 100 % | web r1 2+0 100 %
            22   catalog r1 2+0 100 % r2 2+0 0 % | other r1 1+0 100 % | web r1 2+0 100 % r2 2+0 0 %
            25 shifting web to r2: step 1 of 2
            25 web: 10 % of the traffic goes to r2
            25   catalog r1 2+0 100 % r2 2+0 0 % | other r1 1+0 100 % | web r1 2+0 90 % r2 2+0 10 %
            31 web r2 passed step 1: healthy for 5s
            31 shifting web to r2: step 2 of 2
            31 web: 100 % of the traffic goes to r2
            31   catalog r1 2+0 100 % r2 2+0 0 % | other r1 1+0 100 % | web r1 2+0 0 % r2 2+0 100 %
            32 shifting catalog to r2: step 1 of 2
            32 catalog: 10 % of the traffic goes to r2
            32   catalog r1 2+0 90 % r2 2+0 10 % | other r1 1+0 100 % | web r1 2+0 0 % r2 2+0 100 %
            38 catalog r2 passed step 1: healthy for 5s
            38 shifting catalog to r2: step 2 of 2
            38 catalog: 100 % of the traffic goes to r2
            38   catalog r1 2+0 0 % r2 2+0 100 % | other r1 1+0 100 % | web r1 2+0 0 % r2 2+0 100 %
            39 promoted; what it replaced is kept for 10s
            49 the old revisions are stopped now
            49   catalog r1 0+2 0 % r2 2+0 100 % | other r1 1+0 100 % | web r1 0+2 0 % r2 2+0 100 %
            50   catalog r2 2+0 100 % | other r1 1+0 100 % | web r2 2+0 100 %
            51 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn the_way_back_keeps_what_new_callers_need_until_they_are_gone() {
    let told = told(
        PAIR,
        "0 apply />web
         20 apply web:v2 catalog:v2
         26 abort
         40 end",
    );
    expect![[r#"
        1 catalog.web.r1>split
        21 catalog.web.r1>r1 catalog.web.r2>r2
        28 catalog.web.r1>split
        0 > apply />web
        0 < release #1 is started
        0 release #1 started by ann: catalog r1, web r1
        0   catalog r1 2+0 0 % | web
        2   catalog r1 2+0 0 % | web r1 2+0 0 %
        5 shifting catalog to r1: step 1 of 1
        5 catalog: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 0 %
        5 shifting web to r1: step 1 of 1
        5 web: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 100 %
        6 promoted
        6 nothing was replaced, so nothing is stopped
        6 release #1 ended: promoted
        20 > apply web:v2 catalog:v2
        20 < release #2 is started
        20 release #2 started by ann: web r1 to r2, catalog r1 to r2
        20   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 %
        22   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 % r2 2+0 0 %
        25 shifting web to r2: step 1 of 2
        25 web: 10 % of the traffic goes to r2
        25   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 90 % r2 2+0 10 %
        26 > abort
        26 < release #2 is taken back
        26 release #2 turns back: aborted by ann
        26   catalog r1 2+0 100 % r2 2+0 0 % | web r1 2+0 100 % r2 0+2 0 %
        26   catalog r1 2+0 100 % r2 0+2 0 % | web r1 2+0 100 %
        27   catalog r1 2+0 100 % | web r1 2+0 100 %
        27 release #2 ended: aborted, aborted by ann
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_release_of_one_of_them_alone_moves_as_ever() {
    let told = told(
        PAIR,
        "0 apply />web
         20 apply web:v2
         50 apply catalog:v2
         90 end",
    );
    expect![[r#"
        1 catalog.web.r1>split
        21 catalog.web.r1>split catalog.web.r2>split
        39 catalog.web.r2>split
        0 > apply />web
        0 < release #1 is started
        0 release #1 started by ann: catalog r1, web r1
        0   catalog r1 2+0 0 % | web
        2   catalog r1 2+0 0 % | web r1 2+0 0 %
        5 shifting catalog to r1: step 1 of 1
        5 catalog: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 0 %
        5 shifting web to r1: step 1 of 1
        5 web: 100 % of the traffic goes to r1
        5   catalog r1 2+0 100 % | web r1 2+0 100 %
        6 promoted
        6 nothing was replaced, so nothing is stopped
        6 release #1 ended: promoted
        20 > apply web:v2
        20 < release #2 is started
        20 release #2 started by ann: web r1 to r2
        20   catalog r1 2+0 100 % | web r1 2+0 100 % r2 2+0 0 %
        23 shifting web to r2: step 1 of 2
        23 web: 10 % of the traffic goes to r2
        23   catalog r1 2+0 100 % | web r1 2+0 90 % r2 2+0 10 %
        28 web r2 passed step 1: healthy for 5s
        28 shifting web to r2: step 2 of 2
        28 web: 100 % of the traffic goes to r2
        28   catalog r1 2+0 100 % | web r1 2+0 0 % r2 2+0 100 %
        28 promoted; what it replaced is kept for 10s
        38 the old revisions are stopped now
        38   catalog r1 2+0 100 % | web r1 0+2 0 % r2 2+0 100 %
        38   catalog r1 2+0 100 % | web r2 2+0 100 %
        39 release #2 ended: promoted
        50 > apply catalog:v2
        50 < release #3 is started
        50 release #3 started by ann: catalog r1 to r2
        50   catalog r1 2+0 100 % r2 2+0 0 % | web r2 2+0 100 %
        53 shifting catalog to r2: step 1 of 2
        53 catalog: 10 % of the traffic goes to r2
        53   catalog r1 2+0 90 % r2 2+0 10 % | web r2 2+0 100 %
        58 catalog r2 passed step 1: healthy for 5s
        58 shifting catalog to r2: step 2 of 2
        58 catalog: 100 % of the traffic goes to r2
        58   catalog r1 2+0 0 % r2 2+0 100 % | web r2 2+0 100 %
        58 promoted; what it replaced is kept for 10s
        68 the old revisions are stopped now
        68   catalog r1 0+2 0 % r2 2+0 100 % | web r2 2+0 100 %
        68   catalog r2 2+0 100 % | web r2 2+0 100 %
        69 release #3 ended: promoted
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_door_that_cannot_be_opened_gets_another_port() {
    let mut story = play(PAIR, "0 apply />web\n20 end");
    let door = |story: &Story| {
        let kept = story.state.services[&"web".parse::<ServiceName>().unwrap()].revisions.values();
        kept.last().unwrap().doors.values().next().unwrap().port
    };
    let before = door(&story);
    story.refuses = Some("svc-catalog.web.r1".to_owned());
    story.run_until(25);
    story.settle();
    assert_ne!(door(&story), before);
    assert!(story.lines.contains("web r1 to catalog"), "{}", story.lines);
}

#[test]
fn an_instance_is_told_of_its_own_door() {
    let story = play(PAIR, "0 apply />web\n20 apply web:v2 catalog:v2\n24 end");
    let urls: Vec<String> = story
        .state
        .wants(Epoch(1))
        .into_iter()
        .filter_map(|want| match want {
            Want::Pool(pool) => pool.surroundings.get("CATALOG_URL").cloned(),
            Want::Listeners(_) | Want::Table(_) | Want::Checks(_) | Want::Schemas(_) => None,
        })
        .collect();
    let listeners = story.state.listeners();
    let expected: Vec<String> = ["svc-catalog.web.r1", "svc-catalog.web.r2"]
        .iter()
        .map(|name| format!("http://{}", listeners[*name]))
        .collect();
    assert_eq!(urls, expected);
}
