//! The events that people can be told of: every kind of note there is, by its stable name.
//!
//! This is the only list of them. The reader of the stack file checks names against it, and the
//! reference prints it; a test holds that no note of the kernel is missing here.

/// One kind of event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its stable name, which is the kind of its note.
    pub name: &'static str,
    /// When it happens.
    pub doc: &'static str,
    /// Told to everybody who does not say what they want to hear.
    pub told: bool,
}

const fn told(name: &'static str, doc: &'static str) -> Event {
    Event { name, doc, told: true }
}

const fn quiet(name: &'static str, doc: &'static str) -> Event {
    Event { name, doc, told: false }
}

/// Every event, as the reference lists them.
pub static EVENTS: &[Event] = &[
    quiet("release.queued", "A change waits for the release under way to end."),
    told("release.started", "A release begins."),
    told("release.hotfix", "It is a hotfix, and why."),
    quiet("phase.entered", "It begins another step."),
    quiet("split.changed", "Another part of the traffic goes to the new revision."),
    quiet("step.passed", "A step has been watched for long enough."),
    quiet("check.passed", "A check passes that did not before."),
    told("check.failed", "A check fails."),
    quiet("check.inconclusive", "What a check measured says nothing yet."),
    told("check.unanswered", "A check could not be answered."),
    quiet("job.started", "An attempt of a job begins."),
    quiet("job.ended", "It has ended, and how."),
    quiet("schema.changing", "A database gets its new shape, or loses the old one."),
    told("gate.reached", "A step waits for somebody's approval."),
    quiet("gate.approved", "Somebody has given it."),
    told("gate.forced", "Somebody has gone past a gate that others keep, and why."),
    told("release.frozen", "A freeze holds it at its step."),
    quiet("release.reason", "Why somebody has steered it."),
    told("release.held", "Evenkeel holds it, and why; somebody has to decide."),
    quiet("release.paused", "Somebody holds it."),
    quiet("release.resumed", "It goes on."),
    quiet("release.promoted-by-hand", "Somebody takes the next step now."),
    told("release.promoted", "All traffic is on the new revisions."),
    told("release.point-of-no-return", "The old revisions are about to be stopped."),
    told("release.turned-back", "It is taken back, and why."),
    told("release.ended", "It is over, and how it ended."),
    told("lock.closed", "Nothing new is released from now on, and why."),
    told("lock.opened", "Changes are released again."),
    told("hold.begun", "The requests of a service wait from now on, and for how long at most."),
    told("hold.ended", "They are served again, and why."),
    quiet("service.scaled", "Somebody has set how many instances a service has."),
    quiet("scale.changed", "The load has set how many instances a service has."),
    told("certificate.failed", "A certificate could not be ordered or read, and why; told once."),
    told("certificate.expires", "A certificate runs out within 21 days, or a quarter of its time."),
    told("certificate.expired", "A certificate has run out."),
    quiet("port.replaced", "A port was taken by somebody else, and another is used."),
];

/// Whether `filter` (a name, a `release.*`, or `*`) names the event `name`.
#[must_use]
pub fn names(filter: &str, name: &str) -> bool {
    match filter.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && name.starts_with(prefix),
        None => filter == name,
    }
}

/// Whether who wants to hear of `filters` hears of the event `name`. Without filters: of what is
/// told to everybody.
#[must_use]
pub fn wanted(filters: &[String], name: &str) -> bool {
    match filters {
        [] => EVENTS.iter().any(|event| event.told && event.name == name),
        filters => filters.iter().any(|filter| names(filter, name)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every text in the sources below `folder` that looks like the name of an event.
    #[expect(clippy::disallowed_methods, reason = "it reads the sources, in no program")]
    fn named(folder: &Path, found: &mut BTreeSet<String>) {
        let name = regex_lite::Regex::new(r#""([a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)*)""#).unwrap();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            match (path.is_dir(), file) {
                (_, "tests" | "tests.rs" | "news.rs") => {}
                (true, _) => named(&path, found),
                (false, _) => {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.extend(name.captures_iter(&text).map(|it| it[1].to_owned()));
                }
            }
        }
    }

    #[test]
    fn every_kind_of_note_is_an_event_and_the_other_way_round() {
        let mut found = BTreeSet::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/release"), &mut found);
        let listed: BTreeSet<String> = EVENTS.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(found, listed);
        assert_eq!(listed.len(), EVENTS.len(), "one is listed twice");
    }

    #[test]
    fn filters_name_events_or_all_below_a_prefix() {
        let wants = |filters: &[&str], name: &str| {
            let filters: Vec<String> = filters.iter().map(|it| (*it).to_owned()).collect();
            wanted(&filters, name)
        };
        assert!(wants(&[], "release.started") && !wants(&[], "split.changed"));
        assert!(wants(&["gate.*", "lock.opened"], "gate.approved"));
        assert!(!wants(&["gate.*", "lock.opened"], "lock.closed"));
        assert!(wants(&["*"], "split.changed") && !wants(&["rel*"], "release.started"));
    }
}
