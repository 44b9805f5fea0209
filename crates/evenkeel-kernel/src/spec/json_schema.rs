//! The JSON Schema of the stack file, for editors: the description once more, as draft 2020-12.
//!
//! It says what one value alone can say; what several keys must agree on is only checked by
//! reading the file.

use serde_json::{Map, Value, json};

use super::keys::STACK;
use super::quantity::{CPU, PERCENT, SIZE, SPAN};
use super::schema::{Key, Kind, Preset, Table};
use super::service::SIGNALS;

const NAME: &str = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const HOST: &str = "^[A-Za-z0-9.-]+$";
const HOST_PATTERN: &str = "^([*][.])?[A-Za-z0-9.-]+$";
const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
const MOMENT: &str = "^([A-Za-z]{3}|[0-9]{4}-[0-9]{2}-[0-9]{2})([ T][0-9]{2}:[0-9]{2})?$";
const ZONE: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*)*$";
const URL_PATH: &str = "^/[^?#\\s]*$";
const SECRET: &str = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|age:.+)$";
const URL: &str = "^(https?://.+|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|age:.+)$";
const ADDRESS: &str = "^(([0-9]{1,3}[.]){3}[0-9]{1,3}|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$";
/// Where the schema of the file says it comes from.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The whole schema, as JSON text.
#[must_use]
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    define(&STACK, &mut definitions);
    let mut root = definitions.remove(STACK.id).unwrap_or_default();
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!(DIALECT));
        root.insert("title".to_owned(), json!("evenkeel.toml"));
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let mut text = serde_json::to_string_pretty(&root).expect("a JSON value has text keys");
    text.push('\n');
    text
}

fn define(of: &Table, definitions: &mut Map<String, Value>) {
    let properties: Map<String, Value> =
        of.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        of.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let definition = json!({
        "type": "object",
        "description": of.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    definitions.insert(of.id.to_owned(), definition);
    for key in of.keys {
        if let Kind::Table(of)
        | Kind::FlagOr(of)
        | Kind::Tables { of, .. }
        | Kind::List { of, .. } = key.kind
        {
            define(of, definitions);
        }
    }
}

fn property(key: &Key) -> Value {
    let mut schema = of(key.kind);
    if let Some(schema) = schema.as_object_mut() {
        let only = key.strategy.map(|owner| format!(" Only with strategy `{owner}`."));
        let otherwise = match key.preset {
            Preset::Words(words) => format!(" Otherwise {words}."),
            Preset::Value(_) | Preset::None => String::new(),
        };
        let doc = format!("{}{otherwise}{}", key.doc, only.unwrap_or_default());
        schema.insert("description".to_owned(), json!(doc));
        if let Some(preset) = preset(key) {
            schema.insert("default".to_owned(), preset);
        }
    }
    schema
}

/// The default as JSON: the presets of the description are texts, numbers and flags, which TOML
/// and JSON write alike.
fn preset(key: &Key) -> Option<Value> {
    match key.preset {
        Preset::Value(value) => serde_json::from_str(&value()).ok(),
        Preset::Words(_) | Preset::None => None,
    }
}

fn of(kind: Kind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let one_or_many = |one: Value| json!({ "anyOf": [one, { "type": "array", "items": one }] });
    let any_text = json!({ "type": "string", "minLength": 1 });
    match kind {
        Kind::Name => text(NAME),
        Kind::Text => any_text,
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Yes => json!({ "const": true }),
        Kind::YesOrText => json!({ "anyOf": [{ "const": true }, any_text] }),
        Kind::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Span { .. } => text(SPAN),
        Kind::Size { min } => {
            json!({ "anyOf": [text(SIZE), { "type": "integer", "minimum": min }] })
        }
        Kind::Number => json!({ "type": "number" }),
        Kind::Cpu => json!({ "anyOf": [text(CPU), { "type": "number", "exclusiveMinimum": 0 }] }),
        Kind::Weight | Kind::Part => text(PERCENT),
        Kind::Share => {
            let most = super::keys::REPLICAS_MAX;
            let count = json!({ "type": "integer", "minimum": 0, "maximum": most });
            json!({ "anyOf": [text(PERCENT), count] })
        }
        Kind::Command => json!({ "anyOf": [
            any_text,
            { "type": "array", "minItems": 1, "items": { "type": "string" } },
        ] }),
        Kind::Texts => one_or_many(any_text),
        Kind::Service => text(&reference()),
        Kind::Services => one_or_many(text(&reference())),
        Kind::Variables => json!({
            "type": "object",
            "propertyNames": { "pattern": VARIABLE },
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Signal => {
            let long: Vec<String> = SIGNALS.iter().map(|name| format!("SIG{name}")).collect();
            let all: Vec<&str> =
                SIGNALS.iter().copied().chain(long.iter().map(String::as_str)).collect();
            json!({ "enum": all })
        }
        Kind::Host => text(HOST),
        Kind::HostPattern => text(HOST_PATTERN),
        Kind::Headers => json!({
            "type": "object",
            "propertyNames": { "pattern": TOKEN },
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Kind::Address => text(ADDRESS),
        Kind::UrlPath => text(URL_PATH),
        Kind::Url => text(URL),
        Kind::Secret => text(SECRET),
        Kind::Addresses => one_or_many(text(ADDRESS)),
        Kind::Moment => text(MOMENT),
        Kind::Zone => text(ZONE),
        Kind::FlagOr(table) => json!({ "anyOf": [
            { "$ref": format!("#/$defs/{}", table.id) },
            { "type": "boolean" },
        ] }),
        Kind::Table(table) => {
            let whole = json!({ "$ref": format!("#/$defs/{}", table.id) });
            match table.short.and_then(|short| table.key(short)) {
                Some(short) => json!({ "anyOf": [whole, of(short.kind)] }),
                None => whole,
            }
        }
        Kind::Tables { of, max } => json!({
            "type": "object",
            "maxProperties": max,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": { "$ref": format!("#/$defs/{}", of.id) },
        }),
        Kind::List { of, max } => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": max,
            "items": { "$ref": format!("#/$defs/{}", of.id) },
        }),
    }
}

/// `web` or `service.web`.
fn reference() -> String {
    NAME.replace('^', "^(service[.])?")
}
