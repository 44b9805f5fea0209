//! `evenkeel demo`: a whole life in a minute. It starts everything in a temporary folder, sends it
//! load, and shows releases, bad releases, crashes and a way back, and changes of a schema where the
//! machine has a PostgreSQL; then it counts.

mod database;
mod example;
mod exchange;
mod installed;
mod ledger;
mod load;
mod order;
mod record;
mod script;
mod show;
mod stack;
mod stage;
mod strike;

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use self::ledger::Ledger;
use self::script::Script;
use self::show::Show;
use self::stage::Stage;
use crate::cli::Demo;
use crate::exit::Exit;

/// The demo as a whole: beyond this something is stuck that no single deadline has caught.
const DEMO_MAX: Duration = Duration::from_secs(150);

/// Time between two looks at the journal, and between two pictures.
const WATCH: Duration = Duration::from_millis(100);

/// Plays the demo.
pub(super) async fn run(args: &Demo, as_json: bool) -> anyhow::Result<Exit> {
    let show = RefCell::new(Show::new(as_json));
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("could not listen for signals")?;
    let mut playing = Box::pin(timeout(DEMO_MAX, play(args, &show)));
    let played = tokio::select! {
        played = &mut playing => Some(played),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hangup.recv() => None,
    };
    show.borrow_mut().clear();
    if played.is_none() {
        show.borrow_mut().says("interrupted", "interrupted; everything is taken down");
    }
    // The stage is dropped with the play, whatever has ended it, and takes everything down.
    drop(playing);
    match played {
        Some(played) => played
            .with_context(|| format!("the demo did not end within {} s", DEMO_MAX.as_secs()))?,
        None => Ok(Exit::Interrupted),
    }
}

/// Runs one of the example's services.
pub(super) fn example(name: &str) -> anyhow::Result<Exit> {
    example::run(name)
}

async fn play(args: &Demo, show: &RefCell<Show>) -> anyhow::Result<Exit> {
    show.borrow_mut().step("evenkeel starts its roles in a temporary folder");
    let stage = Stage::build(args).await?;
    let text = format!("keeper, control and edge run; their home is {}", stage.home().display());
    show.borrow_mut().says("started", &text);

    let script = Script::new(&stage, show, args.rate);
    let played = tokio::select! {
        played = script.play() => played,
        () = watch(&script) => bail!("the journal cannot be followed"),
    };
    script.news().await;
    if played.is_err()
        && let Ok(load) = script.load()
    {
        // What went wrong may well be seen in what was lost.
        let lines = ledger::verdict(&load.record(), &show.borrow());
        lines.iter().for_each(|line| show.borrow_mut().line(line));
    }
    let played = played?;
    let load = script.ended().context("there was no load")?;
    show.borrow_mut().step("everything is taken down");
    let kept = stage.strike()?;

    let mut show = show.borrow_mut();
    let ledger = Ledger { played, took: show.elapsed() };
    let record = load.record();
    for line in ledger.lines(&record, &show) {
        show.line(&line);
    }
    if let Some(folder) = kept {
        show.line(&format!("logs and journal are in {}", folder.display()));
    }
    show.json(&ledger.json(&record));
    Ok(if record.failed == 0 { Exit::Done } else { Exit::Error })
}

/// Shows what goes on, for as long as it is asked to.
async fn watch(script: &Script<'_>) {
    let mut beat = tokio::time::interval(WATCH);
    loop {
        beat.tick().await;
        script.news().await;
        if let Ok(load) = script.load() {
            script.show.borrow_mut().draw(&load.record());
        }
    }
}
