//! Checks: which keys go with which question.

use expect_test::{Expect, expect};

use crate::spec::read;

/// Reads one check with these lines and writes what it became, or what is wrong.
fn check(lines: &str, expected: &Expect) {
    let text = format!(
        "stack = \"shop\"\n[service.web]\nrun = \"./web\"\n[service.web.rollout.check.it]\n{lines}\n"
    );
    expected.assert_eq(&match read(&text, "/srv") {
        (Some(stack), _) => {
            let service = stack.services.values().next().unwrap();
            format!("{}\n", service.rollout.checks.values().next().unwrap())
        }
        (None, problems) => {
            let told = problems.iter().map(|it| {
                let expected = it.expected.as_deref().unwrap_or("-");
                format!("{}:{} {}; {expected}\n", it.line, it.column, it.message)
            });
            told.collect()
        }
    });
}

#[test]
fn every_question_can_be_asked() {
    check(
        "command = \"./smoke --fast\"\nwhen = \"before\"",
        &expect![[r#"
        before: ./smoke --fast succeeds
    "#]],
    );
    check(
        "prometheus = \"http://127.0.0.1:9090/\"\nquery = \"avg(lag)\"\nmin = -1.5\nmax = 2e3\nevery = \"1m\"",
        &expect![[r#"
            during: avg(lag) at http://127.0.0.1:9090 is at least -1.5 and at most 2000, every 1m
        "#]],
    );
    check(
        "prometheus = \"https://prom.test\"\ntotal = \"sum(a)\"\nbad = \"sum(b)\"\ndry_run = true",
        &expect![[r#"
            during: sum(b) of sum(a) at https://prom.test is not worse than before, every 30s, dry run
        "#]],
    );
    check(
        "http = \"/state\"\njson = \"/db/state\"\nequals = \"ok\"\nwhen = \"after\"",
        &expect![[r#"
            after: /db/state of /state is "ok"
        "#]],
    );
    check(
        "http = \"http://status.test/up\"",
        &expect![[r#"
        during: http://status.test/up answers, every 30s
    "#]],
    );
    check(
        "metrics = \"/metrics\"\ntotal = \"jobs\"\nbad = \"lost\"",
        &expect![[r#"
        during: lost of jobs at /metrics is not worse than before, every 30s
    "#]],
    );
}

#[test]
fn what_would_have_no_effect_is_a_mistake() {
    check(
        "every = \"1m\"",
        &expect![[r#"
        4:1 this check asks nothing; one of `prometheus`, `http`, `metrics` and `command`
    "#]],
    );
    check(
        "command = \"x\"\nhttp = \"/x\"",
        &expect![[r#"
        5:1 this check has both `http` and `command`; one of `prometheus`, `http`, `metrics` and `command`
    "#]],
    );
    check(
        "command = \"x\"\nmax = 5\njson = \"/x\"",
        &expect![[r#"
        6:1 `max` goes with `prometheus` or `http`, this is `command`; -
        7:1 `json` goes with `http`, this is `command`; -
    "#]],
    );
    check(
        "prometheus = \"http://p\"\nquery = \"up\"",
        &expect![[r#"
        6:9 `query` does not say what its value must be; `min`, `max` or both beside it
    "#]],
    );
    check(
        "prometheus = \"http://p\"",
        &expect![[r#"
        4:1 this check needs `total`; an expression, or a `query`
        4:1 this check needs `bad`; an expression
    "#]],
    );
    check(
        "prometheus = \"p:9090\"\nquery = \"up\"\nmax = 1",
        &expect![[r#"
        5:14 `prometheus` is not an address that can be asked; an address that begins with `http://` or `https://`, without a password
    "#]],
    );
    check(
        "prometheus = \"http://me:secret@p\"\nquery = \"up\"\nmax = 1",
        &expect![[r#"
        5:14 `prometheus` is not an address that can be asked; an address that begins with `http://` or `https://`, without a password
    "#]],
    );
    check(
        "prometheus = \"http://p\"\nquery = \"up\"\nmax = 1\nbad = \"x\"",
        &expect![[r#"
        8:1 `query` and `bad` exclude each other; either of them
    "#]],
    );
    check(
        "metrics = \"/m\"\ntotal = \"a\"",
        &expect![[r#"
        4:1 this check needs `bad`; the name of a counter
    "#]],
    );
    check(
        "metrics = \"/m\"\ntotal = \"a\"\nbad = \"b\"\nwhen = \"before\"",
        &expect![[r#"
        8:8 there is nothing to compare `before` both revisions have traffic; `during`
    "#]],
    );
    check(
        "command = \"x\"\nwhen = \"before\"\n[service.web.rollout]\nmax_surge = 0\nmax_unavailable = 1",
        &expect![[r#"
            6:8 no new instance runs before an old one has made room for it; `during` or `after`, or a `max_surge` of at least 1
        "#]],
    );
    check(
        "http = \"/x\"\njson = \"x\"",
        &expect![[r#"
        6:8 a JSON Pointer begins with `/`; a path such as "/queue/failed" or "/items/0/state"
        6:8 `json` does not say what its value must be; `min`, `max` or `equals` beside it
    "#]],
    );
    check(
        "http = \"/x\"\nmax = \"5\"\nmin = 0.00000001",
        &expect![[r#"
        6:7 `max` is a text; a number
        7:7 `0.00000001` has too many digits; a number
    "#]],
    );
}
