//! How the demo looks: on a terminal, lines with a picture of the moment below them; elsewhere
//! lines alone; or one JSON object per line.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::record::Record;
use crate::term::{self, Tone, paint};

/// The width of the bar that shows the split.
const BAR: usize = 50;
/// The width of a terminal that does not tell.
const WIDTH: usize = 80;
/// The narrowest terminal that is drawn for.
const WIDTH_MIN: usize = 20;

/// What stands before the lines of a file: as much room as the time takes elsewhere.
const INDENT: &str = "        ";

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// When, in milliseconds since 1970.
    pub(super) at_ms: u64,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Live,
    Plain,
    Json,
}

/// The demo as people see it.
#[derive(Debug)]
pub(super) struct Show {
    form: Form,
    started: Instant,
    pub(super) started_ms: u64,
    /// What is going on.
    step: String,
    pub(super) events: Vec<Event>,
    /// Lines of the picture that stand on the terminal.
    drawn: usize,
    /// What had been sent when the picture was drawn last, and when that was.
    pace: (u64, Instant),
    per_second: f64,
}

impl Show {
    pub(super) fn new(as_json: bool) -> Self {
        let now = Instant::now();
        let form = match (as_json, std::io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Live,
            (false, false) => Form::Plain,
        };
        Self {
            form,
            started: now,
            started_ms: term::now_ms(),
            step: String::new(),
            events: Vec::new(),
            drawn: 0,
            pace: (0, now),
            per_second: 0.0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A new part of the demo begins.
    pub(super) fn step(&mut self, text: &str) {
        text.clone_into(&mut self.step);
        self.event("step", text, Tone::Bold);
    }

    /// Something that the demo does or sees.
    pub(super) fn says(&mut self, kind: &str, text: &str) {
        self.event(kind, text, Tone::Warn);
    }

    /// A file that the demo writes.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        if self.form == Form::Json {
            let at_ms = term::now_ms();
            self.json(&json!({ "at_ms": at_ms, "event": "file", "name": name, "text": text }));
            return;
        }
        self.line(&format!("{INDENT}{}", paint(Tone::Dim, &format!("{name}:"))));
        text.lines().for_each(|line| self.line(&format!("{INDENT}{line}")));
    }

    /// Something that the journal tells.
    pub(super) fn journal(&mut self, entry: &evenkeel_control::api::types::Event) {
        let tone = match entry.kind.as_str() {
            "release.turned-back" => Tone::Bad,
            "release.promoted" => Tone::Good,
            // The steps are told by the changes of the split.
            "phase.entered" => return,
            _ => Tone::Dim,
        };
        self.event_at(entry.at_ms, &entry.kind, &entry.text, tone);
    }

    fn event(&mut self, kind: &str, text: &str, tone: Tone) {
        self.event_at(term::now_ms(), kind, text, tone);
    }

    fn event_at(&mut self, at_ms: u64, kind: &str, text: &str, tone: Tone) {
        self.events.push(Event { at_ms, text: text.to_owned() });
        let since = self.since(at_ms);
        self.clear();
        if self.form == Form::Json {
            self.json(&json!({ "at_ms": at_ms, "event": kind, "text": text }));
        } else {
            term::line(&format!("{}  {}", paint(Tone::Dim, &since), paint(tone, text)));
        }
    }

    /// Seconds since the demo began: ` 12.3s`.
    pub(super) fn since(&self, at_ms: u64) -> String {
        let ms = at_ms.saturating_sub(self.started_ms);
        format!("{:>3}.{}s", ms / 1000, ms % 1000 / 100)
    }

    /// A line for people.
    pub(super) fn line(&mut self, text: &str) {
        if self.form != Form::Json {
            self.clear();
            term::line(text);
        }
    }

    /// A line for programs.
    pub(super) fn json(&self, value: &serde_json::Value) {
        if self.form == Form::Json {
            term::line(&value.to_string());
        }
    }

    /// Draws the picture of the moment.
    pub(super) fn draw(&mut self, record: &Record) {
        if self.form != Form::Live {
            return;
        }
        self.keep_pace(record.sent);
        let width = width();
        let now = record.percentiles_now();
        let failed = format!("{} failed", record.failed);
        let failed = match record.failed {
            0 => paint(Tone::Good, &failed),
            _ => paint(Tone::Bad, &failed),
        };
        let numbers = format!(
            "{:.0} requests/s   {} sent   p50 {}   p99 {}",
            self.per_second,
            record.sent,
            ms(now.p50),
            ms(now.p99)
        );
        let lines = [
            String::new(),
            paint(Tone::Bold, &cut(&self.step, width)),
            // What is beyond the edge of the terminal would break the drawing.
            format!("{}   {failed}", cut(&numbers, width.saturating_sub(16))),
            bar(record, width),
        ];
        // Over the last one, line by line, so that nothing flickers.
        let up = if self.drawn > 0 { format!("\x1b[{}A\r", self.drawn) } else { String::new() };
        term::raw(&(up + &lines.join("\x1b[K\n") + "\x1b[K\n"));
        self.drawn = lines.len();
    }

    fn keep_pace(&mut self, sent: u64) {
        let (before, at) = self.pace;
        let passed = at.elapsed();
        if passed >= Duration::from_secs(1) {
            let more = u32::try_from(sent.saturating_sub(before)).unwrap_or(u32::MAX);
            self.per_second = f64::from(more) / passed.as_secs_f64();
            self.pace = (sent, Instant::now());
        }
    }

    /// Takes the picture away.
    pub(super) fn clear(&mut self) {
        if self.drawn > 0 {
            term::raw(&format!("\x1b[{}A\r\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

/// Who answers: `1 ━━━━━━━━━━━━━━━━ 80 %   2 ━━━━ 20 %`.
fn bar(record: &Record, width: usize) -> String {
    let split = record.split();
    let room = BAR.min(width.saturating_sub(split.len() * 14 + 4));
    let parts = split.iter().map(|(version, part)| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of a few columns"
        )]
        let length = (part * room as f64).round() as usize;
        let tone = match part {
            part if *part >= 0.5 => Tone::Good,
            _ => Tone::Warn,
        };
        format!("web r{version} {} {:.0} %", paint(tone, &"━".repeat(length)), part * 100.0)
    });
    parts.collect::<Vec<_>>().join("  ")
}

/// A time for people: `1.2 ms`.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(WIDTH, |size| usize::from(size.ws_col)).max(WIDTH_MIN)
}
