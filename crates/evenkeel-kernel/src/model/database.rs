//! Databases: where they are, and how their schema changes with a release.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::DatabaseName;
use super::notify::KeptSecret;

/// A database that services use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The address that code is given.
    pub url: KeptSecret,
    /// The address of the role that owns its tables, if code has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<KeptSecret>,
    /// The schema that holds its tables.
    pub schema: String,
    /// The folder with its migrations, absolute.
    pub migrations: Option<String>,
    /// The file that says what its schema shall be, absolute. With neither it is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<String>,
    /// The schema with the views that code reads by; none before its schema was ever changed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<String>,
    /// How its schema comes to what its migrations say, if it is not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Arc<SchemaChange>>,
}

/// What the schema of a database follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows<'a> {
    /// The migrations in this folder.
    Migrations(&'a str),
    /// The desired schema in this file.
    Desired(&'a str),
}

/// How the schema of a database comes to what its migrations say. Worked out when a change is handed
/// in; what is run is for whoever runs it to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChange {
    /// The number of the schema's revision.
    pub revision: u32,
    /// The schema with the views of that revision.
    pub views: String,
    /// The migrations that it is made of, by the names of their files.
    pub files: Vec<String>,
    /// What is run, for the executor to read.
    pub script: Arc<str>,
    /// What happens at the beginning, as sentences.
    pub expand: Vec<String>,
    /// What happens at the end, as sentences.
    pub contract: Vec<String>,
    /// What code of the old shape may name and the new shape does not have: `orders.full_name`.
    pub loses: Vec<String>,
    /// What people should know before, as fragments.
    pub hazards: Vec<String>,
}

impl Database {
    /// The schema that is managed if the file does not say.
    pub const SCHEMA: &str = "public";

    /// What its schema follows, if it is not somebody else's.
    #[must_use]
    pub fn follows(&self) -> Option<Follows<'_>> {
        let desired = self.desired.as_deref().map(Follows::Desired);
        desired.or(self.migrations.as_deref().map(Follows::Migrations))
    }

    /// The address by which its schema is looked at and changed.
    #[must_use]
    pub fn schema_url(&self) -> &KeptSecret {
        self.owner.as_ref().unwrap_or(&self.url)
    }

    /// Every secret that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &KeptSecret> {
        [&self.url].into_iter().chain(&self.owner)
    }

    /// Every secret that it needs, to say what was read.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut KeptSecret> {
        [&mut self.url].into_iter().chain(&mut self.owner)
    }

    /// The `url` that a service finds at `<NAME>_URL`.
    #[must_use]
    pub fn secret_of(name: &DatabaseName) -> String {
        name.url_variable()
    }

    /// Where code of the present revision looks for tables, as `search_path` wants it.
    #[must_use]
    pub fn search_path(&self) -> String {
        match &self.views {
            Some(views) => format!("{},{}", quoted(views), quoted(&self.schema)),
            None => quoted(&self.schema),
        }
    }
}

/// A name as SQL holds it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The address of a database for code that reads by `search_path`, and says who it is by
/// `application`, unless the address says that already. Both forms of address that PostgreSQL's
/// clients take are understood: a URL, and `key=value` words.
#[must_use]
pub fn address(base: &str, search_path: &str, application: &str) -> String {
    let base = base.trim();
    // Within `options` a space ends an option.
    let option =
        format!("-c search_path={}", search_path.replace('\\', "\\\\").replace(' ', "\\ "));
    let is_url = base.starts_with("postgres://") || base.starts_with("postgresql://");
    if is_url {
        let (before, fragment) = base.split_once('#').map_or((base, None), |(a, b)| (a, Some(b)));
        let (path, query) = before.split_once('?').unwrap_or((before, ""));
        let mut parameters: Vec<String> = Vec::new();
        let mut options = String::new();
        for parameter in query.split('&').filter(|it| !it.is_empty()) {
            match parameter.strip_prefix("options=") {
                Some(given) => options = format!("{given}%20"),
                None => parameters.push(parameter.to_owned()),
            }
        }
        parameters.push(format!("options={options}{}", encoded(&option)));
        if !parameters.iter().any(|it| it.starts_with("application_name=")) {
            parameters.push(format!("application_name={}", encoded(application)));
        }
        let fragment = fragment.map(|it| format!("#{it}")).unwrap_or_default();
        return format!("{path}?{}{fragment}", parameters.join("&"));
    }
    let word = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let application = match base.contains("application_name") {
        true => String::new(),
        false => format!(" application_name='{}'", word(application)),
    };
    format!("{base} options='{}'{application}", word(&option))
}

/// Everything but letters, digits and a few signs as `%20`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b',') {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_the_views_of_a_revision() {
        let told = |base: &str| address(base, "public_r3,public", "web@public_r3");
        assert_eq!(
            told("postgres://app:pw@db:5432/shop"),
            "postgres://app:pw@db:5432/shop?options=-c%20search_path%3Dpublic_r3,public\
             &application_name=web%40public_r3"
        );
        assert_eq!(
            told("postgresql://db/shop?sslmode=require&application_name=x&options=-c%20a%3Db"),
            "postgresql://db/shop?sslmode=require&application_name=x\
             &options=-c%20a%3Db%20-c%20search_path%3Dpublic_r3,public"
        );
        assert_eq!(
            told("host=db dbname=shop\n"),
            "host=db dbname=shop options='-c search_path=public_r3,public' \
             application_name='web@public_r3'"
        );
    }

    #[test]
    fn names_are_quoted_where_sql_would_fold_them() {
        assert_eq!(quoted("public_r3"), "public_r3");
        assert_eq!(quoted("Shop"), "\"Shop\"");
    }
}
