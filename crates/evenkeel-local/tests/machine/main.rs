//! The platform against real processes.
//!
//! This file is its own test harness, because it also is the shim and some of the programs that
//! the tests run: a shim has to be the first thing in its process. It understands as much of the
//! usual harness's arguments as people and nextest use.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "everything here is a test, though the lints cannot see it"
)]

mod hooks;
mod house;
mod lives;
mod measures;
mod once;
mod orders;
mod roles;
mod storms;
mod trees;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// A test and its name.
type Test = (&'static str, fn());

/// Tests at a time; each of them mostly waits.
const THREADS: usize = 4;

macro_rules! tests {
    ($($module:ident: $($name:ident)+;)+) => {
        [$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn()),)+)+]
    };
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(role) if role == "shim" => evenkeel_local::shim(args),
        Some(role) if role == "hold" => {
            evenkeel_local::hook::hold(&args.collect::<Vec<OsString>>())
        }
        Some(role) if role == "role" => roles::play(args),
        first => run(first.into_iter().chain(args).collect()),
    }
}

fn run(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.into_iter().map(|arg| arg.into_string().unwrap()).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let matches = |name: &str| match has("--exact") {
        true => filters.iter().any(|filter| *filter == name),
        false => filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)),
    };
    let chosen: VecDeque<Test> = all().into_iter().filter(|(name, _)| matches(name)).collect();
    if has("--list") {
        // None of them is ever ignored.
        let listed = chosen.iter().filter(|_| !has("--ignored"));
        listed.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (queue, failed) = (Mutex::new(chosen), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((name, test)) = next else { return };
                    let began = Instant::now();
                    let verdict = match panic::catch_unwind(test) {
                        Ok(()) => "ok",
                        Err(_) => {
                            failed.lock().unwrap().push(name);
                            "FAILED"
                        }
                    };
                    println!("test {name} ... {verdict} ({:.1?})", began.elapsed());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(" "));
    ExitCode::FAILURE
}

fn all() -> Vec<Test> {
    tests! {
        lives: starts_and_stops s13_restarts_without_a_driver is_adopted_by_the_next_driver
            outlives_its_shim outlives_its_shim_and_its_driver a_nursery_may_die a_stranger_with_its_pid_is_left_alone
            s39_a_reboot_leaves_nothing says_why_it_cannot_start s38_waits_for_its_port
            s15_runs_the_content_it_was_made_of a_normal_user_can_do_it_all a_lost_instance_is_ended
            s29_an_instance_whose_files_are_garbage_keeps_nobody_else_from_anything
            s33_instances_that_take_long_to_stop_delay_no_other_pool;
        trees: s36_daemons_do_not_survive s36_what_strays_started_does_not_survive_a_new_shim s36_fifty_processes_do_not_survive
            whoever_ignores_the_signal_is_killed the_group_of_a_quick_shell_keeps_its_grace
            strays_are_cleared_before_a_restart memory_is_limited s37_a_flood_of_output_is_cut
            s36_a_fork_bomb_is_stopped_while_it_grows
            s37_a_flood_of_output_without_control_neither_blocks_nor_kills
            the_shim_ends_its_instance_on_sigterm;
        orders: s02_s03_older_orders_are_refused notify_makes_ready a_command_makes_ready
            stuck_clients_hold_nobody_up control_is_woken_by_name a_new_surrounding_comes_with_the_next_start;
        once: runs_once_and_says_how_it_ended leaves_nothing_behind
            goes_on_without_its_shim_and_is_not_run_again lost_with_its_shim_it_has_failed
            s35_a_shim_becomes_another_program_again_and_again_and_nothing_is_missed
            lost_with_the_machine_it_has_failed an_attempt_waits_until_the_one_before_is_gone;
        hooks: fed_heard_and_says_how_it_ended sees_nothing_of_controls_own_environment
            too_long_or_unwanted_it_goes_with_all_it_started
            what_it_leaves_open_is_not_waited_for when_control_dies_so_does_what_it_ran
            when_its_holder_is_killed_it_dies half_a_message_starts_nothing;
        measures: shims_are_small_and_quick processor_time_is_measured_where_it_is_asked_for;
        storms: s30_a_few_start_at_a_time_however_many_have_died;
    }
    .to_vec()
}
