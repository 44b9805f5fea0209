//! Gates whose webhook decides.

use expect_test::expect;

use super::*;

const KINDS: &[&str] = &["gate", "approved", "refused", "release", "?"];

/// A release to a gate that asks, whose lines are told as far as they are about it.
fn check(services: &str, script: &str, expected: &Expect) {
    let story = play(services, &format!("0 apply\n20 apply web:v2\n{script}"));
    let told = story.lines.lines().filter(|line| {
        let second: u64 = line.split_once(' ').unwrap().0.parse().unwrap();
        second > 20 && KINDS.iter().any(|kind| line.contains(kind))
    });
    expected.assert_eq(&told.map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn a_webhook_is_asked_at_the_gate_until_it_approves() {
    check(
        "web 2 canary 50 hooked gated",
        "21 says gate silence
         35 why
         36 says gate error
         37 why
         38 says gate nothing
         45 why
         47 why
         48 says gate approved CHG-7\u{7}
         60 end",
        &expect![[r#"
            29 web r2 waits at the gate of step 1: the webhook https://change.example.com/… or `evenkeel approve` lets it pass
            35 ? somebody approves that web r2 takes its next step
            37 ? somebody approves that web r2 takes its next step (nobody answers)
            45 ? somebody approves that web r2 takes its next step (nobody answers)
            47 ? somebody approves that web r2 takes its next step (nobody has decided yet: no sample)
            56 release #2 may take its next step: approved by CHG-7 by webhook (https://change.example.com/…)
        "#]],
    );
    let story = play(
        "web 2 canary 50 hooked gated",
        "0 apply
         20 apply web:v2
         21 says gate approved
         60 end",
    );
    let approvals = &story.state.past.last().unwrap().approvals;
    assert_eq!(approvals.len(), 1);
    assert_eq!((approvals[0].by.as_str(), approvals[0].forced.clone()), ("webhook", None));
    assert!(!story.lines.contains("secret"), "{}", story.lines);
}

#[test]
fn a_webhook_that_refuses_takes_the_release_back_and_the_next_try_is_asked_again() {
    check(
        "web 2 canary 50 hooked gated",
        "21 says gate refused the till is closed
         50 says gate approved
         51 apply web:v2
         90 end",
        &expect![[r#"
            29 web r2 waits at the gate of step 1: the webhook https://change.example.com/… or `evenkeel approve` lets it pass
            29 release #2 turns back: gate refused: the till is closed
            31 release #2 ended: rolled_back, gate refused: the till is closed
            51 < release #3 is started
            51 release #3 started by ann: web r1 to r2
            60 web r2 waits at the gate of step 1: the webhook https://change.example.com/… or `evenkeel approve` lets it pass
            60 release #3 may take its next step: approved by webhook (https://change.example.com/…)
            73 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn what_is_refused_without_a_way_back_is_held_and_asked_again_when_a_person_goes_on() {
    check(
        "web 2 canary 50 holds hooked gated",
        "21 says gate refused not now
         35 why
         36 says gate silence
         37 resume
         55 why
         56 says gate approved ann
         80 end",
        &expect![[r#"
            29 web r2 waits at the gate of step 1: the webhook https://change.example.com/… or `evenkeel approve` lets it pass
            29 held because gate refused: not now; auto_rollback is off
            35 ? release #2 is held: gate refused: not now
            37 < release #2 resumed by ann
            37 release #2 resumed by ann
            55 ? somebody approves that web r2 takes its next step
            56 release #2 may take its next step: approved by ann by webhook (https://change.example.com/…)
            69 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn where_the_webhook_does_not_decide_those_named_still_do() {
    check(
        "web 2 canary 50 hooked gated bob,eve",
        "21 says gate error
         35 why
         36 approve by=ann
         37 approve by=eve
         60 end",
        &expect![[r#"
            29 web r2 waits at the gate of step 1: the webhook https://change.example.com/… or `evenkeel approve` by bob or eve, not by who asked for the release, lets it pass
            35 ? somebody approves that web r2 takes its next step (nobody answers)
            36 < refused: release #2 does not wait for this approval: ann may not approve it; bob or eve may
            37 < release #2 may take its next step: approved by eve
            37 release #2 may take its next step: approved by eve
            49 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn nobody_is_asked_before_the_gate_nor_while_it_is_held() {
    let mut story = play(
        "web 2 canary 50 hooked gated",
        "0 apply
         20 apply web:v2
         21 says gate silence",
    );
    let questions = |story: &Story| {
        let asked = story.state.wanted_checks();
        asked.iter().map(|it| (it.id.to_string(), it.run)).collect::<Vec<_>>()
    };
    story.run_until(28);
    assert_eq!(questions(&story), []);
    story.run_until(30);
    let first = [("#2/web/gate 1".to_owned(), 1)];
    assert_eq!(questions(&story), first);

    // What is answered while a person holds it is as if nobody had been asked.
    story.happens("pause");
    story.happens("says gate approved");
    assert_eq!(questions(&story), []);
    story.run_until(50);
    assert!(story.state.release.as_ref().unwrap().waits_at_gate());
    story.happens("says gate silence");
    story.happens("resume");
    story.happens("resumed");
    assert_eq!(questions(&story), first, "a control that starts anew asks the same question");

    // An answer to another question counts for nothing.
    let mut world = story.world();
    let id = story.state.wanted_checks().remove(0).id;
    let reading = Reading::Decided(Decided::Approved { by: None });
    world.checks.insert(id.clone(), world::Answer { run: 2, reading: reading.clone() });
    let decided = story.state.decide(&world, story.now());
    assert!(decided.is_none_or(|it| it.state.release.unwrap().waits_at_gate()));
    world.checks.insert(id, world::Answer { run: 1, reading });
    let decided = story.state.decide(&world, story.now()).unwrap();
    assert!(!decided.state.release.unwrap().waits_at_gate());
}
