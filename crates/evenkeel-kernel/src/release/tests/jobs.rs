//! Jobs: once per release, in their place, and never twice at the same time.

use expect_test::expect;

use super::*;
use crate::model::{Job, JobWhen};

/// Seconds that a job takes.
const TAKES: u64 = 3;

/// `migrate before [uses db] [follows other] [timeout 60] [retries 1] [back]`
pub(super) fn described(line: &str) -> (ServiceName, Job) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|it| *it == word)?;
        words.get(at + 1).copied()
    };
    let names = |word: &str| after(word).map(|it| it.parse().unwrap()).into_iter().collect();
    let (_, like) = super::described("any 1 rolling");
    let workload = Workload { uses: names("uses"), once: true, ..like.workload };
    let job = Job {
        workload,
        follows: names("follows"),
        when: if words[1] == "after" { JobWhen::After } else { JobWhen::Before },
        timeout: Duration::from_secs(after("timeout").map_or(600, |it| it.parse().unwrap())),
        retries: after("retries").map_or(0, |it| it.parse().unwrap()),
        on_rollback: words.contains(&"back"),
    };
    (words[0].parse().unwrap(), job)
}

/// What the platform says of a job that started `age` seconds ago.
pub(super) fn seen(fate: Option<Fate>, started: u64, age: u64, port: u16) -> world::Instance {
    let well = fate != Some(Fate::Crashes);
    let ended = age >= TAKES && fate != Some(Fate::Never);
    world::Instance {
        phase: match (ended, fate) {
            (true, _) => InstancePhase::Ended { well },
            (false, Some(Fate::Sick)) => InstancePhase::Lost,
            (false, _) => InstancePhase::Running,
        },
        since: Timestamp(started * 1000),
        port,
        exits: 0,
        streak: 0,
        cpu_milli: None,
        last_exit: ended.then(|| format!("exit status {}", u32::from(!well))),
        pid: None,
        fence: Fence::default(),
    }
}

#[test]
fn a_job_is_done_before_anything_new_starts() {
    check(
        "web 1 blue-green bake 2
         job migrate before",
        "0 apply
         20 apply web:v2
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 is done, after 3s
            3   migrate r1 0+1 0 % | web r1 1+0 0 %
            4   migrate | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   migrate | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 job migrate r1 runs, before anything new starts
            20   migrate r1 1+0 0 % | web r1 1+0 100 %
            23 job migrate r1 is done, after 3s
            23   migrate r1 0+1 0 % | web r1 1+0 100 % r2 1+0 0 %
            24   migrate | web r1 1+0 100 % r2 1+0 0 %
            26 shifting web to r2: step 1 of 1
            26 web: 100 % of the traffic goes to r2
            26   migrate | web r1 1+0 0 % r2 1+0 100 %
            27 promoted; what it replaced is kept for 2s
            29 the old revisions are stopped now
            29   migrate | web r1 0+1 0 % r2 1+0 100 %
            30   migrate | web r2 1+0 100 %
            31 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_runs_when_all_traffic_has_moved_and_contract_waits_for_it() {
    check(
        "web 1 blue-green bake 0
         job warm after",
        "0 apply
         20 apply web:v2
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   warm | web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   warm | web r1 1+0 100 %
            4 promoted
            4 job warm r1 runs, now that all traffic has moved
            4   warm r1 1+0 0 % | web r1 1+0 100 %
            7 job warm r1 is done, after 3s
            7 nothing was replaced, so nothing is stopped
            7   warm r1 0+1 0 % | web r1 1+0 100 %
            8   warm | web r1 1+0 100 %
            9 release #1 ended: promoted
            20 > apply web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   warm | web r1 1+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   warm | web r1 1+0 0 % r2 1+0 100 %
            24 promoted
            24 job warm r1 runs, now that all traffic has moved
            24   warm r1 1+0 0 % | web r1 1+0 0 % r2 1+0 100 %
            27 job warm r1 is done, after 3s
            27 the old revisions are stopped now
            27   warm r1 0+1 0 % | web r1 0+1 0 % r2 1+0 100 %
            28   warm | web r2 1+0 100 %
            29 release #2 ended: promoted
        "#]],
    );
}

#[test]
fn a_restart_runs_no_job_and_the_next_content_does() {
    check(
        "web 1 blue-green bake 0
         job warm before",
        "0 apply
         20 restart web
         40 apply web:v2
         60 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job warm r1 runs, before anything new starts
            0   warm r1 1+0 0 % | web
            3 job warm r1 is done, after 3s
            3   warm r1 0+1 0 % | web r1 1+0 0 %
            4   warm | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   warm | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > restart web
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   warm | web r1 1+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   warm | web r1 1+0 0 % r2 1+0 100 %
            24 promoted
            24 the old revisions are stopped now
            24   warm | web r1 0+1 0 % r2 1+0 100 %
            25   warm | web r2 1+0 100 %
            26 release #2 ended: promoted
            40 > apply web:v2
            40 < release #3 is started
            40 release #3 started by ann: web r2 to r3
            40 job warm r1 runs, before anything new starts
            40   warm r1 1+0 0 % | web r2 1+0 100 %
            43 job warm r1 is done, after 3s
            43   warm r1 0+1 0 % | web r2 1+0 100 % r3 1+0 0 %
            44   warm | web r2 1+0 100 % r3 1+0 0 %
            46 shifting web to r3: step 1 of 1
            46 web: 100 % of the traffic goes to r3
            46   warm | web r2 1+0 0 % r3 1+0 100 %
            47 promoted
            47 the old revisions are stopped now
            47   warm | web r2 0+1 0 % r3 1+0 100 %
            48   warm | web r3 1+0 100 %
            49 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn jobs_run_one_after_another() {
    check(
        "web 1 blue-green bake 0
         job a before follows c
         job b before
         job c before",
        "0 apply
         20 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job b r1 runs, before anything new starts
            0   a | b r1 1+0 0 % | c | web
            3 job b r1 is done, after 3s
            3 job c r1 runs, before anything new starts
            3   a | b r1 0+1 0 % | c r1 1+0 0 % | web
            4   a | b | c r1 1+0 0 % | web
            6 job c r1 is done, after 3s
            6 job a r1 runs, before anything new starts
            6   a r1 1+0 0 % | b | c r1 0+1 0 % | web
            7   a r1 1+0 0 % | b | c | web
            9 job a r1 is done, after 3s
            9   a r1 0+1 0 % | b | c | web r1 1+0 0 %
            10   a | b | c | web r1 1+0 0 %
            12 shifting web to r1: step 1 of 1
            12 web: 100 % of the traffic goes to r1
            12   a | b | c | web r1 1+0 100 %
            13 promoted
            13 nothing was replaced, so nothing is stopped
            13 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_new_service_that_a_job_needs_is_started_for_it() {
    check(
        "db 1 rolling
         web 1 blue-green uses db
         job migrate before uses db",
        "0 apply
         30 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: db r1, web r1
            0   db r1 1+0 0 % | migrate | web
            3   db r1 1+0 100 % | migrate | web
            4 job migrate r1 runs, before anything new starts
            4   db r1 1+0 100 % | migrate r1 1+0 0 % | web
            7 job migrate r1 is done, after 3s
            7   db r1 1+0 100 % | migrate r1 0+1 0 % | web r1 1+0 0 %
            8   db r1 1+0 100 % | migrate | web r1 1+0 0 %
            10 shifting db to r1: step 1 of 1
            10 shifting web to r1: step 1 of 1
            10 web: 100 % of the traffic goes to r1
            10   db r1 1+0 100 % | migrate | web r1 1+0 100 %
            11 promoted
            11 nothing was replaced, so nothing is stopped
            11 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_that_fails_takes_the_release_back() {
    check(
        "web 1 blue-green
         job migrate before",
        "0 apply
         20 crashes migrate.r2
         20 apply migrate:v2 web:v2
         22 why
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 is done, after 3s
            3   migrate r1 0+1 0 % | web r1 1+0 0 %
            4   migrate | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   migrate | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply migrate:v2 web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20 job migrate r2 runs, before anything new starts
            20   migrate r2 1+0 0 % | web r1 1+0 100 %
            22 ? job migrate r2 runs
            23 job migrate r2 failed after 3s: exit status 1
            23 release #2 turns back: job migrate failed: exit status 1
            23   migrate r2 0+1 0 % | web r1 1+0 100 %
            24   migrate | web r1 1+0 100 %
            25 release #2 ended: rolled_back, job migrate failed: exit status 1
        "#]],
    );
}

#[test]
fn a_job_that_fails_after_all_traffic_has_moved_takes_it_back_at_once() {
    check(
        "web 1 blue-green
         job warm after",
        "0 apply
         20 crashes warm.r2
         20 apply warm:v2 web:v2
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0   warm | web r1 1+0 0 %
            3 shifting web to r1: step 1 of 1
            3 web: 100 % of the traffic goes to r1
            3   warm | web r1 1+0 100 %
            4 promoted
            4 job warm r1 runs, now that all traffic has moved
            4   warm r1 1+0 0 % | web r1 1+0 100 %
            7 job warm r1 is done, after 3s
            7 nothing was replaced, so nothing is stopped
            7   warm r1 0+1 0 % | web r1 1+0 100 %
            8   warm | web r1 1+0 100 %
            9 release #1 ended: promoted
            20 > apply warm:v2 web:v2
            20 < release #2 is started
            20 release #2 started by ann: web r1 to r2
            20   warm | web r1 1+0 100 % r2 1+0 0 %
            23 shifting web to r2: step 1 of 1
            23 web: 100 % of the traffic goes to r2
            23   warm | web r1 1+0 0 % r2 1+0 100 %
            24 promoted; what it replaced is kept for 10s
            24 job warm r2 runs, now that all traffic has moved
            24   warm r2 1+0 0 % | web r1 1+0 0 % r2 1+0 100 %
            27 job warm r2 failed after 3s: exit status 1
            27 release #2 turns back: job warm failed: exit status 1
            27   warm r2 0+1 0 % | web r1 1+0 100 % r2 0+1 0 %
            28   warm | web r1 1+0 100 %
            29 release #2 ended: rolled_back, job warm failed: exit status 1
        "#]],
    );
}

#[test]
fn a_job_is_tried_again_as_often_as_it_may() {
    check(
        "web 1 blue-green
         job migrate before retries 2",
        "0 crashes migrate.r1.1
         0 crashes migrate.r1.2
         0 apply
         30 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts (attempt 1 of 3)
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 failed after 3s: exit status 1 (attempt 1 of 3)
            3   migrate r1 0+1 0 % | web
            4   migrate | web
            5 job migrate r1 runs, before anything new starts (attempt 2 of 3)
            5   migrate r1 1+0 0 % | web
            8 job migrate r1 failed after 3s: exit status 1 (attempt 2 of 3)
            8   migrate r1 0+1 0 % | web
            9   migrate | web
            10 job migrate r1 runs, before anything new starts (attempt 3 of 3)
            10   migrate r1 1+0 0 % | web
            13 job migrate r1 is done, after 3s (attempt 3 of 3)
            13   migrate r1 0+1 0 % | web r1 1+0 0 %
            14   migrate | web r1 1+0 0 %
            16 shifting web to r1: step 1 of 1
            16 web: 100 % of the traffic goes to r1
            16   migrate | web r1 1+0 100 %
            17 promoted
            17 nothing was replaced, so nothing is stopped
            17 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    check(
        "web 1 blue-green
         job migrate before timeout 90",
        "0 apply
         20 never migrate.r2
         20 apply migrate:v2
         50 why
         120 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 is done, after 3s
            3   migrate r1 0+1 0 % | web r1 1+0 0 %
            4   migrate | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   migrate | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply migrate:v2
            20 < release #2 is started
            20 release #2 started by ann: no new revision, but a run of migrate
            20 job migrate r2 runs, before anything new starts
            20   migrate r2 1+0 0 % | web r1 1+0 100 %
            50 ? job migrate r2 runs
            110 job migrate r2 failed after 1m30s: it was not done within 1m30s
            110 release #2 turns back: job migrate failed: it was not done within 1m30s
            110   migrate r2 0+1 0 % | web r1 1+0 100 %
            111   migrate | web r1 1+0 100 %
            112 release #2 ended: rolled_back, job migrate failed: it was not done within 1m30s
        "#]],
    );
}

#[test]
fn a_job_runs_once_per_release_and_not_on_the_way_back() {
    check(
        "web 1 blue-green bake 2
         job migrate before
         job tell after back",
        "0 apply
         30 apply web=2
         50 apply migrate:v2
         80 apply web:v2
         120 rollback
         150 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | tell | web
            3 job migrate r1 is done, after 3s
            3   migrate r1 0+1 0 % | tell | web r1 1+0 0 %
            4   migrate | tell | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   migrate | tell | web r1 1+0 100 %
            7 promoted
            7 job tell r1 runs, now that all traffic has moved
            7   migrate | tell r1 1+0 0 % | web r1 1+0 100 %
            10 job tell r1 is done, after 3s
            10 nothing was replaced, so nothing is stopped
            10   migrate | tell r1 0+1 0 % | web r1 1+0 100 %
            11   migrate | tell | web r1 1+0 100 %
            12 release #1 ended: promoted
            30 > apply web=2
            30 < release #2 is started
            30 release #2 started by ann: no new revision
            30   migrate | tell | web r1 2+0 100 %
            32 promoted
            32 nothing was replaced, so nothing is stopped
            32 release #2 ended: promoted
            50 > apply migrate:v2
            50 < release #3 is started
            50 release #3 started by ann: no new revision, but a run of migrate
            50 job migrate r2 runs, before anything new starts
            50   migrate r2 1+0 0 % | tell | web r1 2+0 100 %
            53 job migrate r2 is done, after 3s
            53   migrate r2 0+1 0 % | tell | web r1 2+0 100 %
            53 promoted
            54 nothing was replaced, so nothing is stopped
            54   migrate | tell | web r1 2+0 100 %
            55 release #3 ended: promoted
            80 > apply web:v2
            80 < release #4 is started
            80 release #4 started by ann: web r1 to r2
            80 job migrate r2 runs, before anything new starts
            80   migrate r2 1+0 0 % | tell | web r1 2+0 100 %
            83 job migrate r2 is done, after 3s
            83   migrate r2 0+1 0 % | tell | web r1 2+0 100 % r2 2+0 0 %
            84   migrate | tell | web r1 2+0 100 % r2 2+0 0 %
            86 shifting web to r2: step 1 of 1
            86 web: 100 % of the traffic goes to r2
            86   migrate | tell | web r1 2+0 0 % r2 2+0 100 %
            87 promoted; what it replaced is kept for 2s
            87 job tell r1 runs, now that all traffic has moved
            87   migrate | tell r1 1+0 0 % | web r1 2+0 0 % r2 2+0 100 %
            90 job tell r1 is done, after 3s
            90 the old revisions are stopped now
            90   migrate | tell r1 0+1 0 % | web r1 0+2 0 % r2 2+0 100 %
            91   migrate | tell | web r2 2+0 100 %
            92 release #4 ended: promoted
            120 > rollback
            120 < release #5 is started
            120 release #5 started by ann: web r2 to r1
            120   migrate | tell | web r1 2+0 0 % r2 2+0 100 %
            123 shifting web to r1: step 1 of 1
            123 web: 100 % of the traffic goes to r1
            123   migrate | tell | web r1 2+0 100 % r2 2+0 0 %
            124 promoted; what it replaced is kept for 2s
            124 job tell r1 runs, now that all traffic has moved
            124   migrate | tell r1 1+0 0 % | web r1 2+0 100 % r2 2+0 0 %
            127 job tell r1 is done, after 3s
            127 the old revisions are stopped now
            127   migrate | tell r1 0+1 0 % | web r1 2+0 100 % r2 0+2 0 %
            128   migrate | tell | web r1 2+0 100 %
            129 release #5 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_that_runs_is_stopped_when_its_release_is_aborted() {
    check(
        "web 1 blue-green
         job migrate before",
        "0 apply
         20 apply migrate:v2
         21 abort
         22 apply migrate:v3
         40 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 is done, after 3s
            3   migrate r1 0+1 0 % | web r1 1+0 0 %
            4   migrate | web r1 1+0 0 %
            6 shifting web to r1: step 1 of 1
            6 web: 100 % of the traffic goes to r1
            6   migrate | web r1 1+0 100 %
            7 promoted
            7 nothing was replaced, so nothing is stopped
            7 release #1 ended: promoted
            20 > apply migrate:v2
            20 < release #2 is started
            20 release #2 started by ann: no new revision, but a run of migrate
            20 job migrate r2 runs, before anything new starts
            20   migrate r2 1+0 0 % | web r1 1+0 100 %
            21 > abort
            21 < release #2 is taken back
            21 release #2 turns back: aborted by ann
            21 job migrate r2 is stopped with its release
            21   migrate r2 0+1 0 % | web r1 1+0 100 %
            21   migrate | web r1 1+0 100 %
            22 > apply migrate:v3
            22 < release #3 is accepted: release #2 is turning back; it is waited for
            22 release #3 by ann waits for release #2
            22 release #2 ended: aborted, aborted by ann
            22 release #3 started by ann: no new revision, but a run of migrate
            22 job migrate r3 runs, before anything new starts
            22   migrate r3 1+0 0 % | web r1 1+0 100 %
            25 job migrate r3 is done, after 3s
            25   migrate r3 0+1 0 % | web r1 1+0 100 %
            25 promoted
            26 nothing was replaced, so nothing is stopped
            26   migrate | web r1 1+0 100 %
            27 release #3 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_whose_shim_is_lost_or_that_nobody_sees_is_waited_for() {
    check(
        "web 1 blue-green
         job migrate before timeout 10",
        "0 sick migrate.r1
         0 apply
         1 blind
         8 sees
         20 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            8 job migrate r1 is done, after 8s
            8   migrate r1 0+1 0 % | web r1 1+0 0 %
            8   migrate | web r1 1+0 0 %
            11 shifting web to r1: step 1 of 1
            11 web: 100 % of the traffic goes to r1
            11   migrate | web r1 1+0 100 %
            12 promoted
            12 nothing was replaced, so nothing is stopped
            12 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_pause_holds_the_next_job_back() {
    check(
        "web 1 blue-green
         job a before
         job b before",
        "0 apply
         1 pause
         10 resume
         20 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job a r1 runs, before anything new starts
            0   a r1 1+0 0 % | b | web
            1 > pause
            1 < release #1 paused by ann
            1 release #1 paused by ann
            3 job a r1 is done, after 3s
            3   a r1 0+1 0 % | b | web
            4   a | b | web
            10 > resume
            10 < release #1 resumed by ann
            10 release #1 resumed by ann
            10 job b r1 runs, before anything new starts
            10   a | b r1 1+0 0 % | web
            13 job b r1 is done, after 3s
            13   a | b r1 0+1 0 % | web r1 1+0 0 %
            14   a | b | web r1 1+0 0 %
            16 shifting web to r1: step 1 of 1
            16 web: 100 % of the traffic goes to r1
            16   a | b | web r1 1+0 100 %
            17 promoted
            17 nothing was replaced, so nothing is stopped
            17 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_job_that_failed_is_tried_again_when_its_release_is_resumed() {
    check(
        "web 1 blue-green holds
         job migrate before",
        "0 crashes migrate.r1.1
         0 apply
         10 resume
         30 end",
        &expect![[r#"
            0 > apply
            0 < release #1 is started
            0 release #1 started by ann: web r1
            0 job migrate r1 runs, before anything new starts
            0   migrate r1 1+0 0 % | web
            3 job migrate r1 failed after 3s: exit status 1
            3 held because job migrate failed: exit status 1; auto_rollback is off
            3   migrate r1 0+1 0 % | web
            4   migrate | web
            10 > resume
            10 < release #1 resumed by ann
            10 release #1 resumed by ann
            10 job migrate r1 runs, before anything new starts
            10   migrate r1 1+0 0 % | web
            13 job migrate r1 is done, after 3s
            13   migrate r1 0+1 0 % | web r1 1+0 0 %
            14   migrate | web r1 1+0 0 %
            16 shifting web to r1: step 1 of 1
            16 web: 100 % of the traffic goes to r1
            16   migrate | web r1 1+0 100 %
            17 promoted
            17 nothing was replaced, so nothing is stopped
            17 release #1 ended: promoted
        "#]],
    );
}

#[test]
fn a_name_may_become_a_job_after_a_service_has_had_it() {
    let mut story = play("web 1 blue-green bake 0\nmigrate 1 rolling", "0 apply\n20 end");
    let name: ServiceName = "migrate".parse().unwrap();
    story.file.services.remove(&name);
    story.file.jobs.extend([described("migrate before")]);
    story.asks("apply web:v2", &["apply", "web:v2"]);
    story.run_until(60);
    story.settle();
    assert_eq!(story.shown, "migrate | web r2 1+0 100 %");
    assert_eq!(story.state.past.len(), 2);
}
