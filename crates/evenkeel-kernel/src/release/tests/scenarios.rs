//! The failure scenarios of `docs/scenarios.md` that are about deciding, each by its number.

use expect_test::expect;

use super::*;

/// A canary of four instances, watched for a while at half of the traffic.
const CANARY: &str = "web 4 canary 50 bake 20";

impl Story {
    /// Lets seconds pass until `second`; the world is changed by `so` before each look at it.
    fn lives_until(&mut self, second: u64, so: impl Fn(&mut Self, &mut World)) {
        while self.second < second {
            self.second += 1;
            self.looks(&so);
        }
    }

    /// Decides until nothing changes, and does what is wanted then.
    fn looks(&mut self, so: impl Fn(&mut Self, &mut World)) {
        loop {
            let mut world = self.world();
            so(self, &mut world);
            match self.state.decide(&world, self.now()) {
                Some(decision) => self.take(decision),
                None => return self.obey(),
            }
        }
    }

    /// Whoever is there, with what traffic, and how far the release is.
    fn places(&self) -> String {
        let phase = self.state.release.as_ref().map(|it| (&it.phase, it.bake.healthy));
        let services = self.state.services.values();
        let slots = services.map(|it| {
            let kept = it.revisions.iter();
            let slots = kept.map(|(number, kept)| (number, kept.slots.clone()));
            (it.split.clone(), it.stable, slots.collect::<Vec<_>>())
        });
        format!("{phase:?} {:?}", slots.collect::<Vec<_>>())
    }

    fn phase(&self) -> &'static str {
        self.state.release.as_ref().map_or("none", |release| release.phase.name())
    }

    fn weight(&self, service: &str, revision: u32) -> Weight {
        let service: ServiceName = service.parse().unwrap();
        self.state.services[&service].weight(crate::model::RevisionNumber(revision))
    }

    /// How the newest release ended.
    fn outcome(&self) -> Outcome {
        self.state.past.last().unwrap().outcome
    }

    /// Runs until no release is under way.
    fn run_out(&mut self) {
        let most = self.second + 200;
        while self.state.release.is_some() || self.state.queued.is_some() {
            assert!(self.second < most, "it never ends:\n{}", self.lines);
            self.run_until(self.second + 1);
        }
    }
}

/// The canary at the moments of interest: what it was told, the second, and its phase then.
const MOMENTS: [(&str, u64, &str); 6] = [
    ("", 21, "expanding"),
    ("", 26, "shifting"),
    ("", 29, "shifting"),
    ("", 40, "baking"),
    ("", 54, "contracting"),
    ("28 abort", 28, "turning back"),
];

fn at(script: &str, second: u64, phase: &str) -> Story {
    let mut story = play(CANARY, &format!("0 apply\n20 apply web:v2\n{script}\n{second} end"));
    if story.phase() != phase {
        story.settle();
    }
    // Contracting lasts for a second here: it is entered, and nothing has been done for it yet.
    for _ in 0..3 {
        if story.phase() == phase {
            return story;
        }
        story.second += 1;
        while let Some(decision) = story.state.decide(&story.world(), story.now()) {
            story.take(decision);
            if story.phase() == phase {
                return story;
            }
        }
        story.obey();
    }
    panic!("it is {} at {}, not {phase}:\n{}", story.phase(), story.second, story.lines);
}

#[test]
fn s04_what_one_room_cannot_say_for_ten_minutes_changes_nothing() {
    let hide: [(&str, fn(&mut World)); 2] = [
        ("platform", |world| world.platform = World::unknown().platform),
        ("edge", |world| {
            world.edge = World::unknown().edge;
        }),
    ];
    for (room, hide) in hide {
        for (script, second, phase) in MOMENTS {
            let mut story = at(script, second, phase);
            let (before, running) = (story.places(), story.running.clone());
            story.lives_until(story.second + 600, |_, world| hide(world));
            assert_eq!(story.places(), before, "{phase} without the {room}:\n{}", story.lines);
            let left: Vec<_> =
                running.keys().filter(|id| !story.running.contains_key(id)).collect();
            assert!(left.is_empty(), "{phase} without the {room}: {left:?} went");
            story.run_out();
            let expected = if script.is_empty() { Outcome::Promoted } else { Outcome::Aborted };
            assert_eq!(story.outcome(), expected, "{phase} without the {room}:\n{}", story.lines);
        }
    }
}

#[test]
fn s07_one_of_eight_that_does_not_come_up_keeps_the_old_in_place() {
    let mut story = play(
        "web 8 blue-green",
        "0 apply
         20 never web.r2.8
         20 apply web:v2
         49 end",
    );
    assert_eq!(story.phase(), "expanding");
    assert_eq!(story.weight("web", 1), Weight::ALL);
    story.run_out();
    assert_eq!(story.outcome(), Outcome::RolledBack);
    assert_eq!(story.weight("web", 1), Weight::ALL);
}

#[test]
fn s07_one_of_eight_that_falls_behind_holds_up_the_point_of_no_return() {
    check(
        "web 8 blue-green bake 10",
        "0 apply
         20 apply web:v2
         28 sick web.r2.8
         60 why
         61 well web.r2.8
         70 end",
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
            20   web r1 8+0 100 % r2 8+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   web r1 8+0 0 % r2 8+0 100 %
            24 promoted; what it replaced is kept for 10s
            60 ? web r2: 7 of 8 instances ready (web.r2.8: it runs, but its health check does not pass)
            61 the old revisions are stopped now
            61   web r1 0+8 0 % r2 8+0 100 %
            61   web r2 8+0 100 %
            62 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn s10_checks_that_fail_for_old_and_new_alike_hold_the_release_and_stop_nobody() {
    check(
        CANARY,
        "0 apply
         20 apply web:v2
         26 sick web.r1
         26 sick web.r2
         300 why
         301 well web.r1
         301 well web.r2
         310 resume
         360 end",
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
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 4+0 50 % r2 2+0 50 %
            26 held because most instances of web run and fail their health checks, the old as the new: that says nothing about the new revision
            300 ? release #2 is held: most instances of web run and fail their health checks, the old as the new: that says nothing about the new revision
            300 ? web.r1.1 is unhealthy and gets no requests (it runs, but its health check does not pass)
            300 ? web.r1.2 is unhealthy and gets no requests (it runs, but its health check does not pass)
            300 ? web.r1.3 is unhealthy and gets no requests (it runs, but its health check does not pass)
            300 ? web.r1.4 is unhealthy and gets no requests (it runs, but its health check does not pass)
            310 > resume
            310 < release #2 resumed by ann
            310 release #2 resumed by ann
            314 web r2 passed step 1: healthy for 5s
            314 shifting web to r2: step 2 of 2
            314   web r1 4+0 50 % r2 4+0 50 %
            317 web: 100 % of the traffic goes to r2
            317   web r1 4+0 0 % r2 4+0 100 %
            318 promoted; what it replaced is kept for 20s
            338 the old revisions are stopped now
            338   web r1 0+4 0 % r2 4+0 100 %
            339   web r2 4+0 100 %
            340 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn s13_an_hour_without_control_ripens_nothing_and_harms_nothing() {
    for (script, second, phase) in MOMENTS {
        let mut story = at(script, second, phase);
        let before = story.places();
        story.second += 3_600;
        // Each instance has died meanwhile, and its shim has started another.
        let back = story.second - 60;
        story.running.values_mut().for_each(|started| started.0 = back);
        story.state = story.state.resumed(story.now());
        assert_eq!(story.places(), before);
        story.looks(|_, _| {});
        let healthy = |story: &Story| story.state.release.as_ref().map(|it| it.bake.healthy);
        assert!(healthy(&story).is_none_or(|it| it <= Duration::from_secs(20)), "{phase}");
        assert_ne!((phase, story.phase()), ("baking", "contracting"), "its bake was over at once");
        story.run_out();
        let expected = if script.is_empty() { Outcome::Promoted } else { Outcome::Aborted };
        assert_eq!(story.outcome(), expected, "{phase}:\n{}", story.lines);
    }
}

/// A story to the moment after so many decisions since its second release began.
fn after_decisions(services: &str, decisions: usize) -> Option<Story> {
    let mut story = play(services, "0 apply\n20 apply web:v2\n20 end");
    for _ in 0..decisions {
        loop {
            let Some(decision) = story.state.decide(&story.world(), story.now()) else {
                story.state.release.as_ref()?;
                story.obey();
                story.second += 1;
                continue;
            };
            story.take(decision);
            break;
        }
    }
    Some(story)
}

#[test]
fn s14_a_way_back_is_taken_after_every_decision_or_refused_for_good() {
    let mut phases = BTreeMap::new();
    for services in ["web 4 canary 25,50 bake 4", "web 4 blue-green bake 4", "web 3 rolling bake 4"]
    {
        for decisions in 0.. {
            let Some(mut story) = after_decisions(services, decisions) else { break };
            let phase = story.phase();
            *phases.entry(phase).or_insert(0) += 1;
            let context = format!("{services}, {phase} after {decisions} decisions");
            let back = Action::Rollback { to: None, force: true, reason: None };
            let answer = story.state.act(back, "ann", &story.world(), story.now());
            let passed = phase == "contracting" || phase == "none";
            match answer {
                Ok(accepted) => {
                    if let Some(decision) = accepted.decision {
                        story.take(decision);
                    }
                }
                Err(refusal) => panic!("{context}: {refusal}"),
            }
            // Asked once more on its way back: there is nothing more to do.
            if !passed {
                assert_eq!(story.phase(), "turning back", "{context}");
                let again = Action::Rollback { to: None, force: true, reason: None };
                let again = story.state.act(again, "bob", &story.world(), story.now()).unwrap();
                assert!(again.text.contains("turning back already"), "{context}: {}", again.text);
            }
            story.run_out();
            // What was passed is not undone: it is another release, to what was before.
            let releases = if passed { 3 } else { 2 };
            assert_eq!(story.state.past.last().unwrap().id.0, releases, "{context}");
            assert_eq!(story.weight("web", 1), Weight::ALL, "{context}:\n{}", story.lines);
            let strangers = story.running.keys().filter(|id| id.pool.revision.0 != 1);
            assert_eq!(strangers.count(), 0, "{context}:\n{}", story.lines);
        }
    }
    let seen: Vec<_> = phases.keys().copied().collect();
    assert_eq!(seen, ["baking", "contracting", "expanding", "none", "shifting"], "{phases:?}");
}

#[test]
fn s16_a_straggler_of_the_old_revision_keeps_contract_open() {
    let mut story = at("", 54, "contracting");
    let straggler: InstanceId = "web.r1.2".parse().unwrap();
    let stays = story.running[&straggler];
    let keep = |story: &mut Story, world: &mut World| {
        story.running.insert(straggler.clone(), stays);
        *world = story.world();
    };
    story.lives_until(story.second + 300, keep);
    assert_eq!(story.phase(), "contracting");
    let old = crate::model::RevisionNumber(1);
    let web: ServiceName = "web".parse().unwrap();
    assert!(story.state.services[&web].revisions.contains_key(&old), "it is wanted empty");
    let refusal = story
        .state
        .act(Action::Abort { reason: None }, "ann", &story.world(), story.now())
        .unwrap_err();
    assert_eq!(refusal.reason, "release #2 has passed its point of no return");
    let mut waits = story.state.waits(&story.world(), story.now()).into_iter();
    assert!(waits.any(|it| it.what.contains("drain and end")), "nobody is told of it");
    story.run_out();
    assert_eq!(story.outcome(), Outcome::Promoted);
}

/// A machine that slept, or a control that was stopped: the shell tells the kernel that nobody
/// watched, and no clock of the release has gone on.
#[test]
fn s23_a_day_that_nobody_watched_ripens_nothing_and_is_no_lack_of_progress() {
    for (script, second, phase) in MOMENTS {
        let mut story = at(script, second, phase);
        let healthy = |story: &Story| story.state.release.as_ref().map(|it| it.bake.healthy);
        let before = healthy(&story);
        story.second += 86_400;
        story.state = story.state.resumed(story.now());
        if let Some(decision) = story.state.decide(&story.world(), story.now()) {
            story.take(decision);
        }
        if ["shifting", "baking"].contains(&phase) {
            assert_eq!((story.phase(), healthy(&story)), (phase, before), "{}", story.lines);
        }
        story.run_out();
        let expected = if script.is_empty() { Outcome::Promoted } else { Outcome::Aborted };
        assert_eq!(story.outcome(), expected, "{phase}:\n{}", story.lines);
    }
}

/// Should nobody tell it, a bake still takes no leap.
#[test]
fn s23_a_leap_of_the_clock_is_five_seconds_of_a_bake_at_most() {
    let mut story = at("", 40, "baking");
    let healthy = |story: &Story| story.state.release.as_ref().unwrap().bake.healthy;
    let before = healthy(&story);
    story.second += 50;
    let decision = story.state.decide(&story.world(), story.now());
    story.take(decision.unwrap());
    assert_eq!(story.phase(), "baking");
    assert_eq!(healthy(&story), before + Duration::from_secs(5));
}

#[test]
fn s27_what_a_lost_release_left_behind_is_not_taken_for_what_comes() {
    let story = play("web 2 blue-green", "0 apply\n20 end");
    let lost: InstanceId = "web.r2.1".parse().unwrap();
    let mut story = Story { state: story.state.beside([lost.clone()]), ..story };
    assert!(!story.state.knows(&lost.pool));
    story.happens("apply web:v2");
    let rollout = &story.state.release.as_ref().unwrap().rollouts[&lost.pool.service];
    assert_eq!(rollout.to.to_string(), "r3");
}

#[test]
fn s31_a_hotfix_takes_the_canary_back_and_its_place() {
    check(
        "web 20 canary 10,50 needs 100 bake 20",
        "0 apply
         20 apply web:v2
         26 apply web:v3 --hotfix
         90 end",
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
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   web r1 20+0 100 % r2 2+0 0 %
            23 shifting web to r2: step 1 of 3
            23 web: 10 % of the traffic goes to r2
            23   web r1 20+0 90 % r2 2+0 10 %
            26 > apply web:v3 --hotfix
            26 < release #3 is accepted: release #2 is under way; it is taken back first (superseded)
            26 release #3 by ann waits for release #2
            26 release #2 turns back: superseded by release #3
            26   web r1 20+0 100 % r2 0+2 0 %
            26   web r1 20+0 100 %
            27 release #2 ended: superseded, superseded by release #3
            27 release #3 started by ann: web r1 to r3
            27 release #3 is a HOTFIX by ann: it burns
            27   web r1 20+0 100 % r3 2+0 0 %
            30 shifting web to r3: step 1 of 2
            30 web: 10 % of the traffic goes to r3
            30   web r1 20+0 90 % r3 2+0 10 %
            41 web r3 passed step 1: healthy for 10s
            41 shifting web to r3: step 2 of 2
            41   web r1 20+0 90 % r3 20+0 10 %
            44 web: 100 % of the traffic goes to r3
            44   web r1 20+0 0 % r3 20+0 100 %
            45 promoted; what it replaced is kept for 20s
            65 the old revisions are stopped now
            65   web r1 0+20 0 % r3 20+0 100 %
            66   web r3 20+0 100 %
            67 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn s32_what_follows_an_abort_is_released_like_anything_else() {
    check(
        CANARY,
        "0 apply
         20 apply web:v2
         26 abort
         40 apply web:v3
         90 end",
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
            23 shifting web to r2: step 1 of 2
            23 web: 50 % of the traffic goes to r2
            23   web r1 4+0 50 % r2 2+0 50 %
            26 > abort
            26 < release #2 is taken back
            26 release #2 turns back: aborted by ann
            26   web r1 4+0 100 % r2 0+2 0 %
            26   web r1 4+0 100 %
            27 release #2 ended: aborted, aborted by ann
            40 > apply web:v3
            40 < release #3 is started
            40 release #3 started by ann: web r1 to r3
            40   web r1 4+0 100 % r3 2+0 0 %
            43 shifting web to r3: step 1 of 2
            43 web: 50 % of the traffic goes to r3
            43   web r1 4+0 50 % r3 2+0 50 %
            49 web r3 passed step 1: healthy for 5s
            49 shifting web to r3: step 2 of 2
            49   web r1 4+0 50 % r3 4+0 50 %
            52 web: 100 % of the traffic goes to r3
            52   web r1 4+0 0 % r3 4+0 100 %
            53 promoted; what it replaced is kept for 20s
            73 the old revisions are stopped now
            73   web r1 0+4 0 % r3 4+0 100 %
            74   web r3 4+0 100 %
            75 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn s33_an_instance_that_does_not_stop_delays_no_other_services_way_back() {
    let services = "api 2 blue-green\nweb 2 blue-green uses api bake 20";
    let mut story = play(services, "0 apply\n20 apply api:v2 web:v2\n30 end");
    story.settle();
    assert_eq!(story.phase(), "baking");
    let slow: InstanceId = "api.r2.1".parse().unwrap();
    let stays = story.running[&slow];
    let back = Action::Rollback { to: None, force: false, reason: None };
    let accepted = story.state.act(back, "ann", &story.world(), story.now()).unwrap();
    story.take(accepted.decision.unwrap());
    // The traffic of both is back in this decision.
    assert_eq!((story.weight("web", 1), story.weight("api", 1)), (Weight::ALL, Weight::ALL));
    story.lives_until(story.second + 5, |story, world| {
        story.running.insert(slow.clone(), stays);
        *world = story.world();
    });
    story.running.insert(slow, stays);
    let left: Vec<String> = story.running.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["api.r1.1", "api.r1.2", "api.r2.1", "web.r1.1", "web.r1.2"]);
    assert_eq!(story.phase(), "turning back");
    story.run_out();
}

#[test]
fn s39_after_a_reboot_everything_comes_back_and_is_routed_to_once_it_is_ready() {
    for (script, second, phase) in MOMENTS {
        let mut story = at(script, second, phase);
        let wanted: BTreeSet<InstanceId> = story.running.keys().cloned().collect();
        story.running.clear();
        story.incarnation += 1;
        story.edge_since = story.second;
        story.state = story.state.resumed(story.now());
        let before = (story.weight("web", 1), story.weight("web", 2));
        story.looks(|_, _| {});
        if phase == "baking" {
            assert_eq!(story.running.keys().cloned().collect::<BTreeSet<_>>(), wanted);
        }
        // While nobody is ready no traffic moves to a revision that had none of it.
        let after = (story.weight("web", 1), story.weight("web", 2));
        assert!(after.1 <= before.1 || phase == "contracting", "{phase}: {before:?} {after:?}");
        story.run_out();
        let expected = if script.is_empty() { Outcome::Promoted } else { Outcome::Aborted };
        assert_eq!(story.outcome(), expected, "{phase}:\n{}", story.lines);
    }
}
