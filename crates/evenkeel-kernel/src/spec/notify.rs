//! Receivers of news: `[notify.NAME]`.

use super::check::{Fields, Named, last};
use super::hint::brief;
use super::materials::Mention;
use super::problem::{Mistake, Mistakes};
use super::schema::nearest;
use super::service::source;
use crate::model::{Address, Channel, KeptSecret, Receiver, ReceiverName};
use crate::release::news;

/// The ways to reach somebody, of which a receiver has one.
const WAYS: [&str; 3] = ["webhook", "slack", "command"];

/// Builds one receiver as far as it can be read.
pub(crate) fn build(
    named: &Named,
    base: &str,
    mistakes: &mut Mistakes,
) -> Option<(ReceiverName, Receiver)> {
    let fields = named.fields.as_ref()?;
    let ways: Vec<_> = WAYS.iter().filter_map(|key| fields.first(&[*key])).collect();
    match ways.as_slice() {
        [] => mistakes.add(
            Mistake::at(&fields.span, &fields.path, format!("`{}` does not say how", fields.path))
                .expected("one of `webhook`, `slack` and `command`")
                .absence(),
        ),
        [_] => {}
        [(first, _), (second, field), ..] => {
            let wrong = format!("`{}` has both `{first}` and `{second}`", last(&fields.path));
            mistakes.add(
                Mistake::at(&field.key, &fields.at(second), wrong)
                    .expected("one of `webhook`, `slack` and `command`"),
            );
        }
    }
    if let Some(field) = fields.field("secret").filter(|_| fields.field("webhook").is_none()) {
        let wrong = "only what goes to a `webhook` is signed";
        mistakes.add(Mistake::at(&field.key, &fields.at("secret"), wrong));
    }
    let events = events(fields, mistakes);
    let to = channel(fields, base)?;
    let secret = fields.text("secret").and_then(|text| kept(text, base));
    Some((named.name.parse().ok()?, Receiver { to, secret, events }))
}

fn channel(fields: &Fields, base: &str) -> Option<Channel> {
    if let Some(text) = fields.text("webhook") {
        return Some(Channel::Webhook(address(text, base)));
    }
    if let Some(text) = fields.text("slack") {
        return Some(Channel::Slack(address(text, base)));
    }
    let run = fields.texts("command")?.iter().map(|(word, _)| word.clone()).collect();
    Some(Channel::Command { run, dir: base.to_owned() })
}

pub(super) fn address(text: &str, base: &str) -> Address {
    kept(text, base).map_or_else(|| Address::Url(text.to_owned()), Address::Secret)
}

pub(super) fn kept(text: &str, base: &str) -> Option<KeptSecret> {
    // `file:` and the like are no schemes of a URL that is asked anything.
    Some(KeptSecret { from: source(text, base)?, digest: None })
}

fn events(fields: &Fields, mistakes: &mut Mistakes) -> Vec<String> {
    let mut all = Vec::new();
    for (text, span) in fields.texts("events").into_iter().flatten() {
        if news::EVENTS.iter().any(|event| news::names(text, event.name)) {
            all.push(text.clone());
            continue;
        }
        let near = nearest(text, news::EVENTS.iter().map(|event| event.name));
        let mistake =
            Mistake::at(span, &fields.at("events"), format!("there is no event `{}`", brief(text)));
        mistakes.add(
            mistake
                .expected("a name such as `release.promoted`, or `release.*`, or `*`")
                .hint(near.map(|name| format!("did you mean `{name}`?"))),
        );
    }
    if let Some(field) = fields.field("events")
        && fields.texts("events").is_some_and(Vec::is_empty)
    {
        let mistake = Mistake::at(&field.span, &fields.at("events"), "`events` is empty");
        mistakes.add(mistake.hint("leave it out, or leave the receiver out".to_owned()));
    }
    all
}

/// The secrets that a receiver mentions.
pub(crate) fn mentions(named: &Named, base: &str) -> Vec<Mention> {
    let Some(fields) = &named.fields else { return Vec::new() };
    mentions_in(fields, &["webhook", "slack", "secret"], base)
}

/// The secrets that control itself needs at these keys.
pub(super) fn mentions_in(fields: &Fields, keys: &[&str], base: &str) -> Vec<Mention> {
    let mention = |key: &&str| {
        let from = source(fields.text(key)?, base)?;
        Some(Mention::secret(&from, fields.at(key), fields.place(key)))
    };
    keys.iter().filter_map(mention).collect()
}
