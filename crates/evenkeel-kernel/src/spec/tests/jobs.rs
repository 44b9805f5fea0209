//! What jobs and the rest of a file must agree on.

use expect_test::expect;

use super::check;

#[test]
fn names_order_and_moments_of_jobs_agree() {
    check(
        "stack = \"shop\"\n\
         [service.web]\nrun = \"./web\"\nuses = [\"fill\"]\n\
         [job.web]\nrun = \"./migrate\"\n\
         [job.fill]\nrun = \"./fill\"\nuses = [\"fill\", \"db\"]\nreplicas = 2\n\
         [job.early]\nrun = \"./early\"\nuses = \"late\"\n\
         [job.late]\nrun = \"./late\"\nwhen = \"after\"\n\
         [job.one]\nrun = \"./one\"\nuses = [\"two\", \"web\"]\n\
         [job.two]\nrun = \"./two\"\nuses = [\"job.one\"]\n\
         env = { WEB_URL = \"x\" }\nwhen = \"never\"\n\
         [job.three]\nuses = [\"service.web\"]\nenv = { WEB_URL = \"x\" }\n",
        &expect![[r#"
            evenkeel.toml:4:9: error: there is no service `fill`
              |
            4 | uses = ["fill"]
              |         ^^^^^^ expected nothing
            evenkeel.toml:5:6: error: `web` is also the name of a service
              |
            5 | [job.web]
              |      ^^^ expected a name of its own
            evenkeel.toml:9:9: error: `fill` uses itself
              |
            9 | uses = ["fill", "db"]
              |         ^^^^^^ expected `web`, `early`, `late`, `one`, `three` or `two`
            evenkeel.toml:9:17: error: there is no service or job `db`
              |
            9 | uses = ["fill", "db"]
              |                 ^^^^ expected `web`, `early`, `late`, `one`, `three` or `two`
            evenkeel.toml:10:1: error: unknown key `replicas` in `job.fill`
               |
            10 | replicas = 2
               | ^^^^^^^^ expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `uses`, `when`, `timeout`, `retries`, `on_rollback`, `stop` or `limits`
            evenkeel.toml:13:8: error: `early` runs before `late`, which runs after
               |
            13 | uses = "late"
               |        ^^^^^^ expected jobs that can be done before it
            evenkeel.toml:19:8: error: `one` waits for itself, through the jobs that it uses
               |
            19 | uses = ["two", "web"]
               |        ^^^^^^^^^^^^^^ expected jobs that can be done before it
            evenkeel.toml:22:8: error: `two` waits for itself, through the jobs that it uses
               |
            22 | uses = ["job.one"]
               |        ^^^^^^^^^^^ expected jobs that can be done before it
            evenkeel.toml:24:8: error: `never` is not known here
               |
            24 | when = "never"
               |        ^^^^^^^ expected `before` or `after`
            evenkeel.toml:25:1: error: `job.three` needs `run`
               |
            25 | [job.three]
               | ^^^^^^^^^^^ expected a list of arguments, or one text that is split like a shell would
               = help: write `run = ["./web", "--port", "$PORT"]`
            evenkeel.toml:27:9: error: `WEB_URL` is given by `uses`
               |
            27 | env = { WEB_URL = "x" }
               |         ^^^^^^^
               = help: leave it out, or take `web` out of `uses`
        "#]],
    );
}
