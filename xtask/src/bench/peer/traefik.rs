//! Traefik: routes in a file that it watches.

use std::fmt::Write as _;

use super::{Files, Route, Setup, Speaks};

pub(super) fn files(setup: &Setup) -> anyhow::Result<Files> {
    let (chain, key) = (setup.certificate.chain.display(), setup.certificate.key.display());
    let (mut routers, mut services) = (String::new(), String::new());
    let again = if setup.retries { "      middlewares: [again]\n" } else { "" };
    let check = match setup.retries {
        true => "        healthCheck: {path: /, interval: 1s, timeout: 1s}\n",
        false => "",
    };
    for Route { name, path, speaks, to, .. } in &setup.routes {
        for (door, entries, tls) in [("plain", "a, b", ""), ("tls", "c", "      tls: {}\n")] {
            write!(
                routers,
                "    {name}-{door}:\n      entryPoints: [{entries}]\n      \
                 rule: PathPrefix(`{path}`)\n      service: {name}\n{again}{tls}"
            )?;
        }
        let scheme = match speaks {
            Speaks::Http1 | Speaks::WebSocket => "http",
            Speaks::Grpc => "h2c",
        };
        write!(services, "    {name}:\n      loadBalancer:\n{check}        servers:\n")?;
        for addr in to {
            writeln!(services, "          - url: {scheme}://{addr}")?;
        }
    }
    // Its documentation's example of how to try again.
    let middlewares = match setup.retries {
        true => "  middlewares:\n    again:\n      retry: {attempts: 4, initialInterval: 100ms}\n",
        false => "",
    };
    let text = format!(
        "tls:\n  certificates:\n    - certFile: {chain}\n      keyFile: {key}\n\
         http:\n{middlewares}  routers:\n{routers}  services:\n{services}"
    );
    Ok(vec![("routes.yaml".to_owned(), text)])
}

pub(super) fn arguments(setup: &Setup) -> Vec<String> {
    let doors = [("a", setup.doors.plain), ("b", setup.doors.h2c), ("c", setup.doors.tls)];
    let doors = doors.map(|(name, addr)| format!("--entrypoints.{name}.address={addr}"));
    let others = ["--providers.file.filename=routes.yaml", "--log.level=ERROR"].map(str::to_owned);
    others.into_iter().chain(doors).collect()
}
