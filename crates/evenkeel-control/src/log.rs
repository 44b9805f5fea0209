//! The control role's own log: one line per event on standard error, which the keeper sends to a
//! file.

/// Writes one line.
#[expect(clippy::print_stderr, reason = "the log of a role is its standard error")]
pub(crate) fn line(text: &str) {
    eprintln!("control: {text}");
}
