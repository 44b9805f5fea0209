//! Certificates that run out, or cannot be had: that it is told, in time and once.
//!
//! What is shown comes from the edge, which reads and orders certificates whether anybody decides
//! or not. An edge that has just started says nothing of some of them yet, and that is no news.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::State;
use super::why::Wait;
use crate::model::{CertificateName, CertificateSource};
use crate::time::{Timestamp, human};
use crate::world::{Certificate, World};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// It is told so long before a certificate runs out: time for those who have to ask others for one.
const SOON: Duration = Duration::from_secs(21 * 24 * 3600);
/// But no earlier than when this part of its time is left, because some are good for days only.
/// One that is ordered should have been renewed at a third.
const SOON_PART: u32 = 4;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worry {
    /// It could not be ordered or read.
    Failed,
    /// It runs out soon.
    Soon,
    /// It has run out.
    Over,
}

impl Worry {
    fn of(seen: &Certificate) -> Vec<Self> {
        let mut worries = Vec::new();
        if seen.failed.is_some() {
            worries.push(Self::Failed);
        }
        if let Some(good) = seen.good {
            if good.left.is_zero() {
                worries.push(Self::Over);
            } else if good.left <= SOON.min(good.life / SOON_PART) {
                worries.push(Self::Soon);
            }
        }
        worries
    }

    /// Whether it could be told of what was seen. What could not be is as it was.
    fn is_seen(self, seen: &Certificate) -> bool {
        match self {
            Self::Failed => seen.failed.is_some() || seen.good.is_some(),
            Self::Soon | Self::Over => seen.good.is_some(),
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Failed => "certificate.failed",
            Self::Soon => "certificate.expires",
            Self::Over => "certificate.expired",
        }
    }

    fn text(self, name: &CertificateName, seen: &Certificate) -> String {
        match (self, &seen.failed, seen.good) {
            (Self::Failed, Some(failed), _) => match failed.again {
                Some(again) => format!(
                    "certificate {name} could not be ordered: {}; the next try is in {}",
                    failed.why,
                    human(again)
                ),
                None => format!("certificate {name} cannot be read: {}", failed.why),
            },
            (Self::Soon, _, Some(good)) => {
                format!("certificate {name} runs out in {}", days(good.left))
            }
            (Self::Failed, None, _) => format!("certificate {name} could not be ordered"),
            (Self::Soon, _, None) => format!("certificate {name} runs out soon"),
            (Self::Over, _, _) => format!("certificate {name} has run out"),
        }
    }
}

fn days(left: Duration) -> String {
    match left.as_secs() / DAY.as_secs() {
        0 | 1 => human(Duration::from_secs(left.as_secs() / 60 * 60)),
        days => format!("{days} days"),
    }
}

impl State {
    /// Takes note of what is wrong with certificates; the news of it, by kind.
    pub(super) fn keep_certificates(
        &mut self,
        world: &World,
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let Some(edge) = world.edge.known() else { return Vec::new() };
        let (mut worries, mut news) = (BTreeMap::new(), Vec::new());
        for (name, seen) in &edge.certificates {
            let before = self.worries.get(name);
            let mut now_wrong: BTreeMap<Worry, Timestamp> = BTreeMap::new();
            for worry in Worry::of(seen) {
                let since = before.and_then(|it| it.get(&worry)).copied();
                if since.is_none() {
                    news.push((worry.event(), worry.text(name, seen)));
                }
                now_wrong.insert(worry, since.unwrap_or(now));
            }
            let unseen = before.into_iter().flatten().filter(|(worry, _)| !worry.is_seen(seen));
            now_wrong.extend(unseen);
            if !now_wrong.is_empty() {
                worries.insert(name.clone(), now_wrong);
            }
        }
        self.worries = worries;
        news
    }

    /// Certificates that somebody should look at.
    pub(super) fn certificate_waits(&self, world: &World) -> Vec<Wait> {
        let Some(edge) = world.edge.known() else { return Vec::new() };
        let shown = self.shown();
        let wait = |name: &CertificateName, worry: Worry, since: Timestamp| {
            let seen = edge.certificates.get(name)?;
            let from_files = shown.certificates.get(name).is_some_and(|it| match it.from {
                CertificateSource::Files { .. } => true,
                CertificateSource::Acme => false,
            });
            Some(Wait {
                what: worry.text(name, seen),
                since,
                until: None,
                last_error: None,
                unblock: if from_files {
                    "put a newer certificate and its key into its files; they are read by themselves"
                } else {
                    "docs/traffic.md says what an issuer needs; it is ordered by itself"
                }
                .to_owned(),
            })
        };
        let all = self.worries.iter().flat_map(|(name, worries)| {
            worries.iter().filter_map(move |(worry, since)| wait(name, *worry, *since))
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stack;
    use crate::release::state::Ports;
    use crate::world::{Edge, Failed, Good, Observed};

    /// What is told of a certificate that is seen like this, one look after the other.
    fn told(looks: &[(&str, Certificate)]) -> Vec<String> {
        let ports = Ports { first: 20_000, last: 20_999, next: 20_000 };
        let mut state = State::new(Stack::empty("shop".parse().unwrap()), ports);
        let mut told = Vec::new();
        for (at, (name, seen)) in (1..).zip(looks) {
            let certificates = [(name.parse().unwrap(), seen.clone())].into();
            let edge = Edge { certificates, ..Edge::default() };
            let mut world = World::unknown();
            world.edge = Observed::Known(edge, Timestamp(at));
            if let Some(decision) = state.decide(&world, Timestamp(at)) {
                state = decision.state;
                told.extend(
                    decision.notes.into_iter().map(|it| format!("{}: {}", it.kind, it.text)),
                );
            }
            let waits = state.certificate_waits(&world).into_iter().map(|it| it.what);
            told.push(waits.collect::<Vec<_>>().join(", "));
        }
        told
    }

    fn good(left: u32, life: u32) -> Certificate {
        let good = Good { until: 0, left: DAY * left, life: DAY * life };
        Certificate { good: Some(good), failed: None }
    }

    fn failed(mut seen: Certificate) -> Certificate {
        let again = Some(Duration::from_secs(240));
        seen.failed = Some(Failed { why: "no such name".to_owned(), again });
        seen
    }

    #[test]
    fn s22_a_certificate_that_runs_out_is_told_once_and_again_when_it_has() {
        let soon = "certificate a runs out in 21 days";
        let later = "certificate a runs out in 2 days";
        let over = "certificate a has run out";
        let unread = Certificate::default();
        assert_eq!(
            told(&[
                ("a", good(22, 90)),
                ("a", good(21, 90)),
                // The edge has started again.
                ("a", unread),
                ("a", good(2, 90)),
                ("a", good(0, 90)),
                ("a", good(90, 90)),
                ("a", good(21, 90)),
            ]),
            [
                "",
                &format!("certificate.expires: {soon}"),
                soon,
                "certificate a runs out soon",
                later,
                &format!("certificate.expired: {over}"),
                over,
                "",
                &format!("certificate.expires: {soon}"),
                soon,
            ]
        );
    }

    #[test]
    fn s22_one_that_lives_for_days_only_is_not_told_all_the_time() {
        let told = told(&[("a", good(4, 8)), ("a", good(3, 8)), ("a", good(2, 8))]);
        assert_eq!(told[..2], ["", ""]);
        assert_eq!(told[2], "certificate.expires: certificate a runs out in 2 days");
    }

    #[test]
    fn s22_an_order_that_fails_is_told_until_it_succeeds() {
        let text = "certificate a could not be ordered: no such name; the next try is in 4m";
        let told = told(&[
            ("a", failed(Certificate::default())),
            ("a", failed(good(5, 90))),
            ("a", good(90, 90)),
            ("b", failed(Certificate::default())),
        ]);
        assert_eq!(told[..2], [format!("certificate.failed: {text}"), text.to_owned()]);
        assert_eq!(told[2], "certificate.expires: certificate a runs out in 5 days");
        assert_eq!(told[3], format!("{text}, certificate a runs out in 5 days"));
        assert_eq!(told[4], "");
        assert!(told[5].starts_with("certificate.failed: certificate b"), "{}", told[5]);
    }
}
