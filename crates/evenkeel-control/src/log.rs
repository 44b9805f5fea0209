//! The control role's own log: one line per event on standard error, which the keeper sends to a
//! file.

/// Writes one line.
#[expect(clippy::print_stderr, reason = "the log of a role is its standard error")]
pub(crate) fn line(text: &str) {
    eprintln!("control: {text}");
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
