//! Caddy: its Caddyfile, loaded anew through its API.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, bail};

use super::{Files, HOST, Route, Setup, Speaks};

/// Connections to an instance that are kept: its own bound of 32 is fewer than are measured.
const KEPT: usize = 256;
/// Its documentation's way to try again: until something answers, and what failed is left out.
const RETRIES: &str = "      lb_try_duration 5s\n      fail_duration 5s\n      health_uri /\n      \
                       health_interval 1s\n";

pub(super) fn files(setup: &Setup) -> anyhow::Result<Files> {
    let doors = setup.doors;
    let mut routes = String::new();
    for Route { path, speaks, to, .. } in &setup.routes {
        let scheme = match speaks {
            Speaks::Http1 | Speaks::WebSocket => "",
            Speaks::Grpc => "h2c://",
        };
        let to: String = to.iter().map(|addr| format!(" {scheme}{addr}")).collect();
        let retries = if setup.retries { RETRIES } else { "" };
        let matches = if *path == "/" { String::new() } else { format!(" {path}*") };
        write!(
            routes,
            "  handle{matches} {{\n    reverse_proxy{to} {{\n      lb_policy round_robin\n{retries}"
        )?;
        let kept = format!("keepalive_idle_conns_per_host {KEPT}");
        write!(routes, "      transport http {{\n        {kept}\n      }}\n    }}\n  }}\n")?;
    }
    let text = format!(
        "{{\n  auto_https off\n  admin {}\n  servers {{\n    protocols h1 h2 h2c\n  }}\n}}\n\
         http://{HOST}:{}, http://{HOST}:{} {{\n  bind 127.0.0.1\n{routes}}}\n\
         https://{HOST}:{} {{\n  bind 127.0.0.1\n  tls {} {}\n{routes}}}\n",
        doors.admin,
        doors.plain.port(),
        doors.h2c.port(),
        doors.tls.port(),
        setup.certificate.chain.display(),
        setup.certificate.key.display()
    );
    Ok(vec![("Caddyfile".to_owned(), text)])
}

pub(super) fn arguments() -> Vec<String> {
    ["run", "--adapter", "caddyfile", "--config", "Caddyfile"].map(str::to_owned).into()
}

/// Has it serve another Caddyfile; comes back when it does.
pub(super) fn load(admin: SocketAddr, files: &Files) -> anyhow::Result<()> {
    let (_, text) = files.first().context("there is a Caddyfile")?;
    let mut stream = TcpStream::connect(admin)?;
    write!(
        stream,
        "POST /load HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\
         content-type: text/caddyfile\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("caddy did not take the configuration:\n{answer}");
    }
    Ok(())
}
