//! Files beside the stack file: which are asked for, and what they do to the stack.

use expect_test::{Expect, expect};

use crate::model::Digest;
use crate::spec::{Materials, bind, materials_of, read};

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
    let (stack, _) = read(FILE, "/srv/shop");
    let stack = stack.unwrap();
    let env_files = env_files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.map(str::to_owned).map_err(str::to_owned)));
    let materials = Materials {
        env_files: env_files.collect(),
        files: [("/srv/shop/app/bin/web".to_owned(), Digest::of(b"web"))].into(),
    };
    let (bound, problems) = bind(stack, &materials);
    assert_eq!(bound.is_some(), problems.is_empty());
    let services = bound.iter().flat_map(|stack| &stack.services).map(|(name, service)| {
        let workload = &service.workload;
        let files: Vec<String> =
            workload.files.iter().map(|(path, digest)| format!("{path} {digest}")).collect();
        format!("{name}: {:?} {files:?}\n", workload.env)
    });
    let told = problems.iter().map(crate::spec::EnvProblem::render);
    expected.assert_eq(&services.chain(told).collect::<String>());
}

#[test]
fn what_could_be_a_file_is_asked_for() {
    let (stack, _) = read(FILE, "/srv/shop");
    let needs = materials_of(&stack.unwrap());
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
        /etc/shop.env: error: was not read
        /srv/shop/.env:2:1: error: this line is no variable, expected NAME=value
        /srv/shop/.env:3:3: error: what stands before `=` is not a name for a variable, expected letters, digits and `_`, not beginning with a digit, then `=`
    "#]],
    );
    check(
        &[("/srv/shop/.env", Err("no such file")), ("/etc/shop.env", Ok(""))],
        &expect![[r#"
        /srv/shop/.env: error: could not be read: no such file
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
    };
    let text = serde_json::to_string(&materials).unwrap();
    assert_eq!(serde_json::from_str::<Materials>(&text).unwrap(), materials);
}
