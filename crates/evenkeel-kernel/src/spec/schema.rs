//! What a description of the stack file is made of: tables, keys and the kinds of their values.
//!
//! One description serves three readers: the check of a file, the reference for people and the
//! JSON Schema for editors. The description itself is in [`super::keys`].

use std::time::Duration;

use crate::time::human;

/// The longest word that is compared with known ones, in bytes: names end at 63, and comparing
/// takes time and memory in the length of both.
const WORD_MAX: usize = 80;

/// One kind of table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its name among the definitions of the JSON Schema.
    pub(crate) id: &'static str,
    /// Its header as one writes it.
    pub(crate) header: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// What may be in it.
    pub(crate) keys: &'static [Key],
    /// The key that a bare value in place of the table stands for.
    pub(crate) short: Option<&'static str>,
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) preset: Preset,
    /// What it means, in one or two sentences.
    pub(crate) doc: &'static str,
    /// A value, as TOML.
    pub(crate) example: &'static str,
    /// The one strategy it belongs to.
    pub(crate) strategy: Option<&'static str>,
    /// What other tools call it; a suggestion comes from here before spelling is compared.
    pub(crate) elsewhere: &'static [&'static str],
}

/// What holds when a key is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Preset {
    /// Nothing.
    None,
    /// This value, as TOML, taken from the model.
    Value(fn() -> String),
    /// Something that depends.
    Words(&'static str),
}

impl Key {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            required: false,
            preset: Preset::None,
            doc,
            example,
            strategy: None,
            elsewhere: &[],
        }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) const fn preset(mut self, value: fn() -> String) -> Self {
        self.preset = Preset::Value(value);
        self
    }

    pub(crate) const fn otherwise(mut self, words: &'static str) -> Self {
        self.preset = Preset::Words(words);
        self
    }

    pub(crate) const fn only(mut self, strategy: &'static str) -> Self {
        self.strategy = Some(strategy);
        self
    }

    pub(crate) const fn elsewhere(mut self, names: &'static [&'static str]) -> Self {
        self.elsewhere = names;
        self
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A DNS label.
    Name,
    /// Any text but an empty one.
    Text,
    /// `true` or `false`.
    Flag,
    /// `true`.
    Yes,
    /// `true`, or a text that says more.
    YesOrText,
    /// A whole number.
    Count { min: u64, max: u64 },
    /// A duration, in milliseconds.
    Span { min: u64, max: u64 },
    /// An amount of bytes.
    Size { min: u64 },
    /// Processor time.
    Cpu,
    /// Any number.
    Number,
    /// A part of the whole, more than nothing and less than all.
    Weight,
    /// A part, up to the whole.
    Part,
    /// A number of instances or a part of the replicas.
    Share,
    /// A program and its arguments.
    Command,
    /// Texts, or one.
    Texts,
    /// A service of this file.
    Service,
    /// Services of this file, or one.
    Services,
    /// Environment variables.
    Variables,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A signal.
    Signal,
    /// A host name.
    Host,
    /// A host name, or a wildcard before one.
    HostPattern,
    /// Values by the names of headers or cookies.
    Headers,
    /// An address with its port.
    Address,
    /// A path of a URL.
    UrlPath,
    /// A URL, or where one is read from.
    Url,
    /// Where a secret is read from.
    Secret,
    /// Addresses with ports, or one.
    Addresses,
    /// A date or a day of the week, with a time of day if need be.
    Moment,
    /// The name of a time zone.
    Zone,
    /// `true`, `false`, or a table that says more.
    FlagOr(&'static Table),
    /// One table.
    Table(&'static Table),
    /// Tables by name.
    Tables { of: &'static Table, max: usize },
    /// A list of tables.
    List { of: &'static Table, max: usize },
}

impl Kind {
    /// What would be right there.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Name => {
                "a name: 1 to 63 lower-case letters, digits and dashes, beginning with a letter"
                    .to_owned()
            }
            Self::Text => "a text".to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Yes => "`true`".to_owned(),
            Self::YesOrText => "`true`, or a text".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Span { min, max } => {
                format!("a duration from \"{}\" to \"{}\"", span_text(min), span_text(max))
            }
            Self::Size { min } => {
                format!(
                    "a size such as \"64MiB\", at least \"{}\"",
                    super::quantity::size_text(min)
                )
            }
            Self::Number => "a number".to_owned(),
            Self::Cpu => "cores: 0.5, \"500m\" or \"50%\"".to_owned(),
            Self::Part => "a part such as \"50%\", at most \"100%\"".to_owned(),
            Self::Weight => "a part such as \"5%\", more than 0 and less than 100 %".to_owned(),
            Self::Share => "a number of instances, or a part such as \"25%\"".to_owned(),
            Self::Command => {
                "a list of arguments, or one text that is split like a shell would".to_owned()
            }
            Self::Texts => "a list of texts, or one text".to_owned(),
            Self::Service => "the name of a service".to_owned(),
            Self::Services => "a list of services".to_owned(),
            Self::Variables => "a table of NAME = \"value\"".to_owned(),
            Self::Choice(choices) => one_of(choices),
            Self::Signal => one_of(super::service::SIGNALS),
            Self::Host => "a host name such as \"shop.example.com\", without a port".to_owned(),
            Self::HostPattern => {
                "a host name such as \"shop.example.com\" or \"*.example.com\", without a port"
                    .to_owned()
            }
            Self::Headers => "a table of NAME = \"value\"".to_owned(),
            Self::UrlPath => "a path that begins with `/`".to_owned(),
            Self::Url => {
                "a URL that begins with `https://` or `http://`, or where it is read from: \
                 `env:NAME`, `file:PATH` or `age:PATH`"
                    .to_owned()
            }
            Self::Secret => "`env:NAME`, `file:PATH` or `age:PATH`".to_owned(),
            Self::Address | Self::Addresses => {
                "an address with its port, such as \"127.0.0.1:8080\"".to_owned()
            }
            Self::Moment => {
                "a moment such as \"Fri 16:00\", \"2026-12-20\" or \"2026-12-20 16:00\"".to_owned()
            }
            Self::Zone => "a time zone such as \"Europe/Berlin\"".to_owned(),
            Self::FlagOr(_) => "`true`, `false` or a table".to_owned(),
            Self::Table(table) => match table.short.and_then(|short| table.key(short)) {
                Some(key) => format!("a table, or {}", key.kind.expected()),
                None => "a table".to_owned(),
            },
            Self::Tables { of, .. } => format!("tables `{}`", of.header),
            Self::List { of, max } => {
                let keys: Vec<&str> = of.keys.iter().map(|key| key.name).collect();
                format!(
                    "a list of 1 to {max} tables with {}",
                    one_of(&keys).replace(" or ", " and ")
                )
            }
        }
    }
}

/// A duration the way people write it.
pub(crate) fn span_text(ms: u64) -> String {
    const DAY: u64 = 24 * 60 * 60 * 1_000;
    match ms {
        0 => "0s".to_owned(),
        // One day is 24h, as people say of bounds.
        _ if ms > DAY && ms.is_multiple_of(DAY) => format!("{}d", ms / DAY),
        _ => human(Duration::from_millis(ms)),
    }
}

/// `a`, `b` or `c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The name among `known` that a person who wrote `word` most likely meant.
pub(crate) fn nearest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if word.len() > WORD_MAX {
        return None;
    }
    let word = word.to_lowercase();
    // A third of the letters may be wrong: `helth` is `health`, but `port` is not `host`.
    let tolerated = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, name), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, name)| name)
}
