//! The walk through a file along its description: TOML tables in, typed fields out.
//!
//! Knows kinds, not meanings: that a service exists or that two keys exclude each other is the
//! builders' to say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::hint::{as_name, brief};
use super::problem::{Mistake, Mistakes};
use super::schema::{Key, Kind, Table, nearest, one_of};
use super::value;
use crate::model::{Number, ServiceName, Share, Weight};

/// A range of bytes in the file.
pub(crate) type Span = Range<usize>;

/// A value that is what its key asks for.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    Count(u64),
    Span(Duration),
    Cpu(u32),
    Number(Number),
    Weight(Weight),
    Share(Share),
    Texts(Vec<(String, Span)>),
    Variables(BTreeMap<String, (String, Span)>),
    Addresses(Vec<(SocketAddr, Span)>),
    Fields(Fields),
    Named(Vec<Named>),
    List(Vec<Fields>),
}

/// A table with a name of its own.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) span: Span,
    /// `None` where something else stands in its place.
    pub(crate) fields: Option<Fields>,
}

/// What stands at a key.
#[derive(Debug)]
pub(crate) struct Field {
    /// Where the key is.
    pub(crate) key: Span,
    /// Where the value is.
    pub(crate) span: Span,
    /// `None` if it is not what the key asks for, which has been said.
    value: Option<Value>,
}

/// A table that has been checked.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) span: Span,
    pub(crate) path: String,
    fields: BTreeMap<&'static str, Field>,
}

/// Reads a field's value as a type.
macro_rules! reader {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(crate) fn $name(&self, key: &str) -> Option<&$type> {
            match self.value(key)? {
                Value::$variant(it) => Some(it),
                other => {
                    debug_assert!(false, "`{key}` is described otherwise: {other:?}");
                    None
                }
            }
        }
    };
}

impl Fields {
    reader!(text, Text, String);
    reader!(flag, Flag, bool);
    reader!(span, Span, Duration);
    reader!(cpu, Cpu, u32);
    reader!(number, Number, Number);
    reader!(weight, Weight, Weight);
    reader!(share, Share, Share);
    reader!(texts, Texts, Vec<(String, Span)>);
    reader!(variables, Variables, BTreeMap<String, (String, Span)>);
    reader!(addresses, Addresses, Vec<(SocketAddr, Span)>);
    reader!(table, Fields, Self);
    reader!(named, Named, Vec<Named>);
    reader!(list, List, Vec<Self>);
    reader!(long, Count, u64);

    pub(crate) fn count(&self, key: &str) -> Option<u32> {
        self.long(key).map(|count| u32::try_from(*count).unwrap_or(u32::MAX))
    }
}

impl Fields {
    fn value(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)?.value.as_ref()
    }

    /// A flag, or a table in its place.
    pub(crate) fn flag_or_table(&self, key: &str) -> Option<Result<bool, &Self>> {
        let value = self.value(key)?;
        if let Value::Flag(flag) = value {
            return Some(Ok(*flag));
        }
        let Value::Fields(fields) = value else {
            debug_assert!(false, "`{key}` is described otherwise: {value:?}");
            return None;
        };
        Some(Err(fields))
    }

    /// What stands at a key, right or wrong.
    pub(crate) fn field(&self, key: &str) -> Option<&Field> {
        self.fields.get(key)
    }

    /// The first of these keys that is there, right or wrong.
    pub(crate) fn first<'s>(&'s self, keys: &[&'static str]) -> Option<(&'static str, &'s Field)> {
        keys.iter().find_map(|key| Some((*key, self.fields.get(*key)?)))
    }

    /// Where a key's value is; where the table is, if there is none.
    pub(crate) fn place(&self, key: &str) -> Span {
        self.fields.get(key).map_or(&self.span, |field| &field.span).clone()
    }

    /// The path of a key.
    pub(crate) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// Checks a table and everything below it.
pub(crate) fn table(
    of: &'static Table,
    table: &DeTable<'_>,
    span: Span,
    path: String,
    mistakes: &mut Mistakes,
) -> Fields {
    let mut fields = BTreeMap::new();
    let mut meant = Vec::new();
    for (name, value) in table {
        let Some(key) = of.key(name.get_ref()) else {
            meant.extend(meant_by(of, name.get_ref()));
            mistakes.add(unknown(of, name, &path));
            continue;
        };
        let at = join(&path, key.name);
        let field = Field {
            key: name.span(),
            span: value.span(),
            value: read(key.kind, value, &name.span(), &at, mistakes),
        };
        fields.insert(key.name, field);
    }
    // A key that is there under another name is not missing too.
    let absent = |key: &&Key| !fields.contains_key(key.name) && !meant.contains(&key.name);
    for key in of.keys.iter().filter(|key| key.required).filter(absent) {
        mistakes.add(missing(key, &span, &path));
    }
    Fields { span, path, fields }
}

fn read(
    kind: Kind,
    value: &Spanned<DeValue<'_>>,
    key: &Span,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Value> {
    match (kind, value.get_ref()) {
        (Kind::Table(of) | Kind::FlagOr(of), DeValue::Table(inner)) => {
            Some(Value::Fields(table(of, inner, value.span(), path.to_owned(), mistakes)))
        }
        (Kind::Table(of), bare) => short(of, bare, value, key, path, mistakes).map(Value::Fields),
        (Kind::Tables { of, max }, DeValue::Table(inner)) => {
            bounded(inner.len(), max, key, path, mistakes)?;
            Some(Value::Named(inner.iter().map(|it| named(of, it, path, mistakes)).collect()))
        }
        (Kind::List { of, max }, DeValue::Array(inner)) => {
            list(of, max, inner, &value.span(), path, mistakes).map(Value::List)
        }
        (_, _) => value::read(kind, value, path, mistakes),
    }
}

/// `health = "/healthz"`: a bare value where a table may stand.
fn short(
    of: &'static Table,
    bare: &DeValue<'_>,
    value: &Spanned<DeValue<'_>>,
    key: &Span,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Fields> {
    let meant = of.short.and_then(|short| of.key(short));
    let (Some(meant), DeValue::String(_)) = (meant, bare) else {
        let wrong = Mistake::at(&value.span(), path, value::wrong_type(path, bare));
        let hint = (!of.header.is_empty())
            .then(|| format!("write `{} = {}`", last(path), example_table(of)));
        mistakes.add(wrong.expected(Kind::Table(of).expected()).hint(hint));
        return None;
    };
    let inner = read(meant.kind, value, key, &join(path, meant.name), mistakes);
    let field = Field { key: key.clone(), span: value.span(), value: inner };
    let fields = BTreeMap::from([(meant.name, field)]);
    Some(Fields { span: value.span(), path: path.to_owned(), fields })
}

fn example_table(of: &Table) -> String {
    let first = of.keys.iter().find(|key| key.required).or(of.keys.first());
    first.map_or_else(String::new, |key| format!("{{ {} = {} }}", key.name, key.example))
}

fn named(
    of: &'static Table,
    (name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>),
    path: &str,
    mistakes: &mut Mistakes,
) -> Named {
    let word = brief(name.get_ref());
    let at = join(path, &word);
    // Every name is a DNS label; services stand for all of them here.
    if name.get_ref().parse::<ServiceName>().is_err() {
        let wrong = format!("`{word}` is not a name for a {}", of.id);
        let hint = as_name(name.get_ref()).map(|name| format!("write `{name}`"));
        mistakes
            .add(Mistake::at(&name.span(), &at, wrong).expected(Kind::Name.expected()).hint(hint));
    }
    let fields = match value.get_ref().as_table() {
        Some(inner) => Some(table(of, inner, value.span(), at, mistakes)),
        None => {
            let known = of.key(name.get_ref()).map(|key| key.name);
            let hint = match (known, value.get_ref().is_array()) {
                (Some(key), _) => Some(format!("`{key}` goes below `{}`", of.header)),
                (None, true) => Some(format!("write `[{at}]`, in single brackets")),
                (None, false) => None,
            };
            let wrong = format!("`{word}` is {}", value::type_of(value.get_ref()));
            let expected = format!("a table `{}`", of.header);
            mistakes.add(Mistake::at(&name.span(), &at, wrong).expected(expected).hint(hint));
            None
        }
    };
    Named { name: name.get_ref().clone().into_owned(), span: name.span(), fields }
}

fn list(
    of: &'static Table,
    max: usize,
    elements: &DeArray<'_>,
    span: &Span,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<Fields>> {
    if elements.is_empty() {
        let expected = Kind::List { of, max }.expected();
        mistakes
            .add(Mistake::at(span, path, format!("`{}` is empty", last(path))).expected(expected));
        return None;
    }
    bounded(elements.len(), max, span, path, mistakes)?;
    let mut all = Vec::with_capacity(elements.len());
    for (number, element) in elements.iter().enumerate() {
        let at = format!("{path}[{number}]");
        if let Some(inner) = element.get_ref().as_table() {
            all.push(table(of, inner, element.span(), at, mistakes));
            continue;
        }
        let wrong = format!("this {} is {}", of.id, value::type_of(element.get_ref()));
        mistakes.add(
            Mistake::at(&element.span(), &at, wrong)
                .expected(format!("a table such as `{}`", example_table(of))),
        );
    }
    // A list with a hole would make its neighbours look wrong.
    (all.len() == elements.len()).then_some(all)
}

fn bounded(count: usize, max: usize, at: &Span, path: &str, mistakes: &mut Mistakes) -> Option<()> {
    if count > max {
        let wrong = format!("`{}` has {count} entries", last(path));
        mistakes.add(Mistake::at(at, path, wrong).expected(format!("at most {max}")));
        return None;
    }
    Some(())
}

fn unknown(of: &'static Table, name: &Spanned<DeString<'_>>, path: &str) -> Mistake {
    let word = brief(name.get_ref());
    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    let names: Vec<&str> = of.keys.iter().map(|key| key.name).collect();
    Mistake::at(&name.span(), &join(path, &word), format!("unknown key `{word}`{place}"))
        .expected(one_of(&names))
        .hint(suggestion(of, name.get_ref()))
}

/// What an unknown key was most likely meant to be.
fn suggestion(of: &'static Table, word: &str) -> Option<String> {
    match (meant_by(of, word), deeper(of, word)) {
        (Some(name), _) if nearest(word, [name]).is_some() => {
            Some(format!("did you mean `{name}`?"))
        }
        (Some(name), _) => Some(format!("it is called `{name}` here")),
        (None, Some((parent, key))) => Some(format!("`{}` belongs in `{}`", key.name, parent.name)),
        (None, None) => None,
    }
}

/// The key of this table that a word stands for: what other tools call it, or the nearest.
fn meant_by(of: &'static Table, word: &str) -> Option<&'static str> {
    let elsewhere = of.keys.iter().find(|key| key.elsewhere.contains(&word)).map(|key| key.name);
    elsewhere.or_else(|| nearest(word, of.keys.iter().map(|key| key.name)))
}

/// The key of that name one table further down, and the key of that table.
fn deeper(of: &'static Table, word: &str) -> Option<(&'static Key, &'static Key)> {
    of.keys.iter().find_map(|key| {
        let (Kind::Table(inner) | Kind::FlagOr(inner)) = key.kind else { return None };
        Some((key, inner.key(word)?))
    })
}

fn missing(key: &Key, span: &Span, path: &str) -> Mistake {
    let owner = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
    // A header or an inline table is marked whole; the file is marked at its beginning.
    let span = if path.is_empty() { 0..0 } else { span.clone() };
    Mistake::at(&span, &join(path, key.name), format!("{owner} needs `{}`", key.name))
        .expected(key.kind.expected())
        .hint(format!("write `{} = {}`", key.name, key.example))
        .absence()
}

/// The last part of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
