//! Lines on standard error, for the file that the role's starter gives it. Never anything that a
//! client has sent.

use std::fmt;

pub(crate) fn info(text: fmt::Arguments<'_>) {
    print(format_args!("discovery info: {text}"));
}

pub(crate) fn warn(text: fmt::Arguments<'_>) {
    print(format_args!("discovery warn: {text}"));
}

#[expect(clippy::print_stderr, reason = "standard error is the log of this role")]
fn print(line: fmt::Arguments<'_>) {
    eprintln!("{line}");
}
