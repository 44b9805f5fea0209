//! nginx from Debian, as an upstream and as a peer.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::process::on_processor;

/// Where Debian has it.
pub(super) const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx, ended when it is dropped.
#[derive(Debug)]
pub(super) struct Nginx {
    child: Child,
    config: PathBuf,
}

/// A configuration with `servers` inside its `http` block.
pub(super) fn config(folder: &Path, name: &str, servers: &str) -> String {
    let at = folder.join(name);
    let at = at.display();
    format!(
        "worker_processes 1;\nerror_log {at}.log crit;\npid {at}.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 75s;\n  \
         client_body_temp_path {at}.body;\n  proxy_temp_path {at}.proxy;\n  \
         fastcgi_temp_path {at}.fcgi;\n  uwsgi_temp_path {at}.uwsgi;\n  scgi_temp_path {at}.scgi;\n\
         {servers}\n}}\n"
    )
}

/// The block that proxies `listen` to `upstreams`.
pub(super) fn proxy(listen: SocketAddr, upstreams: &[SocketAddr]) -> String {
    let mut text =
        "  upstream up {\n    keepalive 64;\n    keepalive_requests 1000000000;\n".to_owned();
    for upstream in upstreams {
        writeln!(text, "    server {upstream};").expect("writing to a String cannot fail");
    }
    text.push_str("  }\n");
    text + &format!(
        "  server {{ listen {listen}; location / {{ proxy_pass http://up; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; \
         }} }}"
    )
}

impl Nginx {
    /// Starts it on processor `cpu`.
    pub(super) fn start(
        folder: &Path,
        name: &str,
        cpu: usize,
        servers: &str,
    ) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.conf"));
        std::fs::write(&path, config(folder, name, servers))?;
        let child = on_processor(cpu, PROGRAM)
            .arg("-c")
            .arg(&path)
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .spawn()
            .context("could not start nginx")?;
        Ok(Self { child, config: path })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the configuration and tells nginx.
    pub(super) fn reload(&self, folder: &Path, name: &str, servers: &str) -> anyhow::Result<()> {
        std::fs::write(&self.config, config(folder, name, servers))?;
        let status = Command::new(PROGRAM)
            .arg("-c")
            .arg(&self.config)
            .args(["-s", "reload"])
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("nginx did not reload");
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM lets the master end its workers; KILL would leave them.
        let pid = self.child.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.child.wait());
    }
}

/// Waits until something accepts connections at `addr`.
pub(super) fn await_listening(addr: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on {addr}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
