//! Words with rules of their own: host names, paths of URLs, names of variables.

use super::hint::brief;
use super::value::Wrong;

/// Reads a host name; in lower case, because host names have no case.
pub(crate) fn host(text: &str) -> Result<String, Wrong> {
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name);
    }
    let wrong = Wrong::new(format!("`{}` is not a host name", brief(text)));
    let bare = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.');
    let hint = match bare {
        it if it.starts_with("*.") => Some("a route has one host, or none for any".to_owned()),
        it if !it.is_ascii() => Some("write it in its ASCII form, `xn--…`".to_owned()),
        it if it != name && it.split('.').all(label) => Some(format!("write `\"{it}\"`")),
        _ => None,
    };
    Err(wrong.hint(hint))
}

/// Reads a path as a request could ask for it.
pub(crate) fn url_path(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new(format!("`{}` {why}", brief(text)));
    if !text.starts_with('/') {
        let hint = text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains(':');
        return Err(
            wrong("does not begin with `/`").hint(hint.then(|| format!("write `\"/{text}\"`")))
        );
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("has a character that must be written as `%xx`"));
    }
    if text.contains(['?', '#']) {
        return Err(wrong("has more than a path"));
    }
    if text.contains("//") || text.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(wrong("has empty or relative parts, which no request has"));
    }
    Ok(text.to_owned())
}

/// Whether something could be asked at this URL.
pub(crate) fn url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let host = authority.and_then(|it| it.rsplit('@').next());
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(':'))
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether programs and shells can name a variable so.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether Evenkeel gives this variable itself.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(name, "PORT" | "NOTIFY_SOCKET" | "CONFIGURATION_DIRECTORY" | "CREDENTIALS_DIRECTORY")
        || name.starts_with("EVENKEEL_")
}
