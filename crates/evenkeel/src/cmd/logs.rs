//! `evenkeel logs`: what instances print. Read from their files, so it works with every role dead.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use evenkeel_kernel::model::{InstanceId, RevisionNumber, ServiceName};
use evenkeel_local::log_files;

use super::Context;
use crate::cli::Logs;
use crate::exit::Exit;
use crate::term::{self, Tone, paint};

/// Time between two looks at the files while following.
const LOOK: Duration = Duration::from_millis(200);
/// A longer line is cut: a terminal is not the place for it.
const LINE_BYTES_MAX: u64 = 64 << 10;

pub(super) fn run(context: &Context<'_>, args: &Logs) -> anyhow::Result<Exit> {
    let wanted = args.of.as_deref().map(parse).transpose()?.unwrap_or_default();
    let mut printer = Printer { json: context.json, seen: None, offsets: BTreeMap::new() };
    let found = printer.show_last(context, &wanted, args.lines)?;
    if !found && !args.follow {
        bail!(
            "there is no log{}; `evenkeel status --instances` lists the instances",
            args.of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default()
        );
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(LOOK);
        printer.seen = args.times.then(term::now_ms);
        printer.show_new(context, &wanted)?;
    }
}

/// Which instances are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    service: Option<ServiceName>,
    revision: Option<RevisionNumber>,
    slot: Option<u32>,
}

impl Wanted {
    fn includes(&self, id: &InstanceId) -> bool {
        self.revision.is_none_or(|it| it == id.pool.revision)
            && self.slot.is_none_or(|it| it == id.slot)
    }
}

/// `web`, `web/r2`, `web/r2.3`, `web.r2.3`, `web/web.r2.3`
fn parse(text: &str) -> anyhow::Result<Wanted> {
    let unclear = || format!("{text:?} is not SERVICE[/INSTANCE]; write web, web/r2 or web/r2.3");
    let text = text.split_once('/').map_or(text, |(service, rest)| {
        if rest.starts_with(&format!("{service}.")) { rest } else { text }
    });
    let mut parts = text.splitn(2, ['/', '.']);
    let service = parts.next().unwrap_or_default();
    let service: ServiceName = service.parse().with_context(unclear)?;
    let Some(rest) = parts.next() else {
        return Ok(Wanted { service: Some(service), ..Wanted::default() });
    };
    let (revision, slot) = match rest.split_once('.') {
        Some((revision, slot)) => (revision, Some(slot.parse().with_context(unclear)?)),
        None => (rest, None),
    };
    let number = revision.strip_prefix('r').with_context(unclear)?.parse().with_context(unclear)?;
    Ok(Wanted { service: Some(service), revision: Some(RevisionNumber(number)), slot })
}

/// Prints lines with the instance they come from, and knows how far each file was read.
struct Printer {
    json: bool,
    /// When the lines that are printed now were seen, in milliseconds since 1970 UTC, if that is to
    /// be told. Of lines that were there before nobody knows when they were printed.
    seen: Option<u64>,
    offsets: BTreeMap<PathBuf, u64>,
}

impl Printer {
    /// Prints the last lines of every file. Returns whether there is any file.
    fn show_last(
        &mut self,
        context: &Context<'_>,
        wanted: &Wanted,
        count: usize,
    ) -> anyhow::Result<bool> {
        let mut last: BTreeMap<InstanceId, VecDeque<String>> = BTreeMap::new();
        for (instance, path) in files(context, wanted)? {
            let kept = last.entry(instance).or_default();
            let end = read(&path, 0, |line| {
                kept.push_back(line);
                if kept.len() > count {
                    kept.pop_front();
                }
            });
            self.offsets.insert(path, end);
        }
        for (instance, lines) in &last {
            for line in lines {
                self.print(instance, line);
            }
        }
        Ok(!last.is_empty())
    }

    fn show_new(&mut self, context: &Context<'_>, wanted: &Wanted) -> anyhow::Result<()> {
        for (instance, path) in files(context, wanted)? {
            let from = self.offsets.get(&path).copied().unwrap_or(0);
            let length = std::fs::metadata(&path).map_or(0, |it| it.len());
            // A file that is shorter than before was rotated: what it has now is new.
            let from = if length < from { 0 } else { from };
            // The older half was read while it was the newer one.
            if path.extension().is_some_and(|it| it == "1") {
                continue;
            }
            let end = read(&path, from, |line| self.print(&instance, &line));
            self.offsets.insert(path, end);
        }
        Ok(())
    }

    fn print(&self, instance: &InstanceId, text: &str) {
        let mut who = instance.to_string();
        if self.json {
            let mut line = serde_json::json!({ "instance": who, "line": text });
            if let (Some(seen), Some(line)) = (self.seen, line.as_object_mut()) {
                line.insert("seen_ms".to_owned(), seen.into());
            }
            return term::line(&line.to_string());
        }
        if let Some(seen) = self.seen {
            who = format!("{}  {who}", term::clock(seen));
        }
        term::line(&format!("{}  {text}", paint(Tone::Dim, &who)));
    }
}

fn files(context: &Context<'_>, wanted: &Wanted) -> anyhow::Result<Vec<(InstanceId, PathBuf)>> {
    let files = match log_files(context.home, wanted.service.as_ref()) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("could not list the logs"),
    };
    Ok(files
        .into_iter()
        .filter(|file| wanted.includes(&file.instance))
        .map(|file| (file.instance, file.path))
        .collect())
}

/// Reads whole lines from `from` on; returns where to go on next time. A file that has just gone
/// away has no lines.
fn read(path: &PathBuf, from: u64, mut each: impl FnMut(String)) -> u64 {
    let Ok(mut file) = File::open(path) else { return from };
    if file.seek(SeekFrom::Start(from)).is_err() {
        return from;
    }
    let mut reader = BufReader::new(file);
    let mut at = from;
    let mut line = Vec::new();
    loop {
        line.clear();
        let Ok(length) = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) else {
            return at;
        };
        let cut = length as u64 == LINE_BYTES_MAX;
        if length == 0 || (!line.ends_with(b"\n") && !cut) {
            return at;
        }
        at += length as u64;
        each(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_named_in_any_usual_way() {
        let wanted = |text: &str| {
            let it = parse(text).unwrap();
            (it.service.unwrap().to_string(), it.revision.map(|it| it.0), it.slot)
        };
        assert_eq!(wanted("web"), ("web".to_owned(), None, None));
        assert_eq!(wanted("web/r2"), ("web".to_owned(), Some(2), None));
        for text in ["web/r2.3", "web.r2.3", "web/web.r2.3"] {
            assert_eq!(wanted(text), ("web".to_owned(), Some(2), Some(3)), "{text}");
        }
        for bad in ["", "Web", "web/2", "web/r2.x", "web/r2.3.4"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
