//! One order, from the first word to the certificate (RFC 8555, 7.4).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_kernel::model::Acme;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::challenge::{Challenge, Challenges};
use super::{Way, account};
use crate::shared::Shared;

/// How an issuer is asked whether it is done: it may look at a host from several places, twice.
const ASK: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));
/// What the kinds of an issuer's errors begin with.
const KIND: &str = "urn:ietf:params:acme:error:";

/// What was ordered, in PEM.
pub(super) struct Ordered {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Orders a certificate for these hosts; otherwise says why not, for people.
pub(super) async fn order(
    shared: Arc<Shared>,
    acme: Acme,
    hosts: Vec<String>,
    ways: Vec<Way>,
) -> Result<Ordered, String> {
    let home = &shared.home;
    match once(&shared, &acme, &hosts, &ways).await {
        // It has forgotten us, as test servers do.
        Err(Failure::Acme(Error::Api(problem))) if is_of_kind(&problem, "accountDoesNotExist") => {
            account::forget(home, &acme);
            once(&shared, &acme, &hosts, &ways).await
        }
        other => other,
    }
    .map_err(|failure| failure.words())
}

enum Failure {
    Acme(Error),
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}

impl Failure {
    fn words(&self) -> String {
        match self {
            Self::Acme(Error::Api(problem)) => words(problem),
            Self::Acme(error) => error.to_string(),
            Self::Other(text) => text.clone(),
        }
    }
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

async fn once(
    shared: &Arc<Shared>,
    acme: &Acme,
    hosts: &[String],
    ways: &[Way],
) -> Result<Ordered, Failure> {
    let account: Account = account::open(&shared.home, acme).await?;
    let identifiers: Vec<Identifier> = hosts.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    // Taken back when it is dropped.
    let mut posted = Posted { shared: Arc::clone(shared), tokens: Vec::new() };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status @ (AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated) => {
                let host = authorization.identifier().to_string();
                return Err(other(format!("{host} cannot be proved: it is {status:?}")));
            }
        }
        let offered =
            |way: &&Way| authorization.challenges.iter().any(|it| it.r#type == kind(**way));
        let Some(way) = ways.iter().find(offered).copied() else {
            let host = authorization.identifier().to_string();
            return Err(other(format!(
                "the issuer asks {host} neither at a door for HTTP nor at one for TLS"
            )));
        };
        let Some(mut challenge) = authorization.challenge(kind(way)) else { continue };
        let answer = challenge.key_authorization();
        let it = Challenge {
            host: challenge.identifier().to_string(),
            answer: answer.as_str().to_owned(),
            digest: answer.digest().as_ref().to_vec(),
        };
        posted.post(&challenge.token, &it)?;
        challenge.set_ready().await?;
    }
    match order.poll_ready(&ASK).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) | Err(Error::Api(_)) => return Err(why(&mut order).await),
        Err(error) => return Err(error.into()),
    }
    drop(posted);
    let key = KeyPair::generate().map_err(other)?;
    let mut params = CertificateParams::new(hosts).map_err(other)?;
    params.distinguished_name = DistinguishedName::new();
    let asked = params.serialize_request(&key).map_err(other)?;
    order.finalize_csr(asked.der()).await?;
    let chain = order.poll_certificate(&ASK).await?;
    Ok(Ordered { chain, key: key.serialize_pem() })
}

fn kind(way: Way) -> ChallengeType {
    match way {
        Way::Http => ChallengeType::Http01,
        Way::Tls => ChallengeType::TlsAlpn01,
    }
}

/// What is asked for one order.
struct Posted {
    shared: Arc<Shared>,
    tokens: Vec<String>,
}

impl Posted {
    fn post(&mut self, token: &str, challenge: &Challenge) -> Result<(), Failure> {
        self.tokens.push(token.to_owned());
        let (challenges, home): (&Challenges, &Path) = (&self.shared.challenges, &self.shared.home);
        let posted = challenges.post(home, token, challenge);
        posted.map_err(|error| other(format!("the issuer's challenge cannot be kept: {error}")))
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        // The issuer may be asking just now, and its answer will do for the successor's order.
        if !self.shared.succession.has_left() {
            self.shared.challenges.take_back(&self.shared.home, &self.tokens);
        }
    }
}

/// Why an order failed: what the issuer says of each host, or of the whole.
async fn why(order: &mut Order) -> Failure {
    let whole = order.state().error.as_ref().map(words);
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let host = authorization.identifier().to_string();
        let errors = authorization.challenges.iter().filter_map(|it| it.error.as_ref());
        said.extend(errors.map(|error| format!("{host}: {}", words(error))));
    }
    if said.is_empty() {
        said.extend(whole);
    }
    if said.is_empty() {
        said.push("the issuer gives up the order and does not say why".to_owned());
    }
    Failure::Other(said.join("; "))
}

/// An issuer's own words.
fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let kind = kind.strip_prefix(KIND).unwrap_or(kind);
    let mut text = problem.detail.clone().unwrap_or_else(|| "refused".to_owned());
    if !kind.is_empty() {
        text = format!("{text} ({kind})");
    }
    for it in &problem.subproblems {
        text = format!("{text}; {it}");
    }
    text
}

fn is_of_kind(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|it| it.strip_prefix(KIND)) == Some(kind)
}
