//! Lines on standard error, for the file that the role's starter gives it. Never anything of a
//! request: no path, no header, no address of a client.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ms;

/// Lines per second; what is beyond is counted and said later. A log that fills the disk is a
/// fault of its own.
const LINES_PER_SECOND: u64 = 20;

/// How much a line matters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

pub(crate) fn info(text: fmt::Arguments<'_>) {
    write(Level::Info, text);
}

pub(crate) fn warn(text: fmt::Arguments<'_>) {
    write(Level::Warn, text);
}

pub(crate) fn error(text: fmt::Arguments<'_>) {
    write(Level::Error, text);
}

fn write(level: Level, text: fmt::Arguments<'_>) {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static LINES: AtomicU64 = AtomicU64::new(0);
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    let second = now_ms() / 1_000;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        LINES.store(0, Ordering::Relaxed);
    }
    if LINES.fetch_add(1, Ordering::Relaxed) >= LINES_PER_SECOND {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let word = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    let tail = if dropped > 0 { format!(" ({dropped} lines dropped)") } else { String::new() };
    print(format_args!("edge {word}: {text}{tail}"));
}

#[expect(clippy::print_stderr, reason = "standard error is the log of this role")]
fn print(line: fmt::Arguments<'_>) {
    eprintln!("{line}");
}
