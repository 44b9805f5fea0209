//! A small part of Consul's filter expressions: `Service.Meta.rev == "r2" and "a" in ServiceTags`.

use serde_json::Value;

/// The longest expression.
const LENGTH_MAX: usize = 1_024;
/// How deep brackets may be.
const DEPTH_MAX: usize = 16;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Is(Vec<String>, String),
    Has(Vec<String>, String),
    Empty(Vec<String>),
}

impl Filter {
    /// Reads an expression; the error is for whoever sent it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("a filter has at most {LENGTH_MAX} bytes"));
        }
        let mut reader = Reader { words: words(text)?, at: 0 };
        let filter = reader.either(DEPTH_MAX)?;
        match reader.peek() {
            None => Ok(filter),
            Some(word) => Err(format!("nothing is expected at {word:?}")),
        }
    }

    /// Whether it is true of a value.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::And(a, b) => a.holds(value) && b.holds(value),
            Self::Or(a, b) => a.holds(value) || b.holds(value),
            Self::Not(it) => !it.holds(value),
            Self::Is(path, text) => any(value, path, &|it| is(it, text)),
            Self::Has(path, text) => any(value, path, &|it| has(it, text)),
            Self::Empty(path) => !any(value, path, &|it| !is_empty(it)),
        }
    }
}

/// Whether something holds at a path; of lists on the way, for one of their elements.
fn any(value: &Value, path: &[String], holds: &dyn Fn(&Value) -> bool) -> bool {
    match (path.split_first(), value) {
        (None, _) => holds(value),
        (Some(_), Value::Array(list)) => list.iter().any(|it| any(it, path, holds)),
        (Some((key, rest)), _) => value.get(key).is_some_and(|it| any(it, rest, holds)),
    }
}

fn is(value: &Value, text: &str) -> bool {
    match value {
        Value::String(it) => it == text,
        Value::Number(it) => it.to_string() == text,
        Value::Bool(it) => text == if *it { "true" } else { "false" },
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn has(value: &Value, text: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|it| is(it, text)),
        Value::Object(map) => map.contains_key(text),
        Value::String(it) => it.contains(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Sign(&'static str),
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let sign = ["==", "!=", "(", ")"].into_iter().find(|sign| rest.starts_with(sign));
        if let Some(sign) = sign {
            words.push(Word::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or_default();
        } else if matches!(first, '"' | '`') {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find(first).ok_or("a quote is not closed")?;
            let (quoted, tail) = inner.split_at(end);
            words.push(Word::Quoted(quoted.to_owned()));
            rest = tail.get(1..).unwrap_or_default();
        } else {
            // A key in brackets, `Meta["a b"]`, belongs to the word.
            let mut open = false;
            let ends = |c: char| {
                if matches!(c, '[' | ']') {
                    open = c == '[';
                }
                !open && (c.is_whitespace() || matches!(c, '(' | ')' | '=' | '!' | '"'))
            };
            let end = rest.find(ends).unwrap_or(rest.len());
            let (bare, tail) = rest.split_at(end);
            if bare.is_empty() {
                return Err(format!("nothing begins with `{first}`"));
            }
            words.push(Word::Bare(bare.to_owned()));
            rest = tail;
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

struct Reader {
    words: Vec<Word>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Option<Word> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let found = match self.peek() {
            Some(Word::Bare(word)) => word == wanted,
            Some(Word::Sign(sign)) => *sign == wanted,
            Some(Word::Quoted(_)) | None => false,
        };
        self.at += usize::from(found);
        found
    }

    fn either(&mut self, depth: usize) -> Result<Filter, String> {
        let mut left = self.both(depth)?;
        while self.takes("or") {
            left = Filter::Or(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Filter, String> {
        let mut left = self.one(depth)?;
        while self.takes("and") {
            left = Filter::And(Box::new(left), Box::new(self.one(depth)?));
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Filter, String> {
        let depth = depth.checked_sub(1).ok_or("it is too deep")?;
        if self.takes("not") {
            return Ok(Filter::Not(Box::new(self.one(depth)?)));
        }
        if self.takes("(") {
            let inner = self.either(depth)?;
            return if self.takes(")") { Ok(inner) } else { Err("a `)` is missing".to_owned()) };
        }
        let first = self.next().ok_or("it ends too early")?;
        if self.takes("in") {
            return Ok(Filter::Has(self.path()?, text(first)?));
        }
        if self.takes("not") {
            if self.takes("in") {
                return Ok(Filter::Not(Box::new(Filter::Has(self.path()?, text(first)?))));
            }
            return Err("`in` is expected after `not`".to_owned());
        }
        let path = path(first)?;
        if self.takes("==") {
            return Ok(Filter::Is(path, self.text()?));
        }
        if self.takes("!=") {
            return Ok(Filter::Not(Box::new(Filter::Is(path, self.text()?))));
        }
        if self.takes("contains") {
            return Ok(Filter::Has(path, self.text()?));
        }
        if self.takes("is") {
            let not = self.takes("not");
            if self.takes("empty") {
                let empty = Filter::Empty(path);
                return Ok(if not { Filter::Not(Box::new(empty)) } else { empty });
            }
        }
        Err("there are `==`, `!=`, `in`, `not in`, `contains`, `is empty`, `is not empty`"
            .to_owned())
    }

    fn text(&mut self) -> Result<String, String> {
        text(self.next().ok_or("it ends too early")?)
    }

    fn path(&mut self) -> Result<Vec<String>, String> {
        path(self.next().ok_or("it ends too early")?)
    }
}

fn text(word: Word) -> Result<String, String> {
    match word {
        Word::Bare(text) | Word::Quoted(text) => Ok(text),
        Word::Sign(sign) => Err(format!("a value is expected instead of `{sign}`")),
    }
}

/// `Service.Meta.rev`, `Meta["a b"]`, `Meta[rev]`
fn path(word: Word) -> Result<Vec<String>, String> {
    let Word::Bare(text) = word else { return Err("a name is expected".to_owned()) };
    let (plain, key) = match text.split_once('[') {
        None => (text.as_str(), None),
        Some((plain, key)) => (plain, Some(key.trim_end_matches(']').trim_matches('"'))),
    };
    Ok(plain.split('.').chain(key).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(filter: &str) -> bool {
        let value = serde_json::json!({
            "Service": {"Service": "web", "Tags": ["r1", "a"], "Port": 80, "Meta": {"rev": "r1", "a b": "c"}},
            "Checks": [{"Status": "passing"}, {"Status": "critical"}],
            "Empty": [],
        });
        Filter::read(filter).unwrap().holds(&value)
    }

    #[test]
    fn what_holds_of_a_value() {
        for yes in [
            "Service.Meta.rev == r1",
            "Service.Meta.rev == \"r1\" and Service.Port == 80",
            "\"a\" in Service.Tags",
            "Service.Tags contains `r1`",
            "b not in Service.Tags",
            "Service.Meta[\"a b\"] == c",
            "Checks.Status == critical",
            "not (Service.Port != 80 or Service.Service == other)",
            "Empty is empty and Service.Tags is not empty",
            "rev in Service.Meta",
            "Nothing is empty",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["Service.Meta.rev == r2", "Nothing == 1", "Service == web", "x in Checks.Status"]
        {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        let deep = format!("{}a == b", "(".repeat(40));
        for bad in [
            "",
            "a",
            "a ==",
            "a == b c",
            "(a == b",
            "a == \"b",
            "== b",
            "!",
            &deep,
            &"a".repeat(2_000),
        ] {
            assert!(Filter::read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[a-c\"`.()=!\\[\\]é ]{0,60}|(a|b|and|or|not|in|==|\"x\"| |\\(|\\)){0,20}") {
            if let Ok(filter) = Filter::read(&text) {
                filter.holds(&serde_json::json!({"a": ["b"], "b": {"c": 1}}));
            }
        }
    }
}
