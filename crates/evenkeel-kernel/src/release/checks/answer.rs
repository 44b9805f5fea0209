//! What an answer comes to: a verdict, and one sentence why.

use serde::{Deserialize, Serialize};

use super::Checking;
use crate::analysis::{Batch, Evidence, Tally, Verdict, percent};
use crate::model::{Ask, Check, Expect, Tolerance};
use crate::time::Timestamp;
use crate::world::{Measured, Reading};

/// The sound revisions that all comparing checks of a service together may take back: half of what
/// the comparison of its requests may.
const ALPHA: f64 = 0.005;
/// A smaller difference of rates matters too little, however certain it is.
const DIFFERENCE_MIN: f64 = 0.001;
/// The longest text of somebody else's that is kept, in characters.
const TEXT_MAX: usize = 200;

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, for people.
    pub text: String,
}

/// What both revisions counted since the check began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compared {
    evidence: Evidence,
    /// What the counters showed last.
    read: Option<Batch>,
    /// What was counted from the first look on.
    sum: Batch,
}

/// What a comparison goes by.
pub(super) struct Terms<'a> {
    pub(super) tolerance: Tolerance,
    /// Checks of the service that compare.
    pub(super) rivals: usize,
    /// What the new revision must have done before its silence means anything.
    pub(super) needed: &'a dyn Fn(Tally) -> u64,
}

impl Checking {
    /// Takes an answer in. Gives what it came to, if that is worth telling: a failure that counts
    /// always, all else when it is something new.
    pub(super) fn take(
        &mut self,
        check: &Check,
        reading: &Reading,
        terms: &Terms<'_>,
        decides: bool,
        now: Timestamp,
    ) -> Option<Said> {
        let said = if let Reading::Counts(counts) = reading {
            self.compared.get_or_insert_default().take(*counts, &check.ask, terms)
        } else {
            judged(&check.ask, reading)
        };
        self.answered = Some(now);
        match said.verdict {
            Verdict::Pass => {
                (self.failures, self.errors) = (0, 0);
                self.passed = Some(now);
            }
            Verdict::Fail => {
                self.failures += 1;
                self.errors = 0;
            }
            // A comparison takes its time; a number that is not there will not come by waiting.
            Verdict::Inconclusive if check.ask.compares() => {}
            Verdict::Inconclusive | Verdict::Error => self.errors += 1,
        }
        let before = self.said.replace(said.clone()).map(|it| it.verdict);
        let is_news = before != Some(said.verdict) || (decides && said.verdict == Verdict::Fail);
        is_news.then_some(said)
    }
}

impl Compared {
    fn take(&mut self, counts: Batch, ask: &Ask, terms: &Terms<'_>) -> Said {
        let before = self.read.replace(counts);
        if let Some(before) = before {
            let batch = Batch {
                canary: counts.canary.since(before.canary),
                stable: counts.stable.since(before.stable),
            };
            self.evidence.gather(batch, terms.tolerance);
            self.sum.canary = self.sum.canary.plus(batch.canary);
            self.sum.stable = self.sum.stable.plus(batch.stable);
        }
        let Batch { canary, stable } = self.sum;
        let what = match ask {
            Ask::Compare { bad, .. } | Ask::Counters { bad, .. } => bad.as_str(),
            Ask::Query { .. } | Ask::Http { .. } | Ask::Command { .. } => "what went wrong",
        };
        let rates = format!(
            "{what} is {} of {}, beside {} of {} before",
            percent(canary.rate()),
            canary.requests,
            percent(stable.rate()),
            stable.requests
        );
        let alpha = ALPHA / f64::from(u32::try_from(terms.rivals.max(1)).unwrap_or(u32::MAX));
        let is_worse = self.evidence.is_enough(alpha);
        if is_worse && canary.rate() - stable.rate() >= DIFFERENCE_MIN {
            return Said { verdict: Verdict::Fail, text: rates };
        }
        let needed = (terms.needed)(stable);
        if canary.requests < needed {
            let text = format!("{} of {needed} counted so far", canary.requests);
            return Said { verdict: Verdict::Inconclusive, text };
        }
        Said { verdict: Verdict::Pass, text: rates }
    }
}

fn judged(ask: &Ask, reading: &Reading) -> Said {
    let said = |verdict, text: &str| Said { verdict, text: one_line(text) };
    match reading {
        Reading::Done => said(Verdict::Pass, "it succeeded"),
        Reading::Failed(why) => said(Verdict::Fail, why),
        Reading::Nothing(why) => said(Verdict::Inconclusive, why),
        Reading::Error(why) => said(Verdict::Error, why),
        Reading::Values(values) => measured(ask, values),
        Reading::Counts(_) => said(Verdict::Error, "it counted where it was not to count"),
        Reading::Decided(_) => said(Verdict::Error, "it decided where it was to measure"),
    }
}

/// Holds what was measured to what it must be.
fn measured(ask: &Ask, values: &[(String, Measured)]) -> Said {
    let anything = Expect::default();
    let expect = match ask {
        Ask::Query { expect, .. } | Ask::Http { expect, .. } => expect,
        Ask::Compare { .. } | Ask::Counters { .. } | Ask::Command { .. } => &anything,
    };
    let show = |(of, value): &(String, Measured)| match of.is_empty() {
        true => format!("it is {value}"),
        false => format!("it is {value} at {of}"),
    };
    let mut verdict = Verdict::Pass;
    let mut shown = values.first();
    for value in values {
        let one = expect.met_by(&value.1);
        if one != Verdict::Pass && verdict != Verdict::Fail {
            (verdict, shown) = (one, Some(value));
        }
    }
    let text = match (verdict, shown) {
        (_, None) => {
            return Said { verdict: Verdict::Error, text: "nothing was measured".to_owned() };
        }
        (Verdict::Pass, Some(value)) => show(value),
        (_, Some(value)) => format!("{}, and must be {expect}", show(value)),
    };
    Said { verdict, text: one_line(&text) }
}

impl Expect {
    fn met_by(&self, value: &Measured) -> Verdict {
        let verdict = |met: bool| if met { Verdict::Pass } else { Verdict::Fail };
        if let Some(text) = &self.equals
            && value.to_string() != *text
        {
            return Verdict::Fail;
        }
        match value {
            // What comes of nothing divided by nothing is no number.
            Measured::Number(number) if number.is_nan() => Verdict::Inconclusive,
            Measured::Number(number) => {
                let below = self.min.is_some_and(|min| *number < min.value());
                let above = self.max.is_some_and(|max| *number > max.value());
                verdict(!below && !above)
            }
            Measured::Text(_) => verdict(self.min.is_none() && self.max.is_none()),
        }
    }
}

/// The beginning of somebody else's text, on one line. What people have written into their file is
/// quoted otherwise (`spec/hint.rs`), with what is odd in it.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean: String = words.chars().filter(|c| !c.is_control()).collect();
    let cut: String = clean.chars().take(TEXT_MAX).collect();
    if cut.len() < clean.len() { format!("{cut}…") } else { cut }
}
