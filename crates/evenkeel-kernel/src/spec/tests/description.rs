//! The description against the reader: examples, defaults and the JSON Schema.

use expect_test::expect_file;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::spec::keys::STACK;
use crate::spec::schema::{Key, Kind, Preset, Table};
use crate::spec::{json_schema, read};

/// A file in which `line` stands below the header of the table it is a key of.
fn file(of: &Table, key: &Key, line: &str) -> String {
    let strategy = key.strategy.map(|it| format!("strategy = \"{it}\"\n")).unwrap_or_default();
    let (top, web, route) = match of.id {
        "stack" if key.name == "stack" => (line, "", ""),
        "service" if key.name == "run" => ("", line, ""),
        "route" if matches!(key.name, "to" | "redirect") => ("", "", line),
        _ => ("", "", ""),
    };
    let redirected = format!("redirect = \"https://a.test\"\n{line}");
    let route = if key.name == "redirect_status" { &redirected } else { route };
    let top = if top.is_empty() { "stack = \"shop\"" } else { top };
    let run = if web.is_empty() { "run = [\"./web\"]" } else { web };
    let to = if route.is_empty() { "to = \"web\"" } else { route };
    let catalog = "[service.catalog]\nrun = \"./catalog\"";
    let base = |above: &str, web: &str, below: &str| {
        format!(
            "{top}\n{above}\n[service.web]\n{run}\n{web}\n{catalog}\n[route.r]\n{to}\n{below}\n"
        )
    };
    match of.id {
        "stack" if matches!(key.kind, Kind::Tables { .. }) => {
            format!("{top}\n{line}\nservice.web.run = \"x\"")
        }
        "stack" if matches!(key.name, "edge" | "pace" | "discovery") => base(line, "", ""),
        "stack" => base("", "", ""),
        "service" if key.name == "run" => base("", "", ""),
        "service" if key.name == "secrets_in_env" => {
            base("", &format!("secrets = {{ STRIPE_KEY = \"env:K\" }}\n{line}"), "")
        }
        "service" => base("", line, ""),
        "job" if key.name == "run" => base("", "", &format!("[job.migrate]\n{line}")),
        "job" if key.name == "secrets_in_env" => {
            let lines = format!("run = \"x\"\nsecrets = {{ STRIPE_KEY = \"env:K\" }}\n{line}");
            base("", "", &format!("[job.migrate]\n{lines}"))
        }
        "job" => base("", "", &format!("[job.migrate]\nrun = \"x\"\n{line}")),
        "route" if matches!(key.name, "to" | "redirect" | "redirect_status") => base("", "", ""),
        "route" => base("", "", line),
        "edge" => base("", "", &format!("[edge]\n{line}")),
        "access_log" => base("", "", &format!("[edge.access_log]\n{line}")),
        "traces" => {
            let beside = if key.name == "to" { "" } else { "to = \"http://c:4318\"\n" };
            base("", "", &format!("[edge.traces]\n{beside}{line}"))
        }
        "freeze" => {
            let other = match key.name {
                "from" => "to = \"Mon 08:00\"",
                "to" => "from = \"Fri 16:00\"",
                _ => "from = \"Fri 16:00\"\nto = \"Mon 08:00\"",
            };
            base("", "", &format!("[freeze.f]\n{other}\n{line}"))
        }
        "discovery" => base("", "", &format!("[discovery]\n{line}")),
        "pace" => base("", "", &format!("[pace]\n{line}")),
        "gate" => {
            let way = if key.name == "secret" { "webhook = \"env:URL\", " } else { "" };
            let step = format!("steps = [{{ weight = \"1%\", gate = {{ {way}{line} }} }}]");
            let steps = format!("strategy = \"canary\"\n{step}");
            base("", "replicas = 9", &format!("[service.web.rollout]\n{steps}"))
        }
        "step" => {
            let beside = matches!(key.name, "bake" | "gate");
            let other = if beside { "weight = \"1%\", " } else { "" };
            let steps = format!("strategy = \"canary\"\nsteps = [{{ {other}{line} }}]");
            base("", "replicas = 9", &format!("[service.web.rollout]\n{steps}"))
        }
        "check" => {
            let beside = match key.name {
                "command" => "",
                "query" => "prometheus = \"http://p:9090\"\nmax = 1",
                "prometheus" => "query = \"up\"\nmax = 1",
                "metrics" => "total = \"a\"\nbad = \"b\"",
                "total" => "metrics = \"/m\"\nbad = \"b\"",
                "bad" => "metrics = \"/m\"\ntotal = \"b\"",
                "json" => "http = \"/x\"\nmax = 1",
                "min" | "max" | "equals" => "http = \"/x\"",
                "http" => "",
                _ => "command = \"true\"",
            };
            base("", "", &format!("[service.web.rollout.check.x]\n{beside}\n{line}"))
        }
        "receiver" => {
            let way = if matches!(key.name, "secret" | "events") {
                "webhook = \"env:URL\"\n"
            } else {
                ""
            };
            let way = if line.is_empty() && way.is_empty() { "command = \"./tell\"" } else { way };
            base("", "", &format!("[notify.ops]\n{way}{line}"))
        }
        "analysis" => base("", "", &format!("[service.web.rollout.analysis]\n{line}")),
        "scale" => {
            let max = if key.name == "max" { "" } else { "max = 10\n" };
            base("", "replicas = 9", &format!("[service.web.scale]\n{max}{line}"))
        }
        "rate" => {
            let beside = if key.name == "requests" { "" } else { "requests = 1\n" };
            base("", "", &format!("[route.r.rate]\n{beside}{line}"))
        }
        "tcp" => {
            let beside = match key.name {
                "listen" => "to = \"web\"",
                "to" => "listen = \"127.0.0.1:9\"",
                _ => "to = \"web\"\nlisten = \"127.0.0.1:9\"",
            };
            base("", "", &format!("[tcp.d]\n{beside}\n{line}"))
        }
        "acme" => base("", "", &format!("[edge.acme]\n{line}")),
        "certificate" => {
            let files = "chain = \"a\"\nkey = \"b\"";
            let beside = match key.name {
                "hosts" => files,
                "chain" => "hosts = \"a.test\"\nkey = \"b\"",
                "key" => "hosts = \"a.test\"\nchain = \"a\"",
                _ => "hosts = \"a.test\"",
            };
            let tls = "[edge]\ntls = \"127.0.0.1:8443\"\n";
            base("", "", &format!("{tls}[certificate.c]\n{beside}\n{line}"))
        }
        "tls" => {
            let beside = match key.name {
                "name" => "ca = \"a\"",
                "ca" => "name = \"a.test\"",
                "chain" => "name = \"a.test\"\nca = \"a\"\nkey = \"b\"",
                _ => "name = \"a.test\"\nca = \"a\"\nchain = \"b\"",
            };
            base("", "", &format!("[service.web.tls]\n{beside}\n{line}"))
        }
        "traffic" => {
            let beside = if key.name == "hash_by" { "balance = \"hash\"\n" } else { "" };
            base("", "", &format!("[service.web.traffic]\n{beside}{line}"))
        }
        "database" => {
            let beside = match key.name {
                "url" => "",
                "owner" => "url = \"env:DB\"\nmigrations = \"m\"\n",
                _ => "url = \"env:DB\"\n",
            };
            base("", "", &format!("[database.main]\n{beside}{line}"))
        }
        "testers" => base("", "", &format!("[service.web.rollout.testers]\n{line}")),
        "mirror" => {
            let beside = if key.name == "share" { "" } else { "share = \"1%\"\n" };
            base("", "", &format!("[service.web.rollout.mirror]\n{beside}{line}"))
        }
        id => base("", "replicas = 9", &format!("[service.web.{id}]\n{strategy}{line}")),
    }
}

fn every_key(of: &'static Table, then: &mut impl FnMut(&'static Table, &'static Key)) {
    for key in of.keys {
        then(of, key);
        if let Kind::Table(inner)
        | Kind::FlagOr(inner)
        | Kind::Tables { of: inner, .. }
        | Kind::List { of: inner, .. } = key.kind
        {
            every_key(inner, then);
        }
    }
}

#[test]
fn every_example_can_be_read_and_matches_the_schema() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    let mut count = 0;
    every_key(&STACK, &mut |of, key| {
        // The whole example of `service` stands where the other tables are written out.
        if of.id == "stack" && matches!(key.kind, Kind::Tables { .. }) {
            return;
        }
        let text = file(of, key, &format!("{} = {}", key.name, key.example));
        let (stack, problems) = read(&text, "/srv");
        assert!(stack.is_some(), "{text}\n{problems:?}");
        assert_eq!(violations(&json(&text), &schema, &schema), [""; 0], "{text}");
        count += 1;
    });
    assert!(count > 45, "{count} keys");
}

#[test]
fn a_default_written_down_changes_nothing() {
    let mut count = 0;
    every_key(&STACK, &mut |of, key| {
        let preset = match key.preset {
            Preset::Value(value) => value(),
            // Words may begin with the value that usually holds.
            Preset::Words(words) => match words.strip_prefix('`').and_then(|it| it.split_once('`'))
            {
                Some((value, _)) => value.to_owned(),
                None => return,
            },
            Preset::None => return,
        };
        let with = read(&file(of, key, &format!("{} = {preset}", key.name)), "/srv");
        let without = read(&file(of, key, ""), "/srv");
        // A step without anything is no step.
        let without =
            if of.id == "step" { read(&file(of, key, "weight = \"1%\""), "/srv") } else { without };
        if of.id != "step" {
            assert_eq!(with, without, "{} = {preset}", key.name);
        }
        assert_eq!(with.1, [], "{} = {preset}", key.name);
        count += 1;
    });
    assert!(count > 20, "{count} defaults");
}

#[test]
fn the_schema_is_what_was_read_by_a_person() {
    expect_file!["../golden/schema.json"].assert_eq(&json_schema());
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let schema: Value = serde_json::from_str(&json_schema()).unwrap();
    for line in [
        "replica = 3",
        "replicas = 0",
        "replicas = \"3\"",
        "run = []",
        "run = 5",
        "env = { \"a b\" = 1 }",
        "env = { A = [] }",
        "uses = [\"No\"]",
        "health = \"healthz\"",
        "health = { interval = 5 }",
        "health = { interval = \"5 minutes\" }",
        "health = { tcp = false }",
        "stop = { signal = \"KILL\" }",
        "limits = { memory = \"64M\" }",
        "limits = { cpu = 0 }",
        "exclusive = \"yes\"",
        "rollout = { strategy = \"cannery\" }",
        "rollout = { strategy = \"canary\", steps = [] }",
        "rollout = { strategy = \"canary\", steps = [{ weight = 5 }] }",
        "rollout = { max_surge = -1 }",
        "scale = { max = 0 }",
        "scale = { min = 2 }",
    ] {
        let run = if line.starts_with("run") { "" } else { "run = \"./web\"\n" };
        let text =
            format!("stack = \"shop\"\n[service.web]\n{run}{line}\n[service.catalog]\nrun = \"x\"");
        assert!(read(&text, "/srv").0.is_none(), "{line}");
        assert_ne!(violations(&json(&text), &schema, &schema), [""; 0], "{line}");
    }
}

/// A file as JSON, for the schema.
fn json(text: &str) -> Value {
    fn table(table: &DeTable<'_>) -> Value {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().clone().into_owned(), one(value.get_ref())));
        Value::Object(entries.collect::<Map<_, _>>())
    }
    fn one(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => Value::from(number.as_str().parse::<i64>().unwrap()),
            DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap()),
            DeValue::Boolean(flag) => Value::from(*flag),
            DeValue::Datetime(date) => Value::from(date.to_string()),
            DeValue::Array(list) => list.iter().map(|it| one(it.get_ref())).collect(),
            DeValue::Table(inner) => table(inner),
        }
    }
    table(DeTable::parse(text).unwrap().get_ref())
}

/// Where a value breaks a schema, for the keywords that the schema uses.
fn violations(value: &Value, schema: &Value, root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, wanted) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                found.extend(violations(value, root.pointer(pointer).unwrap(), root));
                true
            }
            "anyOf" => {
                wanted.as_array().unwrap().iter().any(|one| violations(value, one, root).is_empty())
            }
            "type" => {
                let types: Vec<&Value> =
                    wanted.as_array().map_or(vec![wanted], |it| it.iter().collect());
                types.iter().any(|it| is_type(value, it.as_str().unwrap()))
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| {
                regex_lite::Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)
            }),
            "minLength" => {
                value.as_str().is_none_or(|it| it.len() as u64 >= wanted.as_u64().unwrap())
            }
            "minimum" => value.as_f64().is_none_or(|it| it >= wanted.as_f64().unwrap()),
            "exclusiveMinimum" => value.as_f64().is_none_or(|it| it > wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|it| it <= wanted.as_f64().unwrap()),
            "minItems" => {
                value.as_array().is_none_or(|it| it.len() as u64 >= wanted.as_u64().unwrap())
            }
            "maxItems" => {
                value.as_array().is_none_or(|it| it.len() as u64 <= wanted.as_u64().unwrap())
            }
            "maxProperties" => {
                value.as_object().is_none_or(|it| it.len() as u64 <= wanted.as_u64().unwrap())
            }
            "required" => value.as_object().is_none_or(|it| {
                wanted.as_array().unwrap().iter().all(|key| it.contains_key(key.as_str().unwrap()))
            }),
            "items" => {
                let items = value.as_array().into_iter().flatten();
                found.extend(items.flat_map(|item| violations(item, wanted, root)));
                true
            }
            "propertyNames" => {
                let names = value.as_object().into_iter().flat_map(|it| it.keys());
                let names = names.map(|name| Value::from(name.as_str()));
                found.extend(names.flat_map(|name| violations(&name, wanted, root)));
                true
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if let Some(one) = wanted.get(name) {
                        found.extend(violations(inner, one, root));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                let extra = |name: &&String| known.is_none_or(|it| it.get(name.as_str()).is_none());
                let entries: Vec<_> = value.as_object().into_iter().flatten().collect();
                let mut extras = entries.iter().filter(|(name, _)| extra(name)).map(|it| it.1);
                match wanted.as_bool() {
                    Some(allowed) => allowed || extras.next().is_none(),
                    None => extras.all(|inner| violations(inner, wanted, root).is_empty()),
                }
            }
            "description" | "default" | "title" | "$schema" | "$defs" => true,
            unknown => panic!("the schema uses `{unknown}`, which this does not know"),
        };
        if !holds {
            found.push(format!("{value} breaks {keyword} {wanted}"));
        }
    }
    found
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}
