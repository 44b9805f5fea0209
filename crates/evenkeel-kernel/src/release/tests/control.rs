//! When nothing new is released, who lets a step pass, and how fast it all goes.
//!
//! The story's second 0 is a Friday, 15:58 by the clocks of zone `Z`; a freeze is written
//! `freeze:NAME,Fri_16:00,Fri_16:02[,holds]`.

use expect_test::expect;

use super::*;
use crate::calendar::{Calendar, Moment, Offsets, Window};
use crate::model::{Freeze, Pace};

/// Friday, November 27, 2026, 15:58 UTC.
const FRIDAY: i64 = 1_795_795_080;

impl Story {
    pub(super) fn calendar(&self) -> Observed<Calendar> {
        let Some(hours) = self.zone else { return Observed::Unknown("no clock".to_owned()) };
        let utc = FRIDAY + i64::try_from(self.second).unwrap();
        let zones = BTreeMap::from([("Z".to_owned(), Ok(Offsets::fixed(hours * 3_600)))]);
        Observed::Known(Calendar { utc, zones }, self.now())
    }
}

/// Edits what there is to control in the file: `freeze:…`, `-freeze:NAME`, `between:60`, `starts:2`.
pub(super) fn edit(file: &mut Stack, change: &str) -> bool {
    if let Some(name) = change.strip_prefix("-freeze:") {
        file.freezes.remove(&name.parse().unwrap());
    } else if let Some(freeze) = change.strip_prefix("freeze:") {
        let parts: Vec<String> = freeze.split(',').map(|part| part.replace('_', " ")).collect();
        let (from, to) = (Moment::from(&parts[1]).unwrap(), Moment::to(&parts[2]).unwrap());
        let freeze = Freeze {
            window: Window::between(from, to).unwrap(),
            zone: "Z".to_owned(),
            reason: Some("nobody is there".to_owned()),
            holds: parts.get(3).is_some_and(|it| it == "holds"),
        };
        file.freezes.insert(parts[0].parse().unwrap(), freeze);
    } else if let Some(seconds) = change.strip_prefix("between:") {
        let between = Some(Duration::from_secs(seconds.parse().unwrap()));
        file.pace = Pace { between, ..file.pace };
    } else if let Some(starts) = change.strip_prefix("starts:") {
        file.pace = Pace { starts: Some(starts.parse().unwrap()), ..file.pace };
    } else {
        return false;
    }
    true
}

/// Plays a script, and compares only what people asked, what they were told, and the notes of these
/// words.
pub(super) fn check(services: &str, script: &str, words: &[&str], expected: &Expect) {
    let story = play(services, script);
    let told = |line: &&str| {
        let line = line.split_once(' ').map_or("", |(_, text)| text);
        line.starts_with(['>', '<', '?']) || words.iter().any(|word| line.contains(word))
    };
    let lines: Vec<&str> = story.lines.lines().filter(told).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_freeze_lets_nothing_new_pass_but_hotfixes_and_ways_back() {
    check(
        "web 2 blue-green bake 5",
        "0 apply freeze:weekend,Fri_16:00,Mon_08:00
         20 apply web:v2
         119 why
         120 apply web:v3
         121 why
         122 restart web
         123 scale web 3
         124 rollback
         150 apply web:v4 --hotfix
         151 why
         260 end",
        &["started by", "HOTFIX", "ended"],
        &expect![[r#"
            0 > apply freeze:weekend,Fri_16:00,Mon_08:00
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            31 release #2 ended: promoted
            120 > apply web:v3
            120 < refused: nothing new is released until Mon 2026-11-30 08:00 (Z): freeze weekend: nobody is there
            121 ? nothing new is released until Mon 2026-11-30 08:00 (Z): freeze weekend: nobody is there
            122 > restart web
            122 < refused: nothing new is released until Mon 2026-11-30 08:00 (Z): freeze weekend: nobody is there
            123 > scale web 3
            123 < web scales from 2 to 3 instances, by ann
            124 > rollback
            124 < release #3 is started
            124 release #3 started by ann: web r2 to r1
            135 release #3 ended: promoted
            150 > apply web:v4 --hotfix
            150 < release #4 is started
            150 release #4 started by ann: web r1 to r3
            150 release #4 is a HOTFIX by ann: it burns
            151 ? nothing new is released until Mon 2026-11-30 08:00 (Z): freeze weekend: nobody is there
            151 ? web r3: 0 of 2 instances ready (web.r3.1: it runs, but its health check does not pass)
            222 release #4 ended: promoted
        "#]],
    );
}

#[test]
fn a_change_does_not_lift_or_edit_the_freeze_it_comes_in() {
    check(
        "web 2 blue-green bake 5",
        "0 apply freeze:sale,Fri_15:59,Fri_16:01
         100 apply web:v2 -freeze:sale
         101 apply web:v2 --force
         102 apply web:v1
         103 apply web:v1 freeze:sale,Fri_15:59,Fri_16:30 freeze:other,Sat,Sun
         179 why
         180 apply
         190 why
         200 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply freeze:sale,Fri_15:59,Fri_16:01
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            100 > apply web:v2 -freeze:sale
            100 < refused: nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            101 > apply web:v2 --force
            101 < refused: nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            102 > apply web:v1
            102 < refused: nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            103 > apply web:v1 freeze:sale,Fri_15:59,Fri_16:30 freeze:other,Sat,Sun
            103 < refused: nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            179 ? nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            180 > apply
            180 < release #2 is started
            180 release #2 started by ann: no new revision
            180 release #2 ended: promoted
            190 ? nothing new is released until Fri 2026-11-27 16:30 (Z): freeze sale: nobody is there
        "#]],
    );
}

#[test]
fn a_freeze_of_the_wanted_file_counts_unless_it_is_all_that_changes() {
    check(
        "web 2 blue-green bake 5",
        "0 apply
         20 apply web:v2 freeze:now,Fri_15:00,Fri_17:00
         21 apply web:v1
         30 apply web:v2
         31 why
         40 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 > apply web:v2 freeze:now,Fri_15:00,Fri_17:00
            20 < refused: nothing new is released until Fri 2026-11-27 17:00 (Z): freeze now: nobody is there
            21 > apply web:v1
            21 < release #2 is started
            21 release #2 started by ann: no new revision
            21 release #2 ended: promoted
            30 > apply web:v2
            30 < refused: nothing new is released until Fri 2026-11-27 17:00 (Z): freeze now: nobody is there
            31 ? nothing new is released until Fri 2026-11-27 17:00 (Z): freeze now: nobody is there
        "#]],
    );
}

#[test]
fn a_stack_that_is_released_for_the_first_time_has_nothing_to_protect() {
    check(
        "web 1 blue-green bake 5",
        "0 apply freeze:now,Fri_15:00,Fri_17:00,holds
         20 why
         21 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply freeze:now,Fri_15:00,Fri_17:00,holds
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 ? nothing new is released until Fri 2026-11-27 17:00 (Z): freeze now: nobody is there
        "#]],
    );
}

#[test]
fn a_freeze_that_nobody_can_evaluate_counts_as_on() {
    check(
        "web 2 blue-green bake 5",
        "0 apply freeze:night,Sat_22:00,Sun_06:00
         20 no clocks
         21 apply web:v2
         22 why
         23 apply --hotfix
         60 zone 0
         61 apply web:v3
         62 end",
        &["started by", "ended"],
        &expect![[r#"
            0 > apply freeze:night,Sat_22:00,Sun_06:00
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            21 > apply web:v2
            21 < refused: nothing new is released: freeze night counts as on, because it cannot be evaluated: no clock
            22 ? nothing new is released: freeze night counts as on, because it cannot be evaluated: no clock
            23 > apply --hotfix
            23 < release #2 is started
            23 release #2 started by ann: web r1 to r2
            61 > apply web:v3
            61 < release #3 is accepted: release #2 is under way; it is taken back first (superseded)
        "#]],
    );
}

#[test]
fn the_zone_says_when_a_freeze_is_on() {
    check(
        "web 2 blue-green bake 5",
        "0 apply freeze:evening,Fri_18:00,Fri_20:00
         20 apply web:v2
         40 zone 3
         41 apply web:v3
         42 end",
        &[],
        &expect![[r#"
            0 > apply freeze:evening,Fri_18:00,Fri_20:00
            0 < release #1 is started
            20 > apply web:v2
            20 < release #2 is started
            41 > apply web:v3
            41 < refused: nothing new is released until Fri 2026-11-27 20:00 (Z): freeze evening: nobody is there
        "#]],
    );
}

#[test]
fn a_release_that_was_started_before_goes_on_to_its_end() {
    check(
        "web 4 canary 25,50 bake 5",
        "0 apply freeze:weekend,Fri_16:00,Mon_08:00
         115 apply web:v2
         180 end",
        &["release", "shifting", "promoted"],
        &expect![[r#"
            0 > apply freeze:weekend,Fri_16:00,Mon_08:00
            0 < release #1 is started
            0 release #1 started by ann: web r1
            3 shifting web to r1: step 1 of 1
            4 promoted
            4 release #1 ended: promoted
            115 > apply web:v2
            115 < release #2 is started
            115 release #2 started by ann: web r1 to r2
            118 shifting web to r2: step 1 of 3
            124 shifting web to r2: step 2 of 3
            130 shifting web to r2: step 3 of 3
            134 promoted; what it replaced is kept for 5s
            141 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_freeze_that_holds_stops_a_release_at_its_step_until_it_is_over() {
    check(
        "web 4 canary 25,50 bake 5",
        "0 apply freeze:sale,Fri_16:00,Fri_16:05,holds
         115 apply web:v2
         121 why
         122 resume
         123 promote
         200 promote full
         300 end
         480 end",
        &["release", "shifting", "promoted"],
        &expect![[r#"
            0 > apply freeze:sale,Fri_16:00,Fri_16:05,holds
            0 < release #1 is started
            0 release #1 started by ann: web r1
            3 shifting web to r1: step 1 of 1
            4 promoted
            4 release #1 ended: promoted
            115 > apply web:v2
            115 < release #2 is started
            115 release #2 started by ann: web r1 to r2
            118 shifting web to r2: step 1 of 3
            120 release #2 is held: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            121 ? nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            121 ? release #2 is held: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            122 > resume
            122 < refused: freeze sale holds release #2: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            123 > promote
            123 < refused: freeze sale holds release #2: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            200 > promote full
            200 < refused: freeze sale holds release #2: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            420 release #2 goes on: freeze sale is over
            425 shifting web to r2: step 2 of 3
            431 shifting web to r2: step 3 of 3
            435 promoted; what it replaced is kept for 5s
            442 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn what_a_freeze_holds_can_still_be_taken_back_and_passed_by_a_hotfix() {
    check(
        "web 4 canary 25,50 bake 5",
        "0 apply freeze:sale,Fri_16:00,Fri_16:05,holds
         115 apply web:v2
         125 abort because=sales
         140 apply web:v3
         141 apply web:v4 --hotfix
         200 end",
        &["release", "HOTFIX"],
        &expect![[r#"
            0 > apply freeze:sale,Fri_16:00,Fri_16:05,holds
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            115 > apply web:v2
            115 < release #2 is started
            115 release #2 started by ann: web r1 to r2
            120 release #2 is held: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            125 > abort because=sales
            125 < release #2 is taken back
            125 release #2 turns back: aborted by ann (sales)
            126 release #2 ended: aborted, aborted by ann (sales)
            140 > apply web:v3
            140 < refused: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            141 > apply web:v4 --hotfix
            141 < release #3 is started
            141 release #3 started by ann: web r1 to r3
            141 release #3 is a HOTFIX by ann: it burns
            166 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn a_release_that_fails_while_a_freeze_holds_it_is_taken_back() {
    check(
        "web 4 canary 25,50 bake 5",
        "0 apply freeze:sale,Fri_16:00,Fri_16:05,holds
         115 apply web:v2
         125 fails web.r2
         140 end",
        &["release"],
        &expect![[r#"
            0 > apply freeze:sale,Fri_16:00,Fri_16:05,holds
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            115 > apply web:v2
            115 < release #2 is started
            115 release #2 started by ann: web r1 to r2
            120 release #2 is held: nothing new is released until Fri 2026-11-27 16:05 (Z): freeze sale: nobody is there
            125 release #2 turns back: ten requests in a row failed on web r2
            127 release #2 ended: rolled_back, ten requests in a row failed on web r2
        "#]],
    );
}

#[test]
fn a_persons_pause_outlasts_a_freeze() {
    check(
        "web 4 canary 25,50 bake 5",
        "0 apply freeze:sale,Fri_16:00,Fri_16:01,holds
         115 apply web:v2
         125 pause because=lunch
         200 resume
         240 end",
        &["release"],
        &expect![[r#"
            0 > apply freeze:sale,Fri_16:00,Fri_16:01,holds
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            115 > apply web:v2
            115 < release #2 is started
            115 release #2 started by ann: web r1 to r2
            120 release #2 is held: nothing new is released until Fri 2026-11-27 16:01 (Z): freeze sale: nobody is there
            125 > pause because=lunch
            125 < release #2 paused by ann (lunch)
            125 release #2 paused by ann (lunch)
            200 > resume
            200 < release #2 resumed by ann
            200 release #2 resumed by ann
            222 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_gate_opens_for_those_who_may() {
    check(
        "web 2 canary 50 gated bob,eve",
        "0 apply
         20 apply web:v2 by=bob
         35 why
         36 approve by=ann
         37 approve by=bob
         38 promote by=ann
         39 promote full by=ann
         40 approve by=eve
         41 approve by=eve
         60 end",
        &["gate", "approved", "release"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            4 release #1 ended: promoted
            20 > apply web:v2 by=bob
            20 < release #2 is started
            20 release #2 started by bob: web r1 to r2
            29 web r2 waits at the gate of step 1: `evenkeel approve` by bob or eve, not by who asked for the release, lets it pass
            35 ? somebody approves that web r2 takes its next step
            36 > approve by=ann
            36 < refused: release #2 does not wait for this approval: ann may not approve it; bob or eve may
            37 > approve by=bob
            37 < refused: release #2 does not wait for this approval: bob asked for it, and somebody else must
            38 > promote by=ann
            38 < refused: step 1 of web has a gate: ann may not approve it; bob or eve may
            39 > promote full by=ann
            39 < refused: step 1 of web has a gate: ann may not approve it; bob or eve may
            40 > approve by=eve
            40 < release #2 may take its next step: approved by eve
            40 release #2 may take its next step: approved by eve
            41 > approve by=eve
            41 < refused: release #2 waits for nobody's approval
            52 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn breaking_the_glass_of_a_gate_is_loud() {
    check(
        "web 2 canary 50 gated bob,eve",
        "0 apply
         20 apply web:v2
         36 approve --force
         60 end",
        &["gate", "approved", "FORCED"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            20 > apply web:v2
            20 < release #2 is started
            29 web r2 waits at the gate of step 1: `evenkeel approve` by bob or eve, not by who asked for the release, lets it pass
            36 > approve --force
            36 < release #2 may take its next step: FORCED by ann, it burns (ann may not approve it; bob or eve may)
            36 release #2 may take its next step: FORCED by ann, it burns (ann may not approve it; bob or eve may)
        "#]],
    );
    let story = play(
        "web 2 canary 50 gated bob,eve",
        "0 apply
         20 apply web:v2
         36 approve --force
         60 end",
    );
    let past = story.state.past.last().unwrap();
    assert_eq!(past.approvals.len(), 1);
    assert_eq!(past.approvals[0].by, "ann");
    assert_eq!(past.approvals[0].forced.as_deref(), Some("it burns"));
    assert_eq!(past.approvals[0].at, Timestamp(36_000));
}

#[test]
fn whoever_may_open_a_gate_may_promote_past_it_and_is_remembered() {
    let story = play(
        "web 2 canary 50 gated bob,eve",
        "0 apply
         20 apply web:v2
         25 promote by=eve
         60 end",
    );
    let past = story.state.past.last().unwrap();
    let by: Vec<&str> = past.approvals.iter().map(|it| it.by.as_str()).collect();
    assert_eq!((by, past.outcome), (vec!["eve"], Outcome::FastPromoted), "{}", story.lines);
}

#[test]
fn two_releases_of_a_service_keep_their_distance() {
    check(
        "web 2 blue-green bake 5
         db 1 blue-green bake 5",
        "0 apply between:60
         20 apply web:v2
         61 apply
         90 apply web:v3
         91 apply web:v2 db:v2
         100 rollback
         125 apply web:v4 --hotfix
         160 apply web:v5
         200 end",
        &["started by"],
        &expect![[r#"
            0 > apply between:60
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            20 > apply web:v2
            20 < refused: web was released 20s ago, and 1m are to be between two releases of a service: there are 40s to go
            61 > apply
            61 < release #2 is started
            61 release #2 started by ann: web r1 to r2
            90 > apply web:v3
            90 < refused: web was released 29s ago, and 1m are to be between two releases of a service: there are 31s to go
            91 > apply web:v2 db:v2
            91 < release #3 is started
            91 release #3 started by ann: db r1 to r2
            100 > rollback
            100 < release #3 is taken back
            125 > apply web:v4 --hotfix
            125 < release #4 is started
            125 release #4 started by ann: db r1 to r2, web r2 to r3
            160 > apply web:v5
            160 < release #5 is accepted: release #4 is under way; it is taken back first (superseded)
            161 release #5 started by ann: db r1 to r2, web r2 to r4
        "#]],
    );
}

#[test]
fn a_release_starts_so_many_instances_at_a_time() {
    check(
        "web 6 blue-green bake 5
         db 2 blue-green bake 5",
        "0 apply starts:3
         20 apply web:v2
         40 apply web=12
         70 end",
        &["web r", "db r"],
        &expect![[r#"
            0 > apply starts:3
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            0   db r1 2+0 0 % | web r1 1+0 0 %
            2   db r1 2+0 0 % | web r1 4+0 0 %
            4   db r1 2+0 0 % | web r1 6+0 0 %
            7   db r1 2+0 100 % | web r1 6+0 0 %
            8   db r1 2+0 100 % | web r1 6+0 100 %
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   db r1 2+0 100 % | web r1 6+0 100 % r2 3+0 0 %
            22   db r1 2+0 100 % | web r1 6+0 100 % r2 6+0 0 %
            25   db r1 2+0 100 % | web r1 6+0 0 % r2 6+0 100 %
            31   db r1 2+0 100 % | web r1 0+6 0 % r2 6+0 100 %
            32   db r1 2+0 100 % | web r2 6+0 100 %
            40 > apply web=12
            40 < release #3 is started
            40   db r1 2+0 100 % | web r2 9+0 100 %
            42   db r1 2+0 100 % | web r2 12+0 100 %
        "#]],
    );
}

#[test]
fn an_instance_that_never_starts_takes_a_place_until_its_release_is_taken_back() {
    check(
        "web 4 blue-green bake 5",
        "0 apply starts:2
         20 apply web:v2
         20 never web.r2.1
         20 never web.r2.2
         80 end",
        &["web r", "release"],
        &expect![[r#"
            0 > apply starts:2
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   web r1 2+0 0 %
            2   web r1 4+0 0 %
            5   web r1 4+0 100 %
            6 release #1 ended: promoted
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
fn s11_most_of_a_service_goes_only_by_its_number() {
    check(
        "web 8 blue-green bake 5 needs 0
         db 2 blue-green bake 5",
        "0 apply
         20 apply web=2
         21 apply --destroy=5
         22 apply --destroy=6
         40 apply -web -db
         41 apply --destroy=4
         60 end",
        &["started by"],
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            20 > apply web=2
            20 < refused: 6 of 10 instances go for good: web loses 6 of its 8 instances
            21 > apply --destroy=5
            21 < refused: 6 of 10 instances go for good, and 5 were expected to
            22 > apply --destroy=6
            22 < release #2 is started
            22 release #2 started by ann: no new revision
            40 > apply -web -db
            40 < refused: 4 of 4 instances go for good: web serves traffic and is removed
            41 > apply --destroy=4
            41 < release #3 is started
            41 release #3 started by ann: no new revision
        "#]],
    );
}

#[test]
fn how_requests_compared_is_kept_after_the_end() {
    let story = play(
        "web 4 canary 50 bake 5 needs 0",
        "0 apply
         20 load web.r1 100 0
         20 load web.r2 100 500
         20 apply web:v2
         60 end",
    );
    let past = story.state.past.last().unwrap();
    assert!(!past.judged.is_empty(), "{}", story.lines);
    let (_, judged) = past.judged.first_key_value().unwrap();
    let errors = judged.iter().find(|it| it.track == crate::analysis::Track::Errors).unwrap();
    assert!(errors.canary.bad > 0 && errors.stable.requests > 0, "{errors:?}");
    assert!(errors.evidence >= 1_000, "{errors:?}");
}

#[test]
fn a_plan_tells_freezes_and_the_pace_with_their_keys() {
    let mut story = Story::new("web 1 blue-green");
    let fields = |story: &Story| {
        let (wanted, world) = (story.file.clone(), story.world());
        let Prospect::Release { plan, .. } =
            story.state.prospect(&wanted, false, &world, story.now())
        else {
            return "nothing".to_owned();
        };
        let changes = plan.changes.iter().filter(|it| !it.component.starts_with("service"));
        let told = changes.map(|change| {
            let fields = change.fields.iter().map(|it| {
                let value = |value: &Option<String>| value.clone().unwrap_or_default();
                format!("{}: {} > {}", it.field, value(&it.from), value(&it.to))
            });
            let fields: Vec<String> = fields.collect();
            format!("{} {} ({})", change.action, change.component, fields.join("; "))
        });
        told.filter(|it| !it.contains(" edge ")).collect::<Vec<_>>().join("\n")
    };
    edit(&mut story.file, "freeze:sale,Fri_16:00,Mon_08:00,holds");
    edit(&mut story.file, "starts:3");
    let first = fields(&story);
    story.asks("apply", &["apply"]);
    story.run_until(10);
    edit(&mut story.file, "freeze:sale,2026-12-20,2027-01-04");
    edit(&mut story.file, "between:60");
    let second = fields(&story);
    story.file.freezes.clear();
    story.file.pace = Pace::default();
    let last = fields(&story);
    expect![[r#"
        create freeze.sale (holds:  > true; reason:  > nobody is there; window:  > Fri 16:00 to Mon 08:00; zone:  > Z)
        create pace (starts:  > 3)
        --
        change freeze.sale (holds: true > false; window: Fri 16:00 to Mon 08:00 > 2026-12-20 00:00 to 2027-01-05 00:00)
        change pace (between:  > 1m)
        --
        remove freeze.sale (holds: true > ; reason: nobody is there > ; window: Fri 16:00 to Mon 08:00 > ; zone: Z > )
        remove pace (starts: 3 > )"#]].assert_eq(&[first, second, last].join("\n--\n"));
}
