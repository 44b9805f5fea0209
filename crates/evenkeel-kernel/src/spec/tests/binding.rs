//! Files beside the stack file: which are asked for, and what they do to the stack.

use expect_test::{Expect, expect};

use crate::model::Digest;
use crate::spec::{Bound, EnvProblem, Materials, Obstacle, Part, draft};

const FILE: &str = r#"
stack = "shop"
[service.web]
run = ["./bin/web", "-c", "conf/web.toml", "--tls=tls/key.pem", "--port=$PORT", "--verbose", "/etc/x", ""]
dir = "app"
env = { A = "env" }
env_file = [".env", "/etc/shop.env"]
uses = "catalog"
[service.catalog]
run = "python3 catalog.py"
"#;

fn check(env_files: &[(&str, Result<&str, &str>)], expected: &Expect) {
    let env_files = env_files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.map(str::to_owned).map_err(str::to_owned)));
    let materials = Materials {
        env_files: env_files.collect(),
        files: [("/srv/shop/app/bin/web".to_owned(), Digest::of(b"web"))].into(),
        ..Materials::default()
    };
    let Bound { stack, problems, env_problems } = draft(FILE, "/srv/shop").bind(&materials);
    assert_eq!(stack.is_some(), problems.is_empty() && env_problems.is_empty());
    let services = stack.iter().flat_map(|stack| &stack.services).map(|(name, service)| {
        let workload = &service.workload;
        let files: Vec<String> =
            workload.files.iter().map(|(path, digest)| format!("{path} {digest}")).collect();
        format!("{name}: {:?} {files:?}\n", workload.env)
    });
    let told = problems.iter().map(|problem| problem.render("evenkeel.toml", FILE));
    let told = told.chain(env_problems.iter().map(EnvProblem::render));
    expected.assert_eq(&services.chain(told).collect::<String>());
}

#[test]
fn what_could_be_a_file_is_asked_for() {
    let needs = draft(FILE, "/srv/shop").needs();
    let list = |paths: std::collections::BTreeSet<String>| {
        paths.into_iter().collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        /etc/shop.env
        /srv/shop/.env"#]]
    .assert_eq(&list(needs.env_files));
    expect![[r#"
        /etc/x
        /srv/shop/app/bin/web
        /srv/shop/app/conf/web.toml
        /srv/shop/app/tls/key.pem
        /srv/shop/catalog.py"#]]
    .assert_eq(&list(needs.candidates));
}

#[test]
fn variables_are_merged_below_env_and_digests_are_kept() {
    check(
        &[
            (
                "/srv/shop/.env",
                Ok("A=file\nB=first\nC=first\nPORT=3000\nCATALOG_URL=x\nEVENKEEL_X=1"),
            ),
            ("/etc/shop.env", Ok("B=second")),
        ],
        &expect![[r#"
            catalog: {} []
            web: {"A": "env", "B": "second", "C": "first"} ["/srv/shop/app/bin/web sha256:4b5e57f6eb2f"]
        "#]],
    );
}

#[test]
fn files_that_are_missing_or_wrong_are_told_together() {
    check(
        &[("/srv/shop/.env", Ok("A=1\nhunter2\n  X-Y=hunter2\n"))],
        &expect![[r#"
            evenkeel.toml:7:21: error: /etc/shop.env was not read
              |
            7 | env_file = [".env", "/etc/shop.env"]
              |                     ^^^^^^^^^^^^^^^
            /srv/shop/.env:2:1: error: this line is no variable, expected NAME=value
            /srv/shop/.env:3:3: error: what stands before `=` is not a name for a variable, expected letters, digits and `_`, not beginning with a digit, then `=`
        "#]],
    );
    check(
        &[("/srv/shop/.env", Err("no such file")), ("/etc/shop.env", Ok(""))],
        &expect![[r#"
            evenkeel.toml:7:13: error: /srv/shop/.env could not be read: no such file
              |
            7 | env_file = [".env", "/etc/shop.env"]
              |             ^^^^^^
        "#]],
    );
}

#[test]
fn materials_travel_as_json() {
    let materials = Materials {
        env_files: [
            ("/a".to_owned(), Ok("A=1".to_owned())),
            ("/b".to_owned(), Err("gone".to_owned())),
        ]
        .into(),
        files: [("/c".to_owned(), Digest::of(b"c"))].into(),
        schemas: std::collections::BTreeMap::new(),
        obstacles: vec![Obstacle {
            service: "web".parse().unwrap(),
            part: Part::Run,
            reason: "/d does not exist".to_owned(),
        }],
        unread: [("/e".to_owned(), "gone".to_owned())].into(),
        missing: ["/f.py".to_owned()].into(),
        secrets: [("env:KEY".to_owned(), Ok(Digest::of(b"key")))].into(),
    };
    let text = serde_json::to_string(&materials).unwrap();
    assert_eq!(serde_json::from_str::<Materials>(&text).unwrap(), materials);
}

#[test]
fn what_is_missing_is_told_with_everything_else_that_is_wrong() {
    let text = r#"
replica = 1
[service.web]
run = "./web"
dir = "app"
health = { exec = ["./check"] }
env_file = ".env"
[service.catalog]
run = "catalogd"
dir = 7
"#;
    let obstacle = |service: &str, part, reason: &str| Obstacle {
        service: service.parse().unwrap(),
        part,
        reason: reason.to_owned(),
    };
    let materials = Materials {
        env_files: [("/srv/shop/.env".to_owned(), Err("no such file".to_owned()))].into(),
        obstacles: vec![
            obstacle("web", Part::Run, "/srv/shop/app/web does not exist"),
            obstacle("web", Part::Probe, "/srv/shop/app/check does not exist"),
            // Whose folder could not be read is looked for nowhere.
            obstacle("catalog", Part::Run, "`catalogd` is in no folder of its PATH"),
        ],
        ..Materials::default()
    };
    let draft = draft(text, "/srv/shop");
    let parts: Vec<_> =
        draft.workloads(&materials).into_iter().map(|(name, _, parts)| (name, parts)).collect();
    expect![[
        r#"[(ServiceName("catalog"), []), (ServiceName("web"), [Dir, Run, Probe, EnvFile])]"#
    ]]
    .assert_eq(&format!("{parts:?}"));
    let bound = draft.bind(&materials);
    assert!(bound.stack.is_none());
    let told: String =
        bound.problems.iter().map(|problem| problem.render("evenkeel.toml", text)).collect();
    expect![[r#"
        evenkeel.toml:1:1: error: the file needs `stack`
          |
        1 |
          | ^ expected a name: 1 to 63 lower-case letters, digits and dashes, beginning with a letter
          = help: write `stack = "shop"`
        evenkeel.toml:2:1: error: unknown key `replica`
          |
        2 | replica = 1
          | ^^^^^^^ expected `stack`, `service`, `job`, `database`, `route`, `tcp`, `certificate`, `edge`, `notify`, `freeze`, `pace` or `discovery`
        evenkeel.toml:4:7: error: /srv/shop/app/web does not exist
          |
        4 | run = "./web"
          |       ^^^^^^^
        evenkeel.toml:6:19: error: /srv/shop/app/check does not exist
          |
        6 | health = { exec = ["./check"] }
          |                   ^^^^^^^^^^^
        evenkeel.toml:7:12: error: /srv/shop/.env could not be read: no such file
          |
        7 | env_file = ".env"
          |            ^^^^^^
        evenkeel.toml:10:7: error: `dir` is a number
           |
        10 | dir = 7
           |       ^ expected a text
    "#]].assert_eq(&told);
}

#[test]
fn configuration_and_secrets_are_part_of_the_revision() {
    let text = r#"
stack = "shop"
[service.web]
run = ["./web", "--config", "$CONFIGURATION_DIRECTORY/app.toml"]
config = ["conf/app.toml"]
secrets = { KEY = "env:KEY", CERT = "file:cert.pem" }
secrets_in_env = ["KEY"]
"#;
    let draft = || draft(text, "/srv/shop");
    let needs = draft().needs();
    expect![[r#"
        {"/srv/shop/web"} {"/srv/shop/conf/app.toml"} {Env("KEY"), File("/srv/shop/cert.pem")}"#]]
    .assert_eq(&format!("{:?} {:?} {:?}", needs.candidates, needs.config, needs.secrets));
    let materials = |config: &[u8], key: &[u8]| Materials {
        files: [("/srv/shop/conf/app.toml".to_owned(), Digest::of(config))].into(),
        secrets: [
            ("env:KEY".to_owned(), Ok(Digest::of(key))),
            ("file:/srv/shop/cert.pem".to_owned(), Ok(Digest::of(b"cert"))),
        ]
        .into(),
        ..Materials::default()
    };
    let digest = |config: &[u8], key: &[u8]| {
        let stack = draft().bind(&materials(config, key)).stack.unwrap();
        stack.services.values().next().unwrap().workload.digest()
    };
    assert_eq!(digest(b"a", b"k"), digest(b"a", b"k"));
    assert_ne!(digest(b"a", b"k"), digest(b"b", b"k"));
    assert_ne!(digest(b"a", b"k"), digest(b"a", b"l"));
    let mut missing = materials(b"a", b"k");
    missing.files.clear();
    missing.unread.insert("/srv/shop/conf/app.toml".to_owned(), "no such file".to_owned());
    missing.secrets.insert("env:KEY".to_owned(), Err("the variable is not set".to_owned()));
    let told: String =
        draft().bind(&missing).problems.iter().map(|it| it.render("evenkeel.toml", text)).collect();
    expect![[r#"
        evenkeel.toml:5:11: error: /srv/shop/conf/app.toml could not be read: no such file
          |
        5 | config = ["conf/app.toml"]
          |           ^^^^^^^^^^^^^^^
        evenkeel.toml:6:13: error: env:KEY could not be read: the variable is not set
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_secret_that_stands_in_the_file_is_refused_and_not_repeated() {
    let text = r#"
stack = "shop"
[service.web]
run = "./web"
env = { KEY = "x" }
config = ["a/app.toml", "b/app.toml", "c/"]
secrets = { KEY = "env:KEY", TOKEN = "hunter2", OTHER = "vault:hunter2" }
secrets_in_env = ["KEY", "NOKEN"]
"#;
    let told: String = crate::spec::read(text, "/srv/shop")
        .1
        .iter()
        .map(|it| it.render("evenkeel.toml", text))
        .collect();
    assert!(!told.contains("hunter2"));
    expect![[r#"
        evenkeel.toml:6:25: error: `a/app.toml` has the same name, and both lie in one folder
          |
        6 | config = ["a/app.toml", "b/app.toml", "c/"]
          |                         ^^^^^^^^^^^^ expected files of different names
        evenkeel.toml:6:39: error: this part of `config` names no file
          |
        6 | config = ["a/app.toml", "b/app.toml", "c/"]
          |                                       ^^^^ expected a file
        evenkeel.toml:7:30: error: `TOKEN` does not say where it comes from
          = help: expected `env:NAME`, `file:PATH` or `age:PATH`
          = help: a secret itself never stands in this file
        evenkeel.toml:7:49: error: `OTHER` does not say where it comes from
          = help: expected `env:NAME`, `file:PATH` or `age:PATH`
          = help: a secret itself never stands in this file
        evenkeel.toml:8:19: error: `KEY` stands in `env` too
          |
        8 | secrets_in_env = ["KEY", "NOKEN"]
          |                   ^^^^^ expected one of the two
        evenkeel.toml:8:26: error: there is no secret `NOKEN`
          |
        8 | secrets_in_env = ["KEY", "NOKEN"]
          |                          ^^^^^^^ expected `KEY`, `OTHER` or `TOKEN`
    "#]]
    .assert_eq(&told);
}

#[test]
fn no_line_that_names_secrets_is_shown() {
    for text in [
        "[service.web]\nrun = \"./web\"\nsecrets = { A = \"hunter2\", B = \"env:NOPE\" }",
        "[service.web]\nrun = \"./web\"\nsecrets = {\n  A = \"hunter2\",\n  B = 5,\n}\nreplica = 1",
        "[service.web.secrets]\nA = \"hunter2\"\n\"B C\" = \"hunter2\"\n[service.web]\nreplica = 1",
        "[service.web]\nsecrets.A = \"hunter2\"\nsecrets.B = \"hunter2",
        "[service]\nweb = { run = \"./web\", secrets = { A = \"hunter2\" } }",
    ] {
        let problems = draft(text, "/srv").bind(&Materials::default()).problems;
        let told: String = problems.iter().map(|it| it.render("evenkeel.toml", text)).collect();
        assert!(!problems.is_empty() && !told.contains("hunter2"), "{told}");
        // What has nothing to do with them is still shown.
        assert_eq!(told.contains("| replica"), text.contains("replica"), "{told}");
    }
}
