//! haproxy: one thread, a master that is told to reload and hands the listening sockets over.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::bail;

use super::{Files, Route, Setup, Speaks};

/// Its documentation's way to try again on another server; what may not be repeated is not.
const RETRIES: &str = "  retries 3\n  option redispatch 1\n  retry-on all-retryable-errors\n";
const NOT_REPEATED: &str = "  http-request disable-l7-retry if METH_POST\n";

/// With `all`, servers are there, switched off, to which nothing leads yet.
pub(super) fn files(setup: &Setup, folder: &Path, all: bool) -> anyhow::Result<Files> {
    let (doors, both) = (setup.doors, setup.certificate.both.display());
    let (retries, not_repeated, check) = match setup.retries {
        true => (RETRIES, NOT_REPEATED, " check inter 1s"),
        false => ("", "", ""),
    };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 4096\n  stats socket {}/haproxy.sock mode 600 level admin \
         expose-fd listeners\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 1s\n  \
         timeout tunnel 300s\n  option forwardfor\n  http-reuse always\n{retries}\
         frontend doors\n  bind {}\n  bind {} proto h2\n  bind {} ssl crt {both} alpn h2,http/1.1\n",
        folder.display(),
        doors.plain,
        doors.h2c,
        doors.tls,
    );
    for Route { name, path, .. } in &setup.routes {
        match *path {
            "/" => writeln!(text, "  default_backend {name}"),
            path => writeln!(text, "  use_backend {name} if {{ path_beg {path} }}"),
        }?;
    }
    for Route { name, speaks, to, or, .. } in &setup.routes {
        write!(text, "backend {name}\n  balance roundrobin\n{not_repeated}")?;
        let speaks = match speaks {
            Speaks::Http1 | Speaks::WebSocket => "",
            Speaks::Grpc => " proto h2",
        };
        for addr in to {
            writeln!(text, "  server {} {addr}{speaks}{check}", server(addr))?;
        }
        for addr in or.iter().filter(|_| all) {
            writeln!(text, "  server {} {addr}{speaks}{check} disabled", server(addr))?;
        }
    }
    Ok(vec![("haproxy.cfg".to_owned(), text)])
}

pub(super) fn arguments() -> Vec<String> {
    ["-W", "-db", "-f", "haproxy.cfg"].map(str::to_owned).into()
}

/// Switches servers on and off in place.
pub(super) fn set_servers(setup: &Setup, folder: &Path) -> anyhow::Result<()> {
    for Route { name, to, or, .. } in &setup.routes {
        let on = to.iter().map(|addr| (addr, "ready"));
        for (addr, state) in on.chain(or.iter().map(|addr| (addr, "maint"))) {
            let mut socket = UnixStream::connect(folder.join("haproxy.sock"))?;
            writeln!(socket, "set server {name}/{} state {state}", server(addr))?;
            let mut said = String::new();
            socket.read_to_string(&mut said)?;
            if !said.trim().is_empty() {
                bail!("haproxy does not switch a server: {said}");
            }
        }
    }
    Ok(())
}

/// The name of the server at this address.
fn server(addr: &SocketAddr) -> String {
    format!("s{}", addr.port())
}
