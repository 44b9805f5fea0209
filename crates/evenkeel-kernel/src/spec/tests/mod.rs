//! Whole files in, problems or stacks out.

mod agreement;
mod binding;
mod checks;
mod control;
mod databases;
mod description;
mod jobs;
mod notify;
mod outside;
mod round_trip;

use expect_test::{Expect, expect};

use super::*;

/// Reads a file and writes its problems as a terminal shows them, or its services.
fn check(text: &str, expected: &Expect) {
    let (stack, problems) = read(text, "/srv/shop");
    assert_eq!(stack.is_some(), problems.is_empty());
    let out: String =
        problems.iter().map(|problem| problem.render("evenkeel.toml", text)).collect();
    expected.assert_eq(&out);
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    check(
        r#"stack = "Shop"
[service.web]
run = "cd x && ./web"
replica = 3
replicas = 0
helth = "/healthz"
interval = "5s"
dir = 5
env = { PORT = 8080, "a b" = 1, GOOD = [1] }
uses = ["service.catalogue", "web"]
stop = { grace = "5 minutes", signal = "KILL" }
limits = { memory = "64M", cpu = -1 }
[service.web.health]
http = "healthz"
tcp = true
interval = 5
[service.web.rollout]
strategy = "rolling"
steps = [{ weight = 5 }]
max_surge = 0
[service.catalog]
[route.shop]
host = "https://shop.example.com/"
to = "service.wbe"
[edge]
listen = ":8080"
[services.x]
"#,
        &expect![[r#"
            evenkeel.toml:1:9: error: `Shop` is not a name
              |
            1 | stack = "Shop"
              |         ^^^^^^ expected a name: 1 to 63 lower-case letters, digits and dashes, beginning with a letter
              = help: write `"shop"`
            evenkeel.toml:3:7: error: `&&` would be an argument: no shell is involved
              |
            3 | run = "cd x && ./web"
              |       ^^^^^^^^^^^^^^^ expected a list of arguments, or one text that is split like a shell would
              = help: if it needs a shell, write `["sh", "-c", "…"]`
            evenkeel.toml:4:1: error: unknown key `replica` in `service.web`
              |
            4 | replica = 3
              | ^^^^^^^ expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout`
              = help: did you mean `replicas`?
            evenkeel.toml:5:12: error: `replicas` is 0
              |
            5 | replicas = 0
              |            ^ expected a whole number from 1 to 10000
            evenkeel.toml:6:1: error: unknown key `helth` in `service.web`
              |
            6 | helth = "/healthz"
              | ^^^^^ expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout`
              = help: did you mean `health`?
            evenkeel.toml:7:1: error: unknown key `interval` in `service.web`
              |
            7 | interval = "5s"
              | ^^^^^^^^ expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout`
              = help: `interval` belongs in `health`
            evenkeel.toml:8:7: error: `dir` is a number
              |
            8 | dir = 5
              |       ^ expected a text
            evenkeel.toml:9:9: error: `PORT` is given by Evenkeel
              |
            9 | env = { PORT = 8080, "a b" = 1, GOOD = [1] }
              |         ^^^^ expected another name
              = help: leave it out: every instance gets a free port of its own
            evenkeel.toml:9:22: error: `a b` is not a name for a variable
              |
            9 | env = { PORT = 8080, "a b" = 1, GOOD = [1] }
              |                      ^^^^^ expected letters, digits and `_`, not beginning with a digit
            evenkeel.toml:9:40: error: `GOOD` is a list
              |
            9 | env = { PORT = 8080, "a b" = 1, GOOD = [1] }
              |                                        ^^^ expected a text, a number, `true` or `false`
            evenkeel.toml:10:9: error: there is no service `catalogue`
               |
            10 | uses = ["service.catalogue", "web"]
               |         ^^^^^^^^^^^^^^^^^^^ expected `catalog`
               = help: did you mean `catalog`?
            evenkeel.toml:10:30: error: `web` uses itself
               |
            10 | uses = ["service.catalogue", "web"]
               |                              ^^^^^ expected other services of this file
            evenkeel.toml:11:18: error: `5 minutes` is not a duration
               |
            11 | stop = { grace = "5 minutes", signal = "KILL" }
               |                  ^^^^^^^^^^^ expected a duration from "0s" to "1h"
               = help: write `"5m"`
            evenkeel.toml:11:40: error: `KILL` is not known here
               |
            11 | stop = { grace = "5 minutes", signal = "KILL" }
               |                                        ^^^^^^ expected `TERM`, `INT`, `QUIT`, `HUP`, `USR1` or `USR2`
            evenkeel.toml:12:21: error: `64M` is not a size
               |
            12 | limits = { memory = "64M", cpu = -1 }
               |                     ^^^^^ expected a size such as "64MiB", at least "1MiB"
               = help: write `"64MiB"`, or `"64MB"`
            evenkeel.toml:12:34: error: `cpu` is -1
               |
            12 | limits = { memory = "64M", cpu = -1 }
               |                                  ^^ expected cores: 0.5, "500m" or "50%"
            evenkeel.toml:14:8: error: `healthz` does not begin with `/`
               |
            14 | http = "healthz"
               |        ^^^^^^^^^ expected a path that begins with `/`
               = help: write `"/healthz"`
            evenkeel.toml:15:1: error: `health` has both `http` and `tcp`
               |
            15 | tcp = true
               | ^^^ expected one of `http`, `grpc`, `tcp`, `exec`, `notify` and `process`
            evenkeel.toml:16:12: error: `interval` has no unit
               |
            16 | interval = 5
               |            ^ expected a duration from "100ms" to "1h"
               = help: write `interval = "5s"` for seconds
            evenkeel.toml:19:1: error: `steps` belongs to strategy `canary`, this is `rolling`
               |
            19 | steps = [{ weight = 5 }]
               | ^^^^^
            evenkeel.toml:19:21: error: `weight` has no unit
               |
            19 | steps = [{ weight = 5 }]
               |                     ^ expected a part such as "5%", more than 0 and less than 100 %
               = help: write `weight = "5%"`
            evenkeel.toml:20:13: error: with `max_surge` 0 and `max_unavailable` 0 of 1 no instance could ever be replaced
               |
            20 | max_surge = 0
               |             ^ expected at least one of them to be 1 or more
               = help: `max_unavailable = 1` replaces one instance at a time
            evenkeel.toml:21:1: error: `service.catalog` needs `run`
               |
            21 | [service.catalog]
               | ^^^^^^^^^^^^^^^^^ expected a list of arguments, or one text that is split like a shell would
               = help: write `run = ["./web", "--port", "$PORT"]`
            evenkeel.toml:23:8: error: `https://shop.example.com/` is not a host name
               |
            23 | host = "https://shop.example.com/"
               |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected a host name such as "shop.example.com" or "*.example.com", without a port
               = help: write `"shop.example.com"`
            evenkeel.toml:24:6: error: there is no service `wbe`
               |
            24 | to = "service.wbe"
               |      ^^^^^^^^^^^^^ expected `catalog` or `web`
               = help: did you mean `web`?
            evenkeel.toml:26:10: error: `:8080` is not an address with a port
               |
            26 | listen = ":8080"
               |          ^^^^^^^ expected an address with its port, such as "127.0.0.1:8080"
               = help: write `"127.0.0.1:8080"`, or `"0.0.0.0:8080"` for every network
            evenkeel.toml:27:2: error: unknown key `services`
               |
            27 | [services.x]
               |  ^^^^^^^^ expected `stack`, `service`, `job`, `database`, `route`, `tcp`, `certificate`, `edge`, `notify`, `freeze`, `pace` or `discovery`
               = help: did you mean `service`?
        "#]],
    );
}

#[test]
fn positions_count_characters_and_marks_stand_below_them() {
    check(
        "stack = \"é\"\n[service.wéb]\n\trun = [\"ü\", 5]\nenv = { \"ßß\" = [] } # \u{1b}[31m\r\n",
        &expect![[r#"
            evenkeel.toml:1:9: error: `é` is not a name
              |
            1 | stack = "é"
              |         ^^^ expected a name: 1 to 63 lower-case letters, digits and dashes, beginning with a letter
            evenkeel.toml:2:11: error: invalid unquoted key
              |
            2 | [service.wéb]
              |           ^ expected letters, numbers, `-`, `_`
            evenkeel.toml:3:14: error: this part of `run` is a number
              |
            3 | 	run = ["ü", 5]
              | 	            ^ expected a list of arguments, or one text that is split like a shell would
              = help: write `"5"`
            evenkeel.toml:4:23: error: invalid comment character
              |
            4 | env = { "ßß" = [] } # ·[31m
              |                       ^ expected printable characters
        "#]],
    );
    check(
        "\u{feff}stac = 1",
        &expect![[r#"
            evenkeel.toml:1:1: error: unknown key `stac`
              |
            1 | stac = 1
              | ^^^^ expected `stack`, `service`, `job`, `database`, `route`, `tcp`, `certificate`, `edge`, `notify`, `freeze`, `pace` or `discovery`
              = help: did you mean `stack`?
        "#]],
    );
    let wide = format!("stack = \"shop\"\nx = [{}]\n", "\"é\", ".repeat(200));
    check(
        &wide,
        &expect![[r#"
            evenkeel.toml:2:1: error: unknown key `x`
              |
            2 | x = ["é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é", "é",
              | ^ expected `stack`, `service`, `job`, `database`, `route`, `tcp`, `certificate`, `edge`, `notify`, `freeze`, `pace` or `discovery`
        "#]],
    );
    let far = format!("stack = \"shop\"\nedge = {{ {}x = 1 }}\n", " ".repeat(400));
    check(
        &far,
        &expect![[r#"
            evenkeel.toml:2:410: error: unknown key `x` in `edge`
              |
            2 |                                         x = 1 }
              |                                         ^ expected `listen`, `tls`, `to_https`, `proxies`, `acme`, `metrics`, `access_log` or `traces`
        "#]],
    );
}

#[test]
fn a_list_that_is_never_closed_hides_nothing_below_it() {
    check(
        r#"stack = "shop"
[service.web]
run = ["./web",
       "x"
env = { A = "1",
  B = "2"
[service.web.rollout]
strategy = "canary"
steps = [
  { weight = "5%", bake = "1m" },
  { weight = "1%"
[[route.x]]
to = "web"
"#,
        &expect![[r#"
            evenkeel.toml:3:7: error: this `[` is never closed
              |
            3 | run = ["./web",
              |       ^ expected `]` before the next key
            evenkeel.toml:5:7: error: this `{` is never closed
              |
            5 | env = { A = "1",
              |       ^ expected `}` before the next key
            evenkeel.toml:9:9: error: this `[` is never closed
              |
            9 | steps = [
              |         ^ expected `]` before the next key
            evenkeel.toml:12:9: error: `x` is a list
               |
            12 | [[route.x]]
               |         ^ expected a table `[route.NAME]`
               = help: write `[route.x]`, in single brackets
        "#]],
    );
}

#[test]
fn a_line_that_cannot_be_read_is_one_problem() {
    check(
        r#"stack "shop"
[service.web]
run ["./web"]
[service.catalog
run = "./catalog"
uses = "web"
[route.r]
to "web"
"#,
        &expect![[r#"
            evenkeel.toml:1:7: error: key with no value
              |
            1 | stack "shop"
              |       ^ expected `=`
            evenkeel.toml:3:5: error: key with no value
              |
            3 | run ["./web"]
              |     ^ expected `=`
            evenkeel.toml:4:17: error: unclosed table
              |
            4 | [service.catalog
              |                 ^ expected `]`
            evenkeel.toml:8:4: error: key with no value
              |
            8 | to "web"
              |    ^ expected `=`
        "#]],
    );
}

#[test]
fn garbage_is_bounded_in_what_is_said_and_in_time() {
    let (stack, problems) = read(&"x".repeat(FILE_MAX + 1), "/srv");
    assert!(stack.is_none());
    assert_eq!(problems.len(), 1);
    let lines = "a = @\n".repeat(FILE_MAX / 6);
    let one_line = format!("a = [{}", "@ ".repeat(FILE_MAX / 2 - 8));
    let keys = (0..FILE_MAX / 12).map(|i| format!("k{i:07} = 1\n")).collect::<String>();
    let braces = "[{".repeat(FILE_MAX / 2);
    let nested = "x = [\n".repeat(FILE_MAX / 6);
    let word = format!("{} = 1", "k".repeat(FILE_MAX - 4));
    let name = format!("[service.\"{}\"]\nx = 1", "é".repeat(FILE_MAX / 2 - 20));
    for text in [lines, one_line, keys, braces, nested, word, name] {
        let (stack, problems) = read(&text, "/srv");
        assert!(stack.is_none());
        assert!((1..=PROBLEMS_MAX).contains(&problems.len()), "{}", problems.len());
        let said: usize = problems.iter().map(|it| it.render("evenkeel.toml", &text).len()).sum();
        assert!(said < 2_000 * PROBLEMS_MAX, "{said} bytes");
    }
    let keys = "a=1\n".repeat(3) + &(0..500).map(|i| format!("k{i}=1\n")).collect::<String>();
    let (_, problems) = read(&keys, "/srv");
    expect!["304 more problems from here on"].assert_eq(&problems[PROBLEMS_MAX - 1].message);
}

#[test]
fn a_file_that_is_not_toml_is_told_line_by_line() {
    check(
        r#"stack = shop
[service.web]
run = ["./web",
replicas = 2
helth = 1
[route.x
to = "web"
[route.y]
to = "web"
path = @
host = "shop.test
"#,
        &expect![[r#"
            evenkeel.toml:1:9: error: string values must be quoted
              |
            1 | stack = shop
              |         ^^^^ expected quotes around a text
              = help: write `"shop"`
            evenkeel.toml:3:7: error: this `[` is never closed
              |
            3 | run = ["./web",
              |       ^ expected `]` before the next key
            evenkeel.toml:5:1: error: unknown key `helth` in `service.web`
              |
            5 | helth = 1
              | ^^^^^ expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout`
              = help: did you mean `health`?
            evenkeel.toml:6:9: error: unclosed table
              |
            6 | [route.x
              |         ^ expected `]`
            evenkeel.toml:10:8: error: string values must be quoted
               |
            10 | path = @
               |        ^ expected quotes around a text
               = help: write `"@"`
            evenkeel.toml:11:18: error: invalid basic string
               |
            11 | host = "shop.test
               |                  ^ expected `"`
        "#]],
    );
}
