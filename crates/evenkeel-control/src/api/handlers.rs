//! One function per endpoint: reads come from the latest snapshot, everything else is an order to
//! the engine.

#![expect(unused_qualifications, reason = "the macro that documents parameters qualifies them")]

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Door};
use axum::response::sse::{self, KeepAlive, Sse};
use evenkeel_kernel::model::{self, RevisionNumber, ServiceName, Stack};
use evenkeel_kernel::release::{Action, Change, Kind, Refusal};
use evenkeel_kernel::spec;
use http::StatusCode;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use utoipa::IntoParams;

use super::types::{
    Answer, Approve, Event, Failure, Hold, Lock, PlanView, Promote, Reason, ReceiverView,
    ReleaseView, Restart, Rollback, Scale, Status, Submission, Unhold, VersionView, WaitView,
};
use crate::engine::with_clocks;
use crate::listen::{Api, Caller};
use crate::notify::Untested;
use crate::orders::Order;
use crate::saved;
use crate::snapshot::Snapshot;
use crate::view;

type Refused = (StatusCode, Json<Failure>);
type Answered = Result<Json<Answer>, Refused>;

/// Journal entries in one answer, unless asked for fewer.
const ENTRIES_MAX: usize = 1_000;

#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = VersionView)))]
/// Which program answers.
pub(crate) async fn version() -> Json<VersionView> {
    Json(VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: 1,
        pid: std::process::id(),
        format: saved::FORMAT,
    })
}

#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
/// Everything about the stack at one moment.
pub(crate) async fn status(Door(api): Door<Api>) -> Json<Status> {
    let mut status = view::status(&api.latest.get());
    status.waits.extend(api.news.waits(status.at_ms));
    Json(status)
}

#[utoipa::path(get, path = "/v1/why", responses((status = 200, body = [WaitView])))]
/// What is waited for.
pub(crate) async fn why(Door(api): Door<Api>) -> Json<Vec<WaitView>> {
    let snapshot = api.latest.get();
    let mut waits = view::waits(&snapshot);
    waits.extend(api.news.waits(snapshot.wall_ms));
    Json(waits)
}

#[utoipa::path(get, path = "/v1/releases", responses((status = 200, body = [ReleaseView])))]
/// The releases that are remembered, newest first.
pub(crate) async fn releases(Door(api): Door<Api>) -> Json<Vec<ReleaseView>> {
    Json(view::releases(&api.latest.get()))
}

#[utoipa::path(
    get,
    path = "/v1/releases/{id}",
    params(("id" = u64, Path, description = "The number of the release")),
    responses((status = 200, body = ReleaseView), (status = 404, body = Failure))
)]
/// One release.
pub(crate) async fn release(
    Door(api): Door<Api>,
    Path(id): Path<u64>,
) -> Result<Json<ReleaseView>, Refused> {
    let releases = view::releases(&api.latest.get());
    let found = releases.into_iter().find(|release| release.id == id);
    found.map(Json).ok_or_else(|| {
        refused(
            StatusCode::NOT_FOUND,
            format!("release #{id} is not remembered"),
            "`evenkeel history` lists those that are",
        )
    })
}

/// Where to begin reading.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct Since {
    /// The place after which to begin; 0 is the beginning.
    #[serde(default)]
    after: u64,
    /// How many entries at most.
    limit: Option<usize>,
}

#[utoipa::path(get, path = "/v1/journal", params(Since), responses((status = 200, body = [Event])))]
/// The journal, oldest first.
pub(crate) async fn journal(
    Door(api): Door<Api>,
    Query(from): Query<Since>,
) -> Result<Json<Vec<Event>>, Refused> {
    let limit = from.limit.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX);
    let (reply, answer) = oneshot::channel();
    give(&api, Order::Tail { after: from.after, limit, reply })?;
    answer.await.map(Json).map_err(|_gone| gone())
}

#[utoipa::path(
    get,
    path = "/v1/events",
    params(Since),
    responses((status = 200, body = Event, content_type = "text/event-stream"))
)]
/// The journal's newest entries and everything that follows, as server-sent events.
pub(crate) async fn events(
    Door(api): Door<Api>,
    Query(from): Query<Since>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let mut news = api.events.follow();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut after = from.after;
        loop {
            for event in api.events.after(after) {
                after = event.seq;
                let text = serde_json::to_string(&event).unwrap_or_default();
                let event = sse::Event::default().id(after.to_string()).data(text);
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    Sse::new(tokio_stream::wrappers::ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
}

#[utoipa::path(
    post,
    path = "/v1/plan",
    request_body = Submission,
    responses((status = 200, body = PlanView), (status = 422, body = Failure))
)]
/// What a stack file would change. Nothing happens.
pub(crate) async fn plan(
    Door(api): Door<Api>,
    Json(submission): Json<Submission>,
) -> Result<Json<PlanView>, Refused> {
    let wanted = read(&submission)?;
    let snapshot = api.latest.get();
    let Snapshot { state, world, now, .. } = &*snapshot;
    let world = with_clocks(state, world, &wanted, *now);
    let prospect = state.prospect(&wanted, submission.hotfix.is_some(), &world, *now);
    Ok(Json(super::planned(&prospect, &wanted, &submission)))
}

#[utoipa::path(
    post,
    path = "/v1/apply",
    request_body = Submission,
    responses(
        (status = 200, body = Answer),
        (status = 409, body = Failure),
        (status = 422, body = Failure)
    )
)]
/// Releases a stack file.
pub(crate) async fn apply(
    Door(api): Door<Api>,
    caller: Caller,
    Json(submission): Json<Submission>,
) -> Answered {
    let wanted = read(&submission)?;
    let Submission { force, hotfix, expect_destroy, .. } = submission;
    let change = Change { wanted, kind: Kind::Apply, force, hotfix, expect_destroy };
    act(&api, caller, Action::Change(Box::new(change))).await
}

#[utoipa::path(
    post,
    path = "/v1/pause",
    request_body = Reason,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Holds the release where it is.
pub(crate) async fn pause(
    Door(api): Door<Api>,
    caller: Caller,
    reason: Option<Json<Option<Reason>>>,
) -> Answered {
    act(&api, caller, Action::Pause { reason: said(reason).reason }).await
}

#[utoipa::path(
    post,
    path = "/v1/resume",
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Goes on after a pause.
pub(crate) async fn resume(Door(api): Door<Api>, caller: Caller) -> Answered {
    act(&api, caller, Action::Resume).await
}

#[utoipa::path(
    post,
    path = "/v1/promote",
    request_body = Promote,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Takes the next step now.
pub(crate) async fn promote(
    Door(api): Door<Api>,
    caller: Caller,
    Json(promote): Json<Promote>,
) -> Answered {
    act(&api, caller, Action::Promote { full: promote.full }).await
}

#[utoipa::path(
    post,
    path = "/v1/approve",
    request_body = Approve,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Lets a step pass that waits at its gate.
pub(crate) async fn approve(
    Door(api): Door<Api>,
    caller: Caller,
    approve: Option<Json<Option<Approve>>>,
) -> Answered {
    act(&api, caller, Action::Approve { force: said(approve).force }).await
}

#[utoipa::path(
    post,
    path = "/v1/lock",
    request_body = Lock,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Lets nothing new be released, but for hotfixes.
pub(crate) async fn lock(Door(api): Door<Api>, caller: Caller, Json(lock): Json<Lock>) -> Answered {
    act(&api, caller, Action::Lock { reason: lock.reason }).await
}

#[utoipa::path(
    post,
    path = "/v1/unlock",
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Lets changes be released again.
pub(crate) async fn unlock(Door(api): Door<Api>, caller: Caller) -> Answered {
    act(&api, caller, Action::Unlock).await
}

#[utoipa::path(
    post,
    path = "/v1/hold",
    request_body = Hold,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Lets the requests of a service wait.
pub(crate) async fn hold(Door(api): Door<Api>, caller: Caller, Json(hold): Json<Hold>) -> Answered {
    let service = named(&hold.service)?;
    let lasts = hold.for_ms.map_or(model::Hold::LASTS, Duration::from_millis);
    act(&api, caller, Action::Hold { service, lasts, reason: hold.reason }).await
}

#[utoipa::path(
    post,
    path = "/v1/unhold",
    request_body = Unhold,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Serves them again.
pub(crate) async fn unhold(
    Door(api): Door<Api>,
    caller: Caller,
    Json(unhold): Json<Unhold>,
) -> Answered {
    act(&api, caller, Action::Unhold { service: named(&unhold.service)? }).await
}

#[utoipa::path(
    post,
    path = "/v1/abort",
    request_body = Reason,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Takes the release back before all traffic has moved.
pub(crate) async fn abort(
    Door(api): Door<Api>,
    caller: Caller,
    reason: Option<Json<Option<Reason>>>,
) -> Answered {
    act(&api, caller, Action::Abort { reason: said(reason).reason }).await
}

#[utoipa::path(
    post,
    path = "/v1/rollback",
    request_body = Rollback,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Goes back.
pub(crate) async fn rollback(
    Door(api): Door<Api>,
    caller: Caller,
    Json(rollback): Json<Rollback>,
) -> Answered {
    let to = match (rollback.service, rollback.revision) {
        (Some(service), number) => Some((named(&service)?, number.map(RevisionNumber))),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "a revision needs its service".to_owned(),
                "name both, or neither to take back the last release",
            ));
        }
    };
    act(&api, caller, Action::Rollback { to, force: rollback.force, reason: rollback.reason }).await
}

#[utoipa::path(
    post,
    path = "/v1/scale",
    request_body = Scale,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Sets how many instances a service has.
pub(crate) async fn scale(
    Door(api): Door<Api>,
    caller: Caller,
    Json(scale): Json<Scale>,
) -> Answered {
    let service = named(&scale.service)?;
    if u64::from(scale.replicas) > spec::REPLICAS_MAX {
        return Err(refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{} instances are more than one service may have", scale.replicas),
            &format!("at most {} are possible", spec::REPLICAS_MAX),
        ));
    }
    act(&api, caller, Action::Scale { service, replicas: scale.replicas }).await
}

#[utoipa::path(
    post,
    path = "/v1/restart",
    request_body = Restart,
    responses((status = 200, body = Answer), (status = 409, body = Failure))
)]
/// Replaces the instances of services by fresh ones, as a rollout.
pub(crate) async fn restart(
    Door(api): Door<Api>,
    caller: Caller,
    Json(restart): Json<Restart>,
) -> Answered {
    let services: Result<Vec<ServiceName>, Refused> =
        restart.services.iter().map(|name| named(name)).collect();
    act(&api, caller, Action::Restart { services: services?, force: restart.force }).await
}

#[utoipa::path(
    post,
    path = "/v1/stop-all",
    responses((status = 200, body = Answer), (status = 503, body = Failure))
)]
/// Stops every instance; the state stays, and the next start brings them back. Part of
/// `evenkeel down`.
pub(crate) async fn stop_all(Door(api): Door<Api>, caller: Caller) -> Answered {
    let (reply, answer) = oneshot::channel();
    give(&api, Order::StopAll { by: caller.name, reply })?;
    match answer.await.map_err(|_gone| gone())? {
        Ok(()) => {
            let text = "everything is stopped".to_owned();
            Ok(Json(Answer { release: None, text, journal: 0 }))
        }
        Err(left) => Err(refused(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not everything has stopped; {left}"),
            "try once more, or look at their logs",
        )),
    }
}

#[utoipa::path(get, path = "/v1/notify", responses((status = 200, body = [ReceiverView])))]
/// Who is told what happens, and how far they are.
pub(crate) async fn notify(Door(api): Door<Api>) -> Json<Vec<ReceiverView>> {
    Json(api.news.receivers())
}

#[utoipa::path(
    post,
    path = "/v1/notify/{name}/test",
    params(("name" = String, Path, description = "The name of the receiver")),
    responses(
        (status = 200, body = Answer),
        (status = 404, body = Failure),
        (status = 502, body = Failure)
    )
)]
/// Tells a receiver that it is being tried.
pub(crate) async fn notify_test(
    Door(api): Door<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answered {
    let (news, who) = (api.news.clone(), name.clone());
    // It blocks until the receiver answers, which must not hold up anybody else.
    let tried = tokio::task::spawn_blocking(move || news.test(&who, &caller.name));
    match tried.await.map_err(|_ended| gone())? {
        Ok(()) => {
            Ok(Json(Answer { release: None, text: format!("{name} has taken it"), journal: 0 }))
        }
        Err(Untested::Failed(why)) => Err(refused(
            StatusCode::BAD_GATEWAY,
            format!("{name} has not taken it: {why}"),
            "docs/notifications.md tells what each kind of receiver is sent",
        )),
        Err(Untested::Unknown(known)) => Err(refused(
            StatusCode::NOT_FOUND,
            format!("there is no receiver {name:?}"),
            &match known.as_slice() {
                [] => "describe one as [notify.NAME] in the stack file, and apply it".to_owned(),
                known => format!("there is {}", known.join(", ")),
            },
        )),
    }
}

/// What a body says that need not be there.
fn said<T: Default>(body: Option<Json<Option<T>>>) -> T {
    body.and_then(|Json(body)| body).unwrap_or_default()
}

/// Hands an action to the engine and waits for its answer.
async fn act(api: &Api, caller: Caller, action: Action) -> Answered {
    let (reply, answer) = oneshot::channel();
    give(api, Order::Act { action: Box::new(action), by: caller.name, reply })?;
    match answer.await.map_err(|_gone| gone())? {
        Ok((accepted, before)) => Ok(Json(Answer {
            release: accepted.release.map(|id| id.0),
            text: accepted.text,
            journal: before.0,
        })),
        Err(Refusal { reason, hint }) => {
            Err((StatusCode::CONFLICT, Json(Failure { error: reason, hint, problems: Vec::new() })))
        }
    }
}

fn give(api: &Api, order: Order) -> Result<(), Refused> {
    api.orders.give(order).map_err(|_busy| gone())
}

fn gone() -> Refused {
    refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "control is restarting or has too much to do".to_owned(),
        "try again in a moment",
    )
}

fn named(name: &str) -> Result<ServiceName, Refused> {
    name.parse().map_err(|error| {
        refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{name:?} is not the name of a service: {error}"),
            "`evenkeel status` lists the services",
        )
    })
}

fn refused(status: StatusCode, error: String, hint: &str) -> Refused {
    (status, Json(Failure { error, hint: Some(hint.to_owned()), problems: Vec::new() }))
}

/// The stack that a submission describes.
fn read(submission: &Submission) -> Result<Stack, Refused> {
    super::check(submission).map_err(|failure| (StatusCode::UNPROCESSABLE_ENTITY, Json(failure)))
}
