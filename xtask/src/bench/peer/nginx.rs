//! nginx: one worker; connections to instances are kept, as many as there can be requests at a time.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use super::super::nginx::config;
use super::{Files, Route, Setup, Speaks};

/// Connections to instances that are kept: one for each request at a time, because it never sends
/// two over one connection.
const KEPT: usize = 256;

pub(super) fn files(setup: &Setup, folder: &Path) -> anyhow::Result<Files> {
    let mut text = String::new();
    for Route { name, to, .. } in &setup.routes {
        let servers: String = to.iter().map(|addr| format!(" server {addr};")).collect();
        writeln!(
            text,
            "  upstream {name} {{ keepalive {KEPT}; keepalive_requests 1000000000;{servers} }}"
        )?;
    }
    let (doors, certificate) = (setup.doors, &setup.certificate);
    writeln!(
        text,
        "  server {{\n    listen {}; listen {} http2; listen {} ssl http2;\n    \
         ssl_certificate {}; ssl_certificate_key {};",
        doors.plain,
        doors.h2c,
        doors.tls,
        certificate.chain.display(),
        certificate.key.display()
    )?;
    for route in &setup.routes {
        writeln!(text, "    location {} {{ {} }}", route.path, location(route))?;
    }
    text.push_str("  }");
    Ok(vec![("nginx.conf".to_owned(), config(folder, "nginx", &text))])
}

fn location(Route { name, speaks, .. }: &Route) -> String {
    let told = |it| {
        format!(
            "{it}_set_header X-Forwarded-For $remote_addr; {it}_set_header X-Request-Id $request_id;"
        )
    };
    let http = format!("proxy_pass http://{name}; proxy_http_version 1.1; {}", told("proxy"));
    match speaks {
        Speaks::Http1 => format!("{http} proxy_set_header Connection \"\";"),
        Speaks::Grpc => format!("grpc_pass grpc://{name}; {}", told("grpc")),
        Speaks::WebSocket => format!(
            "{http} proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; \
             proxy_read_timeout 300s;"
        ),
    }
}

pub(super) fn arguments(folder: &Path) -> Vec<String> {
    let config = folder.join("nginx.conf").display().to_string();
    ["-c", &config, "-g", "daemon off;"].map(str::to_owned).into()
}

/// Tells it to read its configuration again.
pub(super) fn reload(program: &Path, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new("taskset")
        .args(["-c", "0"])
        .arg(program)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .args(["-s", "reload"])
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("nginx did not reload");
    }
    Ok(())
}
