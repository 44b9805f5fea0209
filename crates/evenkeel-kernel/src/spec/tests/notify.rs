//! Receivers: what is wrong with them, and that nothing of it is repeated.

use expect_test::{Expect, expect};

use crate::model::{Channel, Digest, SecretSource};
use crate::plan::{self, Now};
use crate::spec::{Materials, draft, read};

const SERVICE: &str = "stack = \"shop\"\nservice.web.run = \"./web\"\n";

fn check(lines: &str, expected: &Expect) {
    let text = format!("{SERVICE}{lines}\n");
    let (_, problems) = read(&text, "/srv/shop");
    let told: String = problems.iter().map(|it| it.render("evenkeel.toml", &text)).collect();
    assert!(!told.contains("hunter2"), "{told}");
    expected.assert_eq(&told);
}

#[test]
fn what_is_wrong_with_a_receiver_is_told_without_its_line() {
    check(
        "[notify.ops]\n[notify.two]\nslack = \"https://x/hunter2\"\nwebhook = \"https://x/hunter2\"\n\
         [notify.key]\nslack = \"env:URL\"\nsecret = \"file:hunter2\"\n\
         [notify.bare]\nwebhook = \"hunter2.example.com\"\nsecret = \"hunter2\"\n\
         [notify.host]\nslack = \"https:///hunter2\"\nsecrets = \"hunter2\"\n\
         [notify.what]\ncommand = \"./tell hunter2\"\nevents = [\"release.promotd\", \"gate.*\", \"rel*\"]\n\
         [notify.none]\ncommand = \"./tell\"\nevents = []",
        &expect![[r#"
            evenkeel.toml:3:1: error: `notify.ops` does not say how
              = help: expected one of `webhook`, `slack` and `command`
            evenkeel.toml:5:1: error: `two` has both `webhook` and `slack`
              = help: expected one of `webhook`, `slack` and `command`
            evenkeel.toml:9:1: error: only what goes to a `webhook` is signed
            evenkeel.toml:11:11: error: `webhook` is not a URL, nor where one is kept
              = help: expected a URL that begins with `https://` or `http://`, or where it is read from: `env:NAME`, `file:PATH` or `age:PATH`
            evenkeel.toml:12:10: error: `secret` does not say where it comes from
              = help: expected `env:NAME`, `file:PATH` or `age:PATH`
              = help: a secret itself never stands in this file
            evenkeel.toml:14:9: error: `slack` is not a URL, nor where one is kept
              = help: expected a URL that begins with `https://` or `http://`, or where it is read from: `env:NAME`, `file:PATH` or `age:PATH`
            evenkeel.toml:15:1: error: unknown key `secrets` in `notify.host`
              = help: expected `webhook`, `slack`, `command`, `secret` or `events`
              = help: did you mean `secret`?
            evenkeel.toml:18:11: error: there is no event `release.promotd`
              = help: expected a name such as `release.promoted`, or `release.*`, or `*`
              = help: did you mean `release.promoted`?
            evenkeel.toml:18:40: error: there is no event `rel*`
              = help: expected a name such as `release.promoted`, or `release.*`, or `*`
            evenkeel.toml:21:10: error: `events` is empty
              = help: leave it out, or leave the receiver out
        "#]],
    );
    check(
        "notify = { ops = { slak = \"hunter2\" } }",
        &expect![[r#"
        evenkeel.toml:3:18: error: `notify.ops` does not say how
          = help: expected one of `webhook`, `slack` and `command`
        evenkeel.toml:3:20: error: unknown key `slak` in `notify.ops`
          = help: expected `webhook`, `slack`, `command`, `secret` or `events`
          = help: did you mean `slack`?
    "#]],
    );
    check(
        "notify.ops.slak = \"hunter2\"",
        &expect![[r#"
        evenkeel.toml:3:8: error: `notify.ops` does not say how
          = help: expected one of `webhook`, `slack` and `command`
        evenkeel.toml:3:12: error: unknown key `slak` in `notify.ops`
          = help: expected `webhook`, `slack`, `command`, `secret` or `events`
          = help: did you mean `slack`?
    "#]],
    );
    check(
        "[service.x]\nrun = \"x\"\nwebhook = \"hunter2\"",
        &expect![[r#"
            evenkeel.toml:5:1: error: unknown key `webhook` in `service.x`
              = help: expected `run`, `dir`, `env`, `env_file`, `config`, `secrets`, `secrets_in_env`, `replicas`, `uses`, `health`, `stop`, `limits`, `protocol`, `tls`, `traffic`, `exclusive`, `scale` or `rollout`
        "#]],
    );
}

#[test]
fn the_secrets_of_receivers_are_read_and_a_change_of_them_is_planned() {
    let text = format!(
        "{SERVICE}[notify.ops]\nwebhook = \"file:url\"\nsecret = \"env:KEY\"\n[notify.log]\ncommand = \"./tell\""
    );
    let draft = draft(&text, "/srv/shop");
    let (url, key) = (SecretSource::File("/srv/shop/url".into()), SecretSource::Env("KEY".into()));
    assert_eq!(draft.needs().secrets, [url, key].into());
    let secrets = |key: &str| Materials {
        secrets: [
            ("file:/srv/shop/url".to_owned(), Ok(Digest::of(b"url"))),
            ("env:KEY".to_owned(), Ok(Digest::of(key.as_bytes()))),
        ]
        .into(),
        ..Materials::default()
    };
    let stack =
        |key: &str| crate::spec::draft(&text, "/srv/shop").bind(&secrets(key)).stack.unwrap();
    let (one, two) = (stack("one"), stack("two"));
    assert!(one.notify.values().flat_map(|it| it.secrets()).all(|it| it.digest.is_some()));
    let log = &one.notify[&"log".parse().unwrap()];
    assert!(
        matches!(&log.to, Channel::Command { run, dir } if run == &["./tell"] && dir == "/srv/shop")
    );
    let mut bare = one.clone();
    bare.notify.clear();
    let planned = |old: &_, new: &_| {
        let now = Now { stack: old, services: [].into(), next: [].into(), leads_back: false };
        let plan = plan::plan(&now, new);
        let notify = plan.changes.iter().filter(|it| it.component.starts_with("notify"));
        let fields = notify.flat_map(|it| {
            it.fields.iter().map(|field| {
                let Field { field, from, to } = field;
                format!("{} {} {field}: {from:?} -> {to:?}\n", it.action, it.component)
            })
        });
        let told: String = fields.collect();
        format!("{told}{:?} {:?}\n", plan.expand.last(), plan.contract)
    };
    use plan::FieldChange as Field;
    let told = [planned(&bare, &one), planned(&one, &two), planned(&two, &bare)].concat();
    expect![[r#"
        create notify.log command: None -> Some("[\"./tell\"]")
        create notify.ops secret: None -> Some("env:KEY (sha256:7692c3ad3540)")
        create notify.ops webhook: None -> Some("file:/srv/shop/url (sha256:28e5ebabd9d8)")
        Some("tell ops what happens (webhook)") []
        change notify.ops secret: Some("env:KEY (sha256:7692c3ad3540)") -> Some("env:KEY (sha256:3fc4ccfe7458)")
        Some("tell ops otherwise") []
        remove notify.log command: Some("[\"./tell\"]") -> None
        remove notify.ops secret: Some("env:KEY (sha256:3fc4ccfe7458)") -> None
        remove notify.ops webhook: Some("file:/srv/shop/url (sha256:28e5ebabd9d8)") -> None
        Some("start 1 more of web") ["tell log nothing more", "tell ops nothing more"]
    "#]].assert_eq(&told);

    let bound = draft.bind(&Materials {
        secrets: [("env:KEY".to_owned(), Err("the variable is not set".to_owned()))].into(),
        ..Materials::default()
    });
    let told: String = bound.problems.iter().map(|it| it.render("evenkeel.toml", &text)).collect();
    expect![[r#"
        evenkeel.toml:4:11: error: file:/srv/shop/url was not read
        evenkeel.toml:5:10: error: env:KEY could not be read: the variable is not set
    "#]]
    .assert_eq(&told);
}
