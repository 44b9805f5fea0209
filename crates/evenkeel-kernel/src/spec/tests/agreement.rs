//! What several keys must agree on, and what the rollouts become.

use expect_test::{Expect, expect};

use crate::model::{Exposure, Strategy};
use crate::spec::read;
use crate::time::human;

/// Reads one service with these lines below its header and writes what its rollout became, or
/// what is wrong.
pub(super) fn check(lines: &str, expected: &Expect) {
    let text = format!("stack = \"shop\"\n[service.web]\nrun = \"./web\"\n{lines}\n");
    expected.assert_eq(&match read(&text, "/srv") {
        (Some(stack), _) => {
            let service = stack.services.values().next().unwrap();
            let rollout = &service.rollout;
            let shape = match &rollout.strategy {
                Strategy::Rolling { max_surge, max_unavailable } => {
                    format!("rolling +{max_surge} -{max_unavailable}")
                }
                Strategy::BlueGreen { preview } => format!("blue-green {preview:?}"),
                Strategy::Canary { steps } => {
                    let told = steps.iter().map(|step| {
                        let bake = human(step.bake);
                        match step.exposure {
                            Exposure::Weight(weight) => format!("{weight} {bake}"),
                            Exposure::Instances(count) => format!("{count} of them {bake}"),
                        }
                    });
                    format!("canary {}", told.collect::<Vec<_>>().join(", "))
                }
            };
            format!("{shape}; ready {}, bake {}\n", human(rollout.min_ready), human(rollout.bake))
        }
        (None, problems) => problems
            .iter()
            .map(|it| {
                let hint = it.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                let expected = it.expected.as_deref().unwrap_or("-");
                format!("{}:{} {}: {}; {expected}{hint}\n", it.line, it.column, it.path, it.message)
            })
            .collect(),
    });
}

#[test]
fn strategies_take_their_defaults() {
    check(
        "",
        &expect![[r#"
        rolling +25 % -0; ready 10s, bake 30m
    "#]],
    );
    check(
        "exclusive = true",
        &expect![[r#"
        rolling +0 -1; ready 10s, bake 30m
    "#]],
    );
    check(
        "rollout = { max_unavailable = 1, min_ready = \"0s\" }",
        &expect![[r#"
        rolling +25 % -1; ready 0ms, bake 30m
    "#]],
    );
    check(
        "rollout = { strategy = \"blue-green\", preview = \"Next.Test\" }",
        &expect![[r#"
        blue-green Some("next.test"); ready 10s, bake 30m
    "#]],
    );
    check(
        "rollout = { strategy = \"canary\" }",
        &expect![[r#"
        canary 1 % 5m, 5 % 5m, 25 % 10m, 50 % 10m; ready 10s, bake 30m
    "#]],
    );
    check(
        "rollout = { strategy = \"canary\", profile = \"careful\", bake = \"1h\" }",
        &expect![[r#"
            canary 1 % 1h, 10 % 12h, 25 % 4h, 50 % 2h; ready 1m, bake 1h
        "#]],
    );
    check(
        "rollout = { strategy = \"canary\", profile = \"hotfix\" }",
        &expect![[r#"
        canary 10 % 1m; ready 10s, bake 30m
    "#]],
    );
    check(
        "replicas = 4\nrollout = { strategy = \"canary\", steps = [{ weight = \"1%\" }, { instances = 1, bake = \"1m\" }, { weight = \"50 %\" }] }",
        &expect![[r#"
            canary 1 % 5m, 1 of them 1m, 50 % 5m; ready 10s, bake 30m
        "#]],
    );
}

#[test]
fn keys_that_do_not_go_together_are_told() {
    check(
        "exclusive = true\nreplicas = 2",
        &expect![[r#"
        5:12 service.web.replicas: `web` is exclusive but has 2 replicas; 1 replica, or no `exclusive`
    "#]],
    );
    check(
        "exclusive = true\nrollout.strategy = \"canary\"",
        &expect![[r#"
        5:20 service.web.rollout.strategy: an exclusive service cannot be rolled out by `canary`; `rolling`, which stops the old instance before it starts the new one
    "#]],
    );
    check(
        "exclusive = true\nrollout.max_surge = 1",
        &expect![[r#"
        5:21 service.web.rollout.max_surge: an exclusive service cannot have a `max_surge` of 1; `0`, as only one instance may run at a time
    "#]],
    );
    check(
        "replicas = 3\nrollout = { max_surge = 0, max_unavailable = \"10%\" }",
        &expect![[r#"
            5:46 service.web.rollout.max_unavailable: with `max_surge` 0 and `max_unavailable` 0 of 3 no instance could ever be replaced; at least one of them to be 1 or more (`max_unavailable = 1` replaces one instance at a time)
        "#]],
    );
    check(
        "rollout = { profile = \"hotfix\" }",
        &expect![[r#"
        4:13 service.web.rollout.profile: `profile` belongs to strategy `canary`, this is `rolling`; - (write `strategy = "canary"`)
    "#]],
    );
    check(
        "rollout = { strategy = \"canary\", max_surge = 1, preview = \"x.test\" }",
        &expect![[r#"
            4:34 service.web.rollout.max_surge: `max_surge` belongs to strategy `rolling`, this is `canary`; -
            4:49 service.web.rollout.preview: `preview` belongs to strategy `blue-green`, this is `canary`; -
        "#]],
    );
    check(
        "rollout = { strategy = \"blue_green\" }",
        &expect![[r#"
        4:24 service.web.rollout.strategy: `blue_green` is not known here; `rolling`, `blue-green` or `canary` (did you mean `"blue-green"`?)
    "#]],
    );
    check(
        "rollout = { strategy = \"canary\", profile = \"hotfix\", steps = [{ weight = \"1%\" }] }",
        &expect![[r#"
            4:34 service.web.rollout.profile: `profile` and `steps` exclude each other; either of them (a profile is a ready-made list of steps)
        "#]],
    );
    check(
        "rollout = \"canary\"",
        &expect![[r#"
        4:11 service.web.rollout: `rollout` is a text; a table (write `rollout = { strategy = "canary" }`)
    "#]],
    );
}

#[test]
fn steps_rise() {
    let steps = |steps: &str, expected: &Expect| {
        check(
            &format!("replicas = 4\nrollout = {{ strategy = \"canary\", steps = [{steps}] }}"),
            expected,
        );
    };
    steps(
        "{ weight = \"5%\" }, { weight = \"5%\" }, { weight = \"1%\" }",
        &expect![[r#"
        5:62 service.web.rollout.steps[1]: 5 % after 5 % is no step forward; rising steps
        5:81 service.web.rollout.steps[2]: 1 % after 5 % is no step forward; rising steps
    "#]],
    );
    steps(
        "{ instances = 1 }, { weight = \"25%\" }",
        &expect![[r#"
        5:62 service.web.rollout.steps[1]: 25 % after 1 of 4 instances is no step forward; rising steps
    "#]],
    );
    steps(
        "{ instances = 4 }",
        &expect![[r#"
        5:57 service.web.rollout.steps[0].instances: 4 of 4 instances are all of them; fewer instances than `replicas`
    "#]],
    );
    steps(
        "{ weight = \"100%\" }, { weight = \"0%\" }, { weight = 5 }, { instances = 0 }",
        &expect![[r#"
            5:54 service.web.rollout.steps[0].weight: `100%` is not a step; a part such as "5%", more than 0 and less than 100 % (leave it out: all traffic comes after the last step)
            5:75 service.web.rollout.steps[1].weight: `0%` is not a step; a part such as "5%", more than 0 and less than 100 %
            5:94 service.web.rollout.steps[2].weight: `weight` has no unit; a part such as "5%", more than 0 and less than 100 % (write `weight = "5%"`)
            5:113 service.web.rollout.steps[3].instances: `instances` is 0; a whole number from 1 to 10000
        "#]],
    );
    steps(
        "{}, { weight = \"1%\", instances = 1 }",
        &expect![[r#"
        5:43 service.web.rollout.steps[0]: this step has neither `weight` nor `instances`; either of them (write `weight = "5%"`)
        5:64 service.web.rollout.steps[1]: this step has both `weight` and `instances`; either of them
    "#]],
    );
    steps(
        "{}, { weight = \"1%\", instances = 1 }, 5",
        &expect![[r#"
        5:81 service.web.rollout.steps[2]: this step is a number; a table such as `{ weight = "5%" }`
    "#]],
    );
    steps(
        "",
        &expect![[r#"
            5:42 service.web.rollout.steps: `steps` is empty; a list of 1 to 20 tables with `weight`, `instances`, `bake` and `gate`
        "#]],
    );
}

#[test]
fn what_evenkeel_gives_is_not_set_twice() {
    check(
        "uses = [\"mail-worker\", \"nobody\"]\nenv = { MAIL_WORKER_URL = \"x\", OTHER_URL = \"y\" }\n\
         [service.mail-worker]\nrun = \"x\"",
        &expect![[r#"
            4:24 service.web.uses: there is no service `nobody`; `mail-worker`
            5:9 service.web.env.MAIL_WORKER_URL: `MAIL_WORKER_URL` is given by `uses`; - (leave it out, or take `mail-worker` out of `uses`)
        "#]],
    );
}

#[test]
fn routes_and_previews_do_not_share_requests() {
    check(
        "rollout = { strategy = \"blue-green\", preview = \"A.test\" }\n\
         [route.b]\nto = \"web\"\nhost = \"a.test\"\n[route.a]\nto = \"service.web\"\nhost = \"A.TEST\"\npath = \"/\"\n\
         [route.c]\nto = \"web\"\npath = \"/x\"\n[route.d]\nto = \"web\"\npath = \"/x/\"\n\
         [route.e]\nto = \"web\"\nhost = \"*.test\"\n[route.f]\nto = \"web\"\nhost = \"münchen.de\"\n\
         [route.g]\nto = \"web\"\nhost = \"x.test:80\"\npath = \"/a//b\"\n[edge]\nlisten = []",
        &expect![[r#"
            4:48 service.web.rollout.preview: `a.test` is also the host of route `b`; a host of its own
            8:8 route.a: route `a` is for the same requests as `b` in line 5: a.test, /; another `host` or `path`
            15:8 route.d: route `d` is for the same requests as `c` in line 12: any host, /x/; another `host` or `path`
            20:8 route.e.host: `*.test` is not a host name; a host name such as "shop.example.com" or "*.example.com", without a port (a route has one host, or none for any)
            23:8 route.f.host: `münchen.de` is not a host name; a host name such as "shop.example.com" or "*.example.com", without a port (write it in its ASCII form, `xn--…`)
            26:8 route.g.host: `x.test:80` is not a host name; a host name such as "shop.example.com" or "*.example.com", without a port (write `"x.test"`)
            27:8 route.g.path: `/a//b` has empty or relative parts, which no request has; a path that begins with `/`
            29:10 edge.listen: there are routes, but the edge listens nowhere; an address with its port (write `listen = ["127.0.0.1:8080"]`)
        "#]],
    );
}

#[test]
fn scaling_agrees_with_its_service() {
    check(
        "replicas = 12\nscale = { min = 2, max = 10 }",
        &expect![[r#"
            4:12 service.web.replicas: it begins with 12 instances, and scales between 2 and 10; a number from 2 to 10
        "#]],
    );
    check(
        "scale = { min = 5, max = 4, cpu = \"0%\" }",
        &expect![[r#"
        4:26 service.web.scale.max: `min` is 5 and `max` is 4; at least 5
        4:35 service.web.scale.cpu: `cpu` is nothing; a part such as "70%"
    "#]],
    );
    check(
        "exclusive = true\nscale = { max = 4 }",
        &expect![[r#"
        5:1 service.web.scale: an exclusive service cannot scale; no `scale`, as only one instance may run at a time
    "#]],
    );
    check(
        "scale = { max = 4, in_flight = 0, cpu = 70 }",
        &expect![[r#"
        4:32 service.web.scale.in_flight: `in_flight` is 0; a whole number from 1 to 1000
        4:41 service.web.scale.cpu: `cpu` has no unit; a part such as "50%", at most "100%" (write `cpu = "70%"`)
    "#]],
    );
    check(
        "autoscaling = { max = 4 }",
        &expect![[r#"
            4:1 service.web.autoscaling: unknown key `autoscaling` in `service.web`; `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout` (it is called `scale` here)
        "#]],
    );
}

#[test]
fn tables_in_the_wrong_place_are_told() {
    check(
        "[route]\nto = \"web\"\n[route.x]\nto = 5",
        &expect![[r#"
        5:1 route.to: `to` is a text; a table `[route.NAME]` (`to` goes below `[route.NAME]`)
        7:6 route.x.to: `to` is a number; the name of a service
    "#]],
    );
    check(
        "health = true\nstop = \"TERM\"\nlimits = \"1GB\"\n[service.Bad_Name]\nrun = []",
        &expect![[r#"
            4:10 service.web.health: `health` is true or false; a table, or a path that begins with `/` (write `health = { http = "/healthz" }`)
            5:8 service.web.stop: `stop` is a text; a table (write `stop = { signal = "INT" }`)
            6:10 service.web.limits: `limits` is a text; a table (write `limits = { memory = "512MiB" }`)
            7:10 service.Bad_Name: `Bad_Name` is not a name for a service; a name: 1 to 63 lower-case letters, digits and dashes, beginning with a letter (write `bad-name`)
            8:7 service.Bad_Name.run: `run` is empty; a list of arguments, or one text that is split like a shell would
        "#]],
    );
    check(
        "[service]\nother = \"./x\"\nrun = \"./y\"",
        &expect![[r#"
        5:1 service.other: `other` is a text; a table `[service.NAME]`
        6:1 service.run: `run` is a text; a table `[service.NAME]` (`run` goes below `[service.NAME]`)
    "#]],
    );
    check(
        "dir = \"~/x\"\nenv_file = [\"\"]\nhealth = { http = \"/a b\" }\ncpu = 1",
        &expect![[r#"
            4:7 service.web.dir: `~` in `dir` is not replaced: no shell is involved; a path from the file's folder, or one that begins with `/`
            5:13 service.web.env_file: a path in `env_file` is empty; a path
            6:19 service.web.health.http: `/a b` has a character that must be written as `%xx`; a path that begins with `/`
            7:1 service.web.cpu: unknown key `cpu` in `service.web`; `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout` (`cpu` belongs in `limits`)
        "#]],
    );
}
