//! Programs that the tests run as instances, where a shell cannot do it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Long enough for any test, and an end for what a failing one leaves behind.
const LIFE: Duration = Duration::from_secs(120);

pub(crate) fn play(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let role = args.next().unwrap_or_default();
    let argument = args.next().unwrap_or_default().into_string().unwrap();
    if role == "say" {
        // Says something on the notify socket.
        let path = std::env::var("NOTIFY_SOCKET").unwrap();
        UnixDatagram::unbound().unwrap().send_to(argument.as_bytes(), path).unwrap();
    } else if role == "hog" {
        // Uses so many mebibytes.
        let held = vec![1_u8; argument.parse::<usize>().unwrap() << 20];
        thread::sleep(LIFE);
        drop(held);
    } else if role == "late" {
        // Takes so many milliseconds to listen, and leaves a file in its folder meanwhile.
        let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
        let name = format!("starting.{}", std::process::id());
        std::fs::write(&name, "").unwrap();
        thread::sleep(Duration::from_millis(argument.parse().unwrap()));
        std::fs::remove_file(&name).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        thread::sleep(LIFE);
        drop(listener);
    }
    ExitCode::SUCCESS
}
