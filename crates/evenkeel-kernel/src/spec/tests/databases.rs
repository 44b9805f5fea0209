//! Databases, and who uses them.

use expect_test::expect;

use super::check;
use crate::model::Follows;
use crate::spec::read;

#[test]
fn a_database_and_its_users_agree() {
    check(
        "stack = \"shop\"\n\
         [database.main]\nurl = \"postgres://u:secret@db/shop\"\nschema = \"pg_catalog\"\n\
         [database.other]\nurl = \"env:OTHER\"\nmigration = \"m\"\n\
         [service.web]\nrun = \"./web\"\nuses = [\"database.mian\", \"database.other\"]\n\
         env = { OTHER_URL = \"x\" }\n",
        &expect![[r#"
            evenkeel.toml:3:7: error: `url` does not say where it comes from
              = help: expected `env:NAME`, `file:PATH` or `age:PATH`
              = help: a secret itself never stands in this file
            evenkeel.toml:4:10: error: `pg_catalog` is not a schema of yours
              |
            4 | schema = "pg_catalog"
              |          ^^^^^^^^^^^^ expected the schema that holds your tables
            evenkeel.toml:7:1: error: unknown key `migration` in `database.other`
              |
            7 | migration = "m"
              | ^^^^^^^^^ expected `url`, `owner`, `migrations`, `desired` or `schema`
              = help: did you mean `migrations`?
            evenkeel.toml:10:9: error: there is no database `mian`
               |
            10 | uses = ["database.mian", "database.other"]
               |         ^^^^^^^^^^^^^^^ expected `other`
            evenkeel.toml:11:9: error: `OTHER_URL` is given by `uses`
               |
            11 | env = { OTHER_URL = "x" }
               |         ^^^^^^^^^
               = help: leave it out, or take `database.other` out of `uses`
        "#]],
    );
}

#[test]
fn an_address_is_a_secret_of_whoever_uses_the_database() {
    let text = "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\nmigrations = \"db\"\n\
                [service.web]\nrun = \"./web\"\nuses = \"database.main\"\n\
                [job.fill]\nrun = \"./fill\"\nuses = [\"database.main\"]\n";
    let (stack, problems) = read(text, "/srv");
    assert_eq!(problems, []);
    let stack = stack.unwrap();
    let database = stack.databases.values().next().unwrap();
    assert_eq!(database.migrations.as_deref(), Some("/srv/db"));
    for (name, workload) in stack.workloads() {
        let secret = &workload.secrets["MAIN_URL"];
        assert!(secret.in_env && secret.from.to_string() == "env:DB", "{name}");
        assert_eq!(workload.databases.values().collect::<Vec<_>>(), ["public"], "{name}");
    }
}

#[test]
fn a_schema_follows_migrations_or_a_file_and_not_both() {
    let text = "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\ndesired = \"db/schema.sql\"\n";
    let (stack, problems) = read(text, "/srv");
    assert_eq!(problems, []);
    let database = stack.unwrap().databases.into_values().next().unwrap();
    assert_eq!(database.follows(), Some(Follows::Desired("/srv/db/schema.sql")));
    check(
        "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\ndesired = \"schema.sql\"\n\
         migrations = \"db\"\n",
        &expect![[r#"
            evenkeel.toml:4:11: error: `desired` and `migrations` both say what the schema is
              |
            4 | desired = "schema.sql"
              |           ^^^^^^^^^^^^ expected one of the two
        "#]],
    );
}

#[test]
fn the_address_of_the_owner_is_for_who_changes_the_schema_and_for_no_service() {
    let text = "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\nowner = \"env:OWNER\"\n\
                migrations = \"db\"\n[service.web]\nrun = \"./web\"\nuses = \"database.main\"\n";
    let (stack, problems) = read(text, "/srv");
    assert_eq!(problems, []);
    let stack = stack.unwrap();
    let database = stack.databases.values().next().unwrap();
    assert_eq!(database.schema_url().from.to_string(), "env:OWNER");
    let kept: Vec<String> = stack.kept_secrets().map(|it| it.from.to_string()).collect();
    assert_eq!(kept, ["env:DB", "env:OWNER"]);
    for (_, workload) in stack.workloads() {
        let given = workload.secrets.iter().map(|(name, it)| format!("{name} {}", it.from));
        assert_eq!(given.collect::<Vec<_>>(), ["MAIN_URL env:DB"]);
    }
    check(
        "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\nowner = \"postgres://o:secret@db/s\"\n\
         [database.other]\nurl = \"env:DB\"\nadmin_url = \"env:OWNER\"\n",
        &expect![[r#"
            evenkeel.toml:4:9: error: `owner` does not say where it comes from
              = help: expected `env:NAME`, `file:PATH` or `age:PATH`
              = help: a secret itself never stands in this file
            evenkeel.toml:7:1: error: unknown key `admin_url` in `database.other`
              = help: expected `url`, `owner`, `migrations`, `desired` or `schema`
              = help: it is called `owner` here
        "#]],
    );
    check(
        "stack = \"shop\"\n[database.main]\nurl = \"env:DB\"\nowner = \"env:OWNER\"\n",
        &expect![[r#"
            evenkeel.toml:4:9: error: nothing here changes the schema, so `owner` is not used
              = help: say `migrations` or `desired`, or leave it out
        "#]],
    );
}
