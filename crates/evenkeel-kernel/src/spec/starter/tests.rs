//! Every kind of folder gets a file that can be read.

use super::*;
use crate::spec::read;
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// Writes a starter, reads it back, and shows what it would start.
fn check(found: &Found, expected: &Expect) {
    let text = starter(found);
    let (stack, problems) = read(&text, "/srv/x");
    assert_eq!(problems, [], "{text}");
    let stack = stack.unwrap();
    // What is offered in comments is right as well.
    let keys = ["replicas", "health", "stop", "rollout", "host"];
    let offered = keys
        .iter()
        .fold(text, |text, key| text.replace(&format!("# {key} ="), &format!("{key} =")));
    assert_eq!(read(&offered, "/srv/x").1, [], "{offered}");
    let services = stack.services.iter().map(|(name, service)| {
        let routed = if stack.serves(name) { ", routed" } else { "" };
        format!("{name}: {}{routed}\n", service.workload.run.join(" | "))
    });
    expected.assert_eq(&services.collect::<String>());
}

fn files(names: &[&str]) -> Found {
    Found { files: names.iter().map(|it| (*it).to_owned()).collect(), ..Found::default() }
}

#[test]
fn a_starter_explains_itself() {
    let found = Found {
        folder_name: "My Shop".to_owned(),
        files: vec![".env".to_owned(), "Procfile".to_owned()],
        procfile: Some(
            "web: bundle exec puma -p $PORT\nmail_worker: ./work | tee log\n".to_owned(),
        ),
        ..Found::default()
    };
    expect![[r##"
        # What runs here, and how it is reached. All keys: evenkeel reference
        # See what would happen: evenkeel plan. Make it happen: evenkeel apply.

        stack = "my-shop"

        # From the Procfile: web
        [service.web]
        run = ["bundle", "exec", "puma", "-p", "$PORT"]
        env_file = ".env"
        # replicas = 2                 # how many equal instances serve
        # health = "/healthz"          # otherwise it must accept connections
        # stop = { drain = "30s" }     # how long running requests may take
        # rollout = { strategy = "canary" }   # or "blue-green"; otherwise "rolling"

        # From the Procfile: mail_worker
        # Its line needs a shell, so it is given to one.
        [service.mail-worker]
        run = ["sh", "-c", "./work | tee log"]
        env_file = ".env"
        # replicas = 2                 # how many equal instances serve

        # http://127.0.0.1:8080 goes to `web`.
        [route.web]
        to = "web"
        # host = "my-shop.example.com"   # otherwise any host
    "##]]
    .assert_eq(&starter(&found));
}

#[test]
fn a_procfile_is_a_list_of_services() {
    let procfile = |text: &str| Found { procfile: Some(text.to_owned()), ..Found::default() };
    check(
        &procfile(
            "# c\nweb: ./web ${PORT} 'a b'\r\nweb: again\nrelease: ./migrate\n\
             clock_1: FOO=1 ./clock\nbad line\nq: x \"unclosed\nn: a $HOME\n::\nw:\n",
        ),
        &expect![[r#"
            clock-1: sh | -c | FOO=1 ./clock
            n: sh | -c | a $HOME
            q: sh | -c | x "unclosed
            web: ./web | ${PORT} | a b, routed
        "#]],
    );
    check(
        &procfile("release: x"),
        &expect![[r#"
        web: ./web, routed
    "#]],
    );
}

#[test]
fn a_node_package_is_started_as_it_says() {
    let package =
        |text: &str, names: &[&str]| Found { package_json: Some(text.to_owned()), ..files(names) };
    check(
        &package(r#"{"scripts": {"start": "node server.js --x"}}"#, &[]),
        &expect![[r#"
        web: node | server.js | --x, routed
    "#]],
    );
    check(
        &package(r#"{"scripts": {"start": "next start -p $PORT"}}"#, &["yarn.lock"]),
        &expect![[r#"
            web: yarn | run | start, routed
        "#]],
    );
    check(
        &package(r#"{"scripts": {"start": "a && b"}}"#, &[]),
        &expect![[r#"
        web: npm | run | start, routed
    "#]],
    );
    check(
        &package(r#"{"main": "./lib.js"}"#, &["lib.js"]),
        &expect![[r#"
        web: node | ./lib.js, routed
    "#]],
    );
    check(
        &package(r#"{"scripts": []}"#, &["index.js"]),
        &expect![[r#"
        web: node | index.js, routed
    "#]],
    );
    check(
        &package("{", &["index.js"]),
        &expect![[r#"
        web: ./web, routed
    "#]],
    );
}

#[test]
fn other_programs_are_started_as_is_usual() {
    let cargo = |text: &str| Found { cargo_toml: Some(text.to_owned()), ..Found::default() };
    check(
        &cargo("[package]\nname = \"shop\""),
        &expect![[r#"
        web: ./target/release/shop, routed
    "#]],
    );
    check(
        &cargo("[package]\nname = \"shop\"\n[[bin]]\nname = \"shopd\""),
        &expect![[r#"
        web: ./target/release/shopd, routed
    "#]],
    );
    check(
        &cargo("[workspace]"),
        &expect![[r#"
        web: ./web, routed
    "#]],
    );
    let go = Found {
        go_mod: Some("module example.com/x/Shop/v2\n\ngo 1.24\n".to_owned()),
        ..Found::default()
    };
    check(
        &go,
        &expect![[r#"
        web: ./shop, routed
    "#]],
    );
    for (names, expected) in [
        (
            &["manage.py"][..],
            expect![[r#"
            web: python3 | manage.py | runserver | --noreload | 127.0.0.1:$PORT, routed
        "#]],
        ),
        (
            &["app.py", "index.html"],
            expect![[r#"
            web: python3 | app.py, routed
        "#]],
        ),
        (
            &["start.sh"],
            expect![[r#"
            web: ./start.sh, routed
        "#]],
        ),
        (
            &["index.html"],
            expect![[r#"
            web: python3 | -m | http.server | $PORT | --bind | 127.0.0.1, routed
        "#]],
        ),
        (
            &["Dockerfile"],
            expect![[r#"
            web: ./web, routed
        "#]],
        ),
        (
            &[],
            expect![[r#"
            web: ./web, routed
        "#]],
        ),
    ] {
        check(&files(names), &expected);
    }
}

proptest! {
    #[test]
    fn whatever_is_found_the_starter_can_be_read(
        folder_name in ".{0,80}",
        text in "((web|a b|é|x_1): ?)?[ -~\\n\\t\"\\\\\0é]{0,60}",
        main in "[ -~\\n]{0,20}",
    ) {
        for found in [
            Found { procfile: Some(text.clone()), ..Found::default() },
            Found {
                package_json: Some(serde_json::json!({"scripts": {"start": text}, "main": main}).to_string()),
                ..files(&[&main])
            },
            Found { cargo_toml: Some(format!("package.name = {}", quoted(&main))), ..Found::default() },
            Found { go_mod: Some(format!("module {main}")), ..Found::default() },
        ] {
            let text = starter(&Found { folder_name: folder_name.clone(), ..found });
            prop_assert_eq!(read(&text, "/").1, vec![], "{}", text);
        }
    }
}
