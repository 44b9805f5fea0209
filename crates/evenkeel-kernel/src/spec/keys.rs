//! The description of the stack file: every table and every key, with what they mean.
//!
//! Defaults are not written here a second time: they are read from the model.

use std::time::Duration;

use super::checks::{CHECK_ERRORS, CHECK_EVERY, CHECK_TIMEOUT};
use super::database::{DATABASE, DATABASES_MAX};
use super::door::{CERTIFICATE, EDGE, UPSTREAM_TLS};
use super::freeze::ZONE;
use super::job::{JOB, JOBS_MAX};
use super::rollout::{Profile, STEP_BAKE};
use super::route::{ROUTE, TCP};
use super::schema::{Key, Kind, Table, span_text};
use super::traffic::{MIRROR, TESTERS, TRAFFIC};
use crate::model::{Analysis, Discovery, Gate, Health, Protocol, Rollout, Scale, Stop};

/// Where the edge listens when there are routes and the file does not say.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// The most services in one file; far beyond what one machine runs.
pub const SERVICES_MAX: usize = 1_000;
/// The most routes in one file.
pub const ROUTES_MAX: usize = 1_000;
/// The most certificates in one file.
const CERTIFICATES_MAX: usize = 1_000;
/// The most receivers; each has a thread of its own.
pub const RECEIVERS_MAX: usize = 20;
/// The most instances of one service.
pub const REPLICAS_MAX: u64 = 10_000;
/// The most requests at a time that an instance can be meant to have: as many as the edge sends it.
const IN_FLIGHT_MAX: u64 = 1_000;
/// The most requests that a step can be asked to see.
const REQUESTS_MAX: u64 = 1_000_000_000;
/// The most checks of one service.
const CHECKS_MAX: usize = 20;
/// The most freezes of one file; a year's holidays are a dozen.
pub const FREEZES_MAX: usize = 100;
/// The most steps of one canary; a person watches each of them.
pub const STEPS_MAX: usize = 20;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Half of the time that a release may go without progress: every batch of it waits for this.
const LINGER_MAX: u64 = 5 * MINUTE;

/// The file itself.
pub(crate) static STACK: Table = Table {
    id: "stack",
    header: "",
    doc: "What one file describes: services, and which requests from outside reach them.",
    short: None,
    keys: &[
        Key::new("stack", Kind::Name, "\"shop\"", "The name of the stack.")
            .required()
            .elsewhere(&["name", "project", "app"]),
        Key::new(
            "service",
            Kind::Tables { of: &SERVICE, max: SERVICES_MAX },
            "{ web = { run = [\"./web\"] } }",
            "The services, by name.",
        )
        .elsewhere(&["services", "process", "processes"]),
        Key::new(
            "job",
            Kind::Tables { of: &JOB, max: JOBS_MAX },
            "{ migrate = { run = [\"./migrate\"] } }",
            "What runs once per release, by name.",
        )
        .elsewhere(&["jobs", "task", "tasks", "hooks", "migrations"]),
        Key::new(
            "database",
            Kind::Tables { of: &DATABASE, max: DATABASES_MAX },
            "{ main = { url = \"env:DATABASE_URL\", migrations = \"db/migrations\" } }",
            "The databases, by name.",
        )
        .elsewhere(&["databases", "db", "postgres", "postgresql"]),
        Key::new(
            "route",
            Kind::Tables { of: &ROUTE, max: ROUTES_MAX },
            "{ shop = { to = \"web\" } }",
            "The routes, by name.",
        )
        .elsewhere(&["routes", "ingress", "http"]),
        Key::new(
            "tcp",
            Kind::Tables { of: &TCP, max: ROUTES_MAX },
            "{ db = { listen = \"127.0.0.1:5432\", to = \"database\" } }",
            "Doors for what is not HTTP, by name.",
        )
        .elsewhere(&["streams", "stream", "tcp_routes"]),
        Key::new(
            "certificate",
            Kind::Tables { of: &CERTIFICATE, max: CERTIFICATES_MAX },
            "{ shop = { hosts = [\"shop.example.com\"], acme = true } }",
            "The certificates, by name.",
        )
        .elsewhere(&["certificates", "cert", "certs", "tls", "ssl"]),
        Key::new(
            "edge",
            Kind::Table(&EDGE),
            "{ listen = \"127.0.0.1:8080\" }",
            "The door to the outside.",
        )
        .elsewhere(&["proxy", "server"]),
        Key::new(
            "notify",
            Kind::Tables { of: &NOTIFY, max: RECEIVERS_MAX },
            "{ ops = { slack = \"env:SLACK_URL\" } }",
            "Who is told what happens, by name.",
        )
        .elsewhere(&["notifications", "alerts", "receivers", "hooks"]),
        Key::new(
            "freeze",
            Kind::Tables { of: &FREEZE, max: FREEZES_MAX },
            "{ weekend = { from = \"Fri 16:00\", to = \"Mon 08:00\" } }",
            "The freezes, by name.",
        )
        .elsewhere(&["freezes", "freeze_window", "maintenance", "blackout"]),
        Key::new("pace", Kind::Table(&PACE), "{ between = \"10m\" }", "How fast changes may come.")
            .elsewhere(&["rate", "rate_limit", "limits", "concurrency"]),
        Key::new(
            "discovery",
            Kind::Table(&DISCOVERY),
            "{ dns = \"127.0.0.1:5353\" }",
            "Where services are told of.",
        )
        .elsewhere(&["dns", "consul", "registry", "xds"]),
    ],
};

/// `[service.NAME]`
pub(super) static SERVICE: Table = Table {
    id: "service",
    header: "[service.NAME]",
    doc: "A program that Evenkeel keeps running, as one or more equal instances. An instance \
          listens on `$PORT`, finds a service that it uses in `<NAME>_URL`, and has said that it \
          is ready when its health check succeeds. A change of anything but `replicas`, \
          `scale` and `rollout` makes a new revision.",
    short: None,
    keys: &[
        Key::new(
            "run",
            Kind::Command,
            "[\"./web\", \"--port\", \"$PORT\"]",
            "The program and its arguments. No shell is involved: one text is split at spaces and \
             quotes like a shell would, and only `$PORT` and `${PORT}` in an argument are \
             replaced, by the instance's port.",
        )
        .required()
        .elsewhere(&["command", "cmd", "exec", "start", "entrypoint", "args"]),
        Key::new(
            "dir",
            Kind::Text,
            "\"backend\"",
            "The working folder, as seen from the file's folder.",
        )
        .otherwise("the file's folder")
        .elsewhere(&["cwd", "workdir", "working_dir", "directory", "root", "chdir"]),
        Key::new(
            "env",
            Kind::Variables,
            "{ LOG = \"info\", WORKERS = 4 }",
            "Environment variables. Numbers and flags are passed on as they are written.",
        )
        .elsewhere(&["environment", "envs", "variables", "vars"]),
        Key::new(
            "env_file",
            Kind::Texts,
            "[\".env\", \"web.env\"]",
            "Files of NAME=value lines, as seen from the file's folder. A later file wins over an \
             earlier one, and `env` over all. Lines for variables that Evenkeel itself sets, such \
             as PORT, are passed over.",
        )
        .elsewhere(&["env_files", "dotenv", "envfile", "environment_file"]),
        Key::new(
            "config",
            Kind::Texts,
            "[\"app.toml\"]",
            "Files that it is configured by, as seen from the file's folder. They are part of the \
             revision: each instance gets copies of its own in the folder that \
             `$CONFIGURATION_DIRECTORY` names, also in `run`, and a rollback brings the old ones \
             back.",
        )
        .elsewhere(&["configs", "config_files", "configmap", "files"]),
        Key::new(
            "secrets",
            Kind::Variables,
            "{ STRIPE_KEY = \"env:STRIPE_KEY\", CERT = \"file:/etc/shop/cert.pem\" }",
            "What it must know and nobody else: for each name where it comes from, `env:NAME` of \
             whoever applies, `file:PATH`, or `age:PATH` for a file encrypted with age (opened by \
             `age` with the identity in `$EVENKEEL_AGE_IDENTITY`). Each is a file, readable only \
             by its instance's user, in the folder that `$CREDENTIALS_DIRECTORY` names. It is part \
             of the revision, so another secret is another rollout, and it is never shown.",
        )
        .elsewhere(&["secret", "credentials", "load_credential"]),
        Key::new(
            "secrets_in_env",
            Kind::Texts,
            "[\"STRIPE_KEY\"]",
            "Those of its secrets that are also variables of its environment.",
        ),
        Key::new(
            "replicas",
            Kind::Count { min: 1, max: REPLICAS_MAX },
            "4",
            "How many instances serve.",
        )
        .otherwise("1, or `min` where it scales")
        .elsewhere(&["instances", "count", "num", "size", "numprocs"]),
        Key::new(
            "uses",
            Kind::Services,
            "[\"catalog\"]",
            "The services it calls, and databases (`\"database.main\"`). Each is reached at the \
             address in `<NAME>_URL`, here CATALOG_URL, through all its rollouts.",
        )
        .elsewhere(&["depends_on", "needs", "requires", "links", "after", "wants"]),
        Key::new(
            "health",
            Kind::Table(&HEALTH),
            "\"/healthz\"",
            "How an instance is known to be well.",
        )
        .elsewhere(&[
            "healthcheck",
            "health_check",
            "check",
            "checks",
            "probe",
            "readiness",
        ]),
        Key::new(
            "stop",
            Kind::Table(&STOP),
            "{ grace = \"10s\" }",
            "How an instance is taken out of service.",
        )
        .elsewhere(&["shutdown", "kill", "stop_grace_period", "stop_signal"]),
        Key::new(
            "limits",
            Kind::Table(&LIMITS),
            "{ memory = \"512MiB\" }",
            "What one instance may use up.",
        )
        .elsewhere(&["resources", "ulimits", "limit", "quota"]),
        Key::new(
            "protocol",
            Kind::Choice(Protocol::NAMES),
            "\"h2c\"",
            "What it speaks on its port: `http` is HTTP/1.1, and HTTP/2 for calls of gRPC; `h2c` is \
             HTTP/2 without TLS for everything but WebSockets; `tcp` is anything else.",
        )
        .preset(|| "\"http\"".to_owned())
        .elsewhere(&["scheme", "proto", "app_protocol", "backend_protocol", "grpc"]),
        Key::new(
            "tls",
            Kind::Table(&UPSTREAM_TLS),
            "{ name = \"web.internal\", ca = \"ca.pem\" }",
            "How the edge makes sure that it speaks to the right one.",
        )
        .elsewhere(&["mtls", "backend_tls", "upstream_tls", "ssl"]),
        Key::new(
            "traffic",
            Kind::Table(&TRAFFIC),
            "{ balance = \"least-request\" }",
            "How requests spread over its instances.",
        )
        .elsewhere(&["load_balancer", "balancer", "lb", "balance"]),
        Key::new(
            "exclusive",
            Kind::Flag,
            "true",
            "Only one instance may run at a time, because it owns something that cannot be shared: \
             a data folder, a device. The old instance is then stopped before the new one starts.",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["singleton", "single"]),
        Key::new(
            "scale",
            Kind::Table(&SCALE),
            "{ max = 10, in_flight = 20 }",
            "How the number of its instances follows the load; `replicas` is then where it begins.",
        )
        .elsewhere(&["autoscale", "autoscaling", "autoscaler", "hpa", "scaling"]),
        Key::new(
            "rollout",
            Kind::Table(&ROLLOUT),
            "{ strategy = \"canary\" }",
            "How a new revision takes over.",
        )
        .elsewhere(&["deploy", "deployment", "update", "strategy", "update_config"]),
    ],
};

/// `[service.NAME.health]`
static HEALTH: Table = Table {
    id: "health",
    header: "[service.NAME.health]",
    doc: "How an instance is known to be well. At most one of `http`, `grpc`, `tcp`, `exec`, \
          `notify` and `process`; without any, a TCP connection where the service is routed or used by \
          another, else that the process lives. `health = \"/healthz\"` is short for \
          `health = { http = \"/healthz\" }`.",
    short: Some("http"),
    keys: &[
        Key::new("http", Kind::UrlPath, "\"/healthz\"", "`GET` of this path answers 200 to 399.")
            .elsewhere(&["path", "url", "endpoint", "http_get", "uri"]),
        Key::new(
            "grpc",
            Kind::YesOrText,
            "\"shop.Catalog\"",
            "`grpc.health.v1.Health/Check` answers `SERVING`: of this service of gRPC, or with \
             `true` of the server as a whole.",
        )
        .elsewhere(&["grpc_health", "grpc_service"]),
        Key::new("tcp", Kind::Yes, "true", "The port accepts a connection.").elsewhere(&[
            "port",
            "tcp_socket",
            "connect",
        ]),
        Key::new(
            "exec",
            Kind::Command,
            "[\"./check\", \"--fast\"]",
            "This command ends with exit status 0. It runs in the instance's folder and \
             environment, and `$PORT` in it is replaced as in `run`.",
        )
        .elsewhere(&["command", "cmd", "test", "script", "run"]),
        Key::new(
            "notify",
            Kind::Yes,
            "true",
            "The instance says `READY=1` on `$NOTIFY_SOCKET`, as with systemd, and keeps its \
             watchdog alive if it uses one.",
        )
        .elsewhere(&["sd_notify", "systemd"]),
        Key::new("process", Kind::Yes, "true", "The process lives.").elsewhere(&["alive", "none"]),
        Key::new(
            "interval",
            Kind::Span { min: 100, max: HOUR },
            "\"1s\"",
            "Time between two probes of an instance that is known to be well.",
        )
        .preset(|| span(Health::default().interval))
        .elsewhere(&["period", "every", "period_seconds"]),
        Key::new(
            "timeout",
            Kind::Span { min: 10, max: 10 * MINUTE },
            "\"500ms\"",
            "How long one probe may take.",
        )
        .preset(|| span(Health::default().timeout))
        .elsewhere(&["timeout_seconds", "deadline"]),
        Key::new(
            "healthy_after",
            Kind::Count { min: 1, max: 100 },
            "3",
            "Successes in a row that make it healthy.",
        )
        .preset(|| Health::default().healthy_after.to_string())
        .elsewhere(&["rise", "success_threshold", "healthy_threshold"]),
        Key::new(
            "unhealthy_after",
            Kind::Count { min: 1, max: 100 },
            "5",
            "Failures in a row that make it unhealthy.",
        )
        .preset(|| Health::default().unhealthy_after.to_string())
        .elsewhere(&["fall", "retries", "failure_threshold", "unhealthy_threshold"]),
    ],
};

/// `[service.NAME.stop]`
static STOP: Table = Table {
    id: "stop",
    header: "[service.NAME.stop]",
    doc: "How an instance is taken out of service: it gets no new requests, its running ones end, \
          it is asked to end, and what is left of it is killed.",
    short: None,
    keys: &[
        Key::new("signal", Kind::Signal, "\"INT\"", "The signal that asks it to end.")
            .preset(|| "\"TERM\"".to_owned())
            .elsewhere(&["stop_signal", "kill_signal"]),
        Key::new(
            "grace",
            Kind::Span { min: 0, max: HOUR },
            "\"10s\"",
            "Time between that signal and the kill of its whole process tree.",
        )
        .preset(|| span(Stop::default().grace))
        .elsewhere(&["timeout", "kill_timeout", "stop_grace_period", "grace_period"]),
        Key::new(
            "drain",
            Kind::Span { min: 0, max: HOUR },
            "\"1m\"",
            "How long its running requests may take once it gets no new ones.",
        )
        .preset(|| span(Stop::default().drain))
        .elsewhere(&["drain_timeout", "deregistration_delay", "shutdown_delay"]),
        Key::new(
            "drain_long_lived",
            Kind::Span { min: 0, max: DAY },
            "\"15m\"",
            "The same for upgraded connections, such as WebSockets.",
        )
        .preset(|| span(Stop::default().drain_long_lived))
        .elsewhere(&["drain_websocket", "drain_upgraded"]),
    ],
};

/// `[service.NAME.limits]`
static LIMITS: Table = Table {
    id: "limits",
    header: "[service.NAME.limits]",
    doc: "What one instance may use up. What is left out is not limited.",
    short: None,
    keys: &[
        Key::new(
            "memory",
            Kind::Size { min: 1 << 20 },
            "\"512MiB\"",
            "Resident memory of its whole process tree: `MiB` counts in 1024s, `MB` in 1000s, a \
             bare number is bytes.",
        )
        .elsewhere(&["mem", "ram", "memory_max", "mem_limit"]),
        Key::new(
            "cpu",
            Kind::Cpu,
            "0.5",
            "Processor time in cores: `0.5`, `\"500m\"` and `\"50%\"` are half a core.",
        )
        .elsewhere(&["cpus", "cores", "processor"]),
        Key::new("files", Kind::Count { min: 16, max: 1 << 20 }, "4096", "Open files per process.")
            .elsewhere(&["nofile", "fds", "open_files"]),
    ],
};

/// `[service.NAME.scale]`
static SCALE: Table = Table {
    id: "scale",
    header: "[service.NAME.scale]",
    doc: "How the number of instances follows the load, for each revision by its own. There are \
          as many as bring each of them near its target; a tenth to either side changes nothing. \
          It grows to the double at most, or by four, at a time, and never shrinks because of \
          something that could not be measured, nor while it is released. A change of it makes no \
          new revision.",
    short: None,
    keys: &[
        Key::new(
            "min",
            Kind::Count { min: 0, max: REPLICAS_MAX },
            "2",
            "Never fewer instances than this. With 0 it has none while nobody asks for it; who asks \
             then waits until one has started, as `traffic.queue_wait` says (10s as preset then).",
        )
        .preset(|| "1".to_owned())
        .elsewhere(&["min_replicas", "minimum", "floor", "min_count"]),
        Key::new(
            "max",
            Kind::Count { min: 1, max: REPLICAS_MAX },
            "10",
            "Never more instances than this.",
        )
        .required()
        .elsewhere(&["max_replicas", "maximum", "ceiling", "max_count"]),
        Key::new(
            "in_flight",
            Kind::Count { min: 1, max: IN_FLIGHT_MAX },
            "20",
            "Requests that one instance is to be answering at a time.",
        )
        .otherwise("`10`, unless there is `cpu`")
        .elsewhere(&["concurrency", "requests", "target_concurrency", "soft_limit"]),
        Key::new(
            "cpu",
            Kind::Part,
            "\"70%\"",
            "The part of its processor time that one instance is to use: of `limits.cpu`, or of \
             one core. With `in_flight` too, what asks for more instances counts.",
        )
        .elsewhere(&["target_cpu", "cpu_percent", "target_cpu_utilization_percentage"]),
        Key::new(
            "up_after",
            Kind::Span { min: 0, max: HOUR },
            "\"5s\"",
            "How long more instances must have been needed before it grows.",
        )
        .preset(|| span(Scale::UP_AFTER))
        .elsewhere(&["scale_up_delay", "up_delay"]),
        Key::new(
            "down_after",
            Kind::Span { min: 1_000, max: DAY },
            "\"10m\"",
            "How long fewer instances must have been enough before it shrinks, and then only to as \
             many as were needed at most in that time.",
        )
        .preset(|| span(Scale::DOWN_AFTER))
        .elsewhere(&["cooldown", "scale_down_delay", "down_delay", "stabilization_window"]),
        Key::new(
            "zero_after",
            Kind::Span { min: 1_000, max: DAY },
            "\"15m\"",
            "With `min = 0`: how long nobody must have asked for it before it has none.",
        )
        .preset(|| span(Scale::ZERO_AFTER))
        .elsewhere(&["idle_timeout", "idle_after", "scale_to_zero_after", "cooldown_period"]),
    ],
};

/// `[service.NAME.rollout]`
static ROLLOUT: Table = Table {
    id: "rollout",
    header: "[service.NAME.rollout]",
    doc: "How a new revision takes over from the old one. The old one stays ready to serve until \
          the release is over, so going back is always one change of routing.",
    short: None,
    keys: &[
        Key::new(
            "strategy",
            Kind::Choice(&["rolling", "blue-green", "canary"]),
            "\"canary\"",
            "`rolling` replaces a few instances at a time, `blue-green` starts a whole second set \
             and then moves all traffic at once, `canary` moves traffic by steps and judges each.",
        )
        .preset(|| "\"rolling\"".to_owned())
        .elsewhere(&["type", "kind", "mode"]),
        Key::new(
            "max_surge",
            Kind::Share,
            "\"50%\"",
            "How many instances may run beyond `replicas`; a part is rounded up.",
        )
        .only("rolling")
        .otherwise("`\"25%\"`, or `0` for an exclusive service")
        .elsewhere(&["surge", "maxsurge"]),
        Key::new(
            "max_unavailable",
            Kind::Share,
            "1",
            "How many of `replicas` may be missing meanwhile; a part is rounded down.",
        )
        .only("rolling")
        .otherwise("`0`, or `1` for an exclusive service")
        .elsewhere(&["unavailable", "maxunavailable", "parallelism", "max_parallel"]),
        Key::new(
            "preview",
            Kind::Host,
            "\"next.shop.example.com\"",
            "A host name under which the new revision can be looked at before the switch.",
        )
        .only("blue-green")
        .elsewhere(&["preview_host", "test_host"]),
        Key::new(
            "profile",
            Kind::Choice(Profile::NAMES),
            "\"careful\"",
            "A ready-made series of steps. `standard`: 1, 5, 25, 50 % in half an hour. `careful`: \
             1 % for an hour, 10 % for half a day, then 25 and 50 % for 4 and 2 hours, with 1m of \
             `min_ready` and 12h of `bake`. `hotfix`: 10 % for a minute. Keys beside it win.",
        )
        .only("canary")
        .otherwise("`\"standard\"`, unless there are `steps`"),
        Key::new(
            "steps",
            Kind::List { of: &STEP, max: STEPS_MAX },
            "[{ weight = \"1%\", bake = \"5m\" }, { weight = \"25%\", bake = \"10m\" }]",
            "Rising exposures, each watched for a while; the step to all traffic is not written.",
        )
        .only("canary")
        .elsewhere(&["weights", "phases", "stages"]),
        Key::new(
            "min_ready",
            Kind::Span { min: 0, max: HOUR },
            "\"30s\"",
            "How long a new instance must be healthy before it counts.",
        )
        .preset(|| span(Rollout::default().min_ready))
        .elsewhere(&["min_ready_seconds", "min_healthy_time"]),
        Key::new(
            "start_deadline",
            Kind::Span { min: 1_000, max: DAY },
            "\"2m\"",
            "How long one instance may take to become healthy.",
        )
        .preset(|| span(Rollout::default().start_deadline))
        .elsewhere(&["healthy_deadline", "start_timeout", "start_period"]),
        Key::new(
            "progress_deadline",
            Kind::Span { min: 1_000, max: 7 * DAY },
            "\"20m\"",
            "How long a release may go without progress before it is taken back.",
        )
        .preset(|| span(Rollout::default().progress_deadline))
        .elsewhere(&["progress_deadline_seconds", "timeout"]),
        Key::new(
            "failure_budget",
            Kind::Count { min: 0, max: REPLICAS_MAX },
            "5",
            "Failed starts of new instances that are tolerated.",
        )
        .otherwise("3 or half of the replicas, whichever is more")
        .elsewhere(&["max_failures", "max_failure_ratio", "retries"]),
        Key::new(
            "bake",
            Kind::Span { min: 0, max: DAY },
            "\"1h\"",
            "How long the old revision stays ready to serve after all traffic has moved.",
        )
        .preset(|| span(Rollout::default().bake))
        .elsewhere(&["bake_time", "monitor", "soak"]),
        Key::new("auto_rollback", Kind::Flag, "false", "A failing release goes back on its own.")
            .preset(|| Rollout::default().auto_rollback.to_string())
            .elsewhere(&["auto_revert", "rollback", "autorollback"]),
        Key::new(
            "analysis",
            Kind::Table(&ANALYSIS),
            "{ tolerance = \"50%\" }",
            "How a new revision is judged by its requests.",
        )
        .elsewhere(&["verify", "metrics", "judge"]),
        Key::new(
            "sticky",
            Kind::Text,
            "\"cookie\"",
            "Requests of one person stay on one revision while its share does not shrink: `cookie` \
             is one that the edge gives them, `cookie:NAME`, `header:NAME` and `client` (the \
             address) are what they have already.",
        )
        .elsewhere(&["session_affinity", "sticky_session", "stickiness", "session"]),
        Key::new(
            "testers",
            Kind::Table(&TESTERS),
            "{ headers = { X-Beta = \"1\" } }",
            "Who meets the new revision first.",
        )
        .elsewhere(&["match", "header_route", "canary_by_header", "preview_headers"]),
        Key::new("mirror", Kind::Table(&MIRROR), "\"10%\"", "Copies that it gets as well.")
            .elsewhere(&["shadow", "mirroring", "traffic_mirror"]),
        Key::new(
            "affinity",
            Kind::Flag,
            "true",
            "New talks to new: where a service that uses this one is replaced in the same release, \
             its new instances reach the new revision of this one and its old instances the old \
             one, as long as that can serve. This one then starts whole, takes over with its \
             callers and is judged by what they send it; what reaches it otherwise (a route, a \
             service that stays) moves after them, by its steps if it is a canary, else at once. \
             Each caller's revision finds it at a port of its own, so it holds from the first \
             release on that starts with this set.",
        )
        .preset(|| Rollout::default().affinity.to_string())
        .elsewhere(&["version_affinity", "sticky", "pinned"]),
        Key::new(
            "check",
            Kind::Tables { of: &CHECK, max: CHECKS_MAX },
            "{ smoke = { command = \"./smoke.sh\", when = \"before\" } }",
            "What else is asked about a new revision, by name.",
        )
        .elsewhere(&["checks", "metric", "webhook", "webhooks", "hooks", "tests"]),
    ],
};

/// `[service.NAME.rollout.check.NAME]`
static CHECK: Table = Table {
    id: "check",
    header: "[service.NAME.rollout.check.NAME]",
    doc: "One more question about a new revision, beside what its requests tell: exactly one of \
          `prometheus`, `http`, `metrics` and `command`. A check that fails takes the release back; \
          one that cannot be answered holds it. In texts and arguments `$SERVICE`, `$REVISION`, \
          `$STABLE_REVISION` and `$INSTANCES` are replaced, the last by a regular expression of the \
          addresses of the instances asked about, such as `127.0.0.1:20001|127.0.0.1:20002` with its \
          dots escaped, as Prometheus calls them in `instance`.",
    short: None,
    keys: &[
        Key::new(
            "prometheus",
            Kind::Text,
            "\"http://127.0.0.1:9090\"",
            "The address of a Prometheus server. With `query`, one number is asked for, which must \
             be within `min` and `max`. With `total` and `bad`, both revisions are counted and \
             compared, as their requests are: each expression is asked once for either revision, \
             and must only rise.",
        )
        .elsewhere(&["server", "address", "prom", "promql"]),
        Key::new(
            "query",
            Kind::Text,
            "\"avg(queue_length{instance=~\\\"$INSTANCES\\\"})\"",
            "An expression of PromQL that comes to one number.",
        )
        .elsewhere(&["expr", "expression"]),
        Key::new(
            "http",
            Kind::Text,
            "\"/ready-for-traffic\"",
            "A path that every new instance is asked for, or an address. It must answer 200 to 299, \
             and what it answers, or the part of it that `json` names, must be as `min`, `max` or \
             `equals` says.",
        )
        .elsewhere(&["url", "web", "get", "endpoint"]),
        Key::new(
            "json",
            Kind::Text,
            "\"/queue/failed\"",
            "Where in the JSON that is answered the value is: a JSON Pointer (RFC 6901).",
        )
        .elsewhere(&["json_path", "pointer", "path"]),
        Key::new(
            "metrics",
            Kind::UrlPath,
            "\"/metrics\"",
            "A path at which every instance of both revisions tells its own counters in the text \
             format of Prometheus; `total` and `bad` name two of them, which are compared as \
             requests are. For workers that nobody sends requests to.",
        )
        .elsewhere(&["scrape", "counters"]),
        Key::new(
            "total",
            Kind::Text,
            "\"jobs_total\"",
            "With `metrics` the counter, with `prometheus` an expression: everything that was done.",
        ),
        Key::new("bad", Kind::Text, "\"jobs_failed_total\"", "The same: what of it went wrong.")
            .elsewhere(&["failed", "errors_total"]),
        Key::new(
            "command",
            Kind::Command,
            "[\"./smoke.sh\", \"--quick\"]",
            "A program that ends with exit status 0; with 75 it says that it could not tell. It \
             runs in the file's folder, and finds the addresses of the new instances in \
             `$EVENKEEL_INSTANCES`, one URL of them in `$EVENKEEL_URL`, and `$EVENKEEL_SERVICE`, \
             `$EVENKEEL_REVISION`, `$EVENKEEL_STABLE_REVISION`, `$EVENKEEL_RELEASE`. Of the \
             environment of whoever started Evenkeel it finds `PATH`, `HOME`, `LANG` and `TZ` only.",
        )
        .elsewhere(&["exec", "run", "cmd", "script", "job"]),
        Key::new("min", Kind::Number, "1", "The value must be at least this.").elsewhere(&["at_least"]),
        Key::new("max", Kind::Number, "0.05", "The value must be at most this.")
            .elsewhere(&["at_most", "threshold"]),
        Key::new("equals", Kind::Text, "\"ok\"", "The value must be exactly this.")
            .elsewhere(&["value", "expect", "is"]),
        Key::new(
            "when",
            Kind::Choice(&["before", "during", "after"]),
            "\"before\"",
            "`before` the new instances get any traffic, until it passes; `during` the release, again \
             and again from the first traffic on, and no step is left before it has passed in it; \
             `after` all traffic has moved, until it passes, before what was replaced is stopped.",
        )
        .preset(|| "\"during\"".to_owned())
        .elsewhere(&["phase", "stage"]),
        Key::new(
            "every",
            Kind::Span { min: 1_000, max: HOUR },
            "\"1m\"",
            "Time from one answer to the next question.",
        )
        .preset(|| span(CHECK_EVERY))
        .elsewhere(&["interval", "period"]),
        Key::new(
            "timeout",
            Kind::Span { min: 100, max: HOUR },
            "\"5m\"",
            "How long one answer may take.",
        )
        .preset(|| span(CHECK_TIMEOUT))
        .elsewhere(&["deadline"]),
        Key::new(
            "failures",
            Kind::Count { min: 1, max: 100 },
            "3",
            "Failures in a row that take the release back.",
        )
        .preset(|| "1".to_owned())
        .elsewhere(&["failure_limit", "consecutive_failures", "retries"]),
        Key::new(
            "errors",
            Kind::Count { min: 1, max: 100 },
            "5",
            "Questions in a row that nobody could answer and that hold the release.",
        )
        .preset(|| CHECK_ERRORS.to_string())
        .elsewhere(&["consecutive_error_limit", "inconclusive_limit"]),
        Key::new(
            "dry_run",
            Kind::Flag,
            "true",
            "It is asked, and its answers are told, but it decides nothing.",
        )
        .preset(|| "false".to_owned()),
    ],
};

/// `[service.NAME.rollout.analysis]`
static ANALYSIS: Table = Table {
    id: "analysis",
    header: "[service.NAME.rollout.analysis]",
    doc: "How a new revision is judged by its requests, beside those of the revision that it \
          replaces, while both have traffic. It is taken back when it fails more of them, or \
          answers more of them slowly, than is tolerated, and chance is ruled out: fewer than one \
          sound revision in a hundred is taken back for it.",
    short: None,
    keys: &[
        Key::new(
            "tolerance",
            Kind::Part,
            "\"50%\"",
            "How much more often than the stable revision's its requests may go wrong. The \
             smaller, the more requests it takes to be certain.",
        )
        .preset(|| format!("\"{}%\"", Analysis::default().tolerance.as_more().0 / 100)),
        Key::new(
            "min_requests",
            Kind::Count { min: 0, max: REQUESTS_MAX },
            "500",
            "Requests that a step of a canary must have seen before the next.",
        )
        .otherwise("100 to 1,000, more where the stable revision fails rarely"),
        Key::new(
            "no_data",
            Kind::Choice(&["hold", "promote"]),
            "\"promote\"",
            "What happens to a step that was watched for three times its `bake` without seeing \
             so many.",
        )
        .preset(|| "\"hold\"".to_owned()),
        Key::new(
            "warm_up",
            Kind::Span { min: 0, max: HOUR },
            "\"2m\"",
            "Answers of an instance that has been healthy for less do not count as slow.",
        )
        .preset(|| span(Analysis::default().warm_up))
        .elsewhere(&["warmup", "initial_delay"]),
        Key::new("latency", Kind::Flag, "false", "Whether slow answers count.")
            .preset(|| Analysis::default().latency.to_string()),
    ],
};

/// One element of `steps`
static STEP: Table = Table {
    id: "step",
    header: "steps = [{ … }]",
    doc: "One step of a canary: either `weight` or `instances`, and how long it is watched.",
    short: None,
    keys: &[
        Key::new(
            "weight",
            Kind::Weight,
            "\"5%\"",
            "This part of the traffic, on as many instances as that part needs, and on two where \
             there are as many: of one alone nobody could say whether it is the revision or the \
             instance that is odd.",
        )
        .elsewhere(&["percent", "percentage", "traffic", "set_weight"]),
        Key::new(
            "instances",
            Kind::Count { min: 1, max: REPLICAS_MAX },
            "1",
            "This many instances, each with an even share of the traffic.",
        )
        .elsewhere(&["replicas", "count"]),
        Key::new(
            "bake",
            Kind::Span { min: 0, max: DAY },
            "\"10m\"",
            "How long the step is watched, in healthy time.",
        )
        .preset(|| span(STEP_BAKE))
        .elsewhere(&["duration", "pause", "wait", "time", "for"]),
        Key::new(
            "gate",
            Kind::FlagOr(&GATE),
            "true",
            "Somebody must approve (`evenkeel approve`) before the next step; a table says who.",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["approval", "manual", "approve"]),
    ],
};

/// The gate of a step
static GATE: Table = Table {
    id: "gate",
    header: "gate = { … }",
    doc: "Who lets a step pass at its gate. `evenkeel promote` past it needs the same right; \
          `evenkeel approve --force REASON` goes past it all the same, loud in the journal.",
    short: None,
    keys: &[
        Key::new(
            "approvers",
            Kind::Texts,
            "[\"alice\", \"bob\"]",
            "Who may approve, by the names of their users on this machine.",
        )
        .otherwise("anybody who may use Evenkeel here")
        .elsewhere(&["users", "by", "who", "reviewers"]),
        Key::new(
            "own",
            Kind::Flag,
            "false",
            "Whether the person who asked for the release may approve it.",
        )
        .preset(|| Gate::default().own.to_string())
        .elsewhere(&["self", "self_approval"]),
        Key::new(
            "webhook",
            Kind::Url,
            "\"https://change.example.com/approve\"",
            "A program that is asked too, once the step waits at its gate and every 10 seconds \
             until somebody has decided. It may approve or refuse; without an answer that says so \
             the step waits on.",
        )
        .elsewhere(&["url", "http", "endpoint", "ask"]),
        Key::new(
            "secret",
            Kind::Secret,
            "\"env:GATE_KEY\"",
            "What each question to the webhook is signed with, so that it can tell that it comes \
             from here.",
        )
        .elsewhere(&["key", "token", "signing_secret", "hmac"]),
    ],
};

/// `[freeze.NAME]`
static FREEZE: Table = Table {
    id: "freeze",
    header: "[freeze.NAME]",
    doc: "A time in which nothing new is released, every week or once. Ways back and \
          `evenkeel apply --hotfix REASON` go past it, and `evenkeel scale` still works. A release \
          that was started before goes on. A change cannot lift the freeze that it comes in: the \
          freezes of what is released count as well as those of the file.",
    short: None,
    keys: &[
        Key::new(
            "from",
            Kind::Moment,
            "\"Fri 16:00\"",
            "When it begins; a day without a time from its beginning.",
        )
        .required()
        .elsewhere(&["start", "begin", "since"]),
        Key::new(
            "to",
            Kind::Moment,
            "\"Mon 08:00\"",
            "When it ends; a day without a time to its end.",
        )
        .required()
        .elsewhere(&["end", "until", "till"]),
        Key::new(
            "zone",
            Kind::Zone,
            "\"Europe/Berlin\"",
            "Whose clocks count: a name of the IANA time zone database. An hour that comes twice, \
             when the clocks are put back, is frozen both times.",
        )
        .preset(|| format!("\"{ZONE}\""))
        .elsewhere(&["timezone", "time_zone", "tz"]),
        Key::new("reason", Kind::Text, "\"nobody is there\"", "For everybody who meets it.")
            .elsewhere(&["because", "description", "message", "comment"]),
        Key::new(
            "holds",
            Kind::Flag,
            "true",
            "A release that was started before is held at its step, and goes on by itself \
             afterwards.",
        )
        .preset(|| "false".to_owned())
        .elsewhere(&["hold", "pause", "pauses"]),
    ],
};

/// `[pace]`
static PACE: Table = Table {
    id: "pace",
    header: "[pace]",
    doc: "How fast changes may come. Ways back are never slowed down.",
    short: None,
    keys: &[
        Key::new(
            "starts",
            Kind::Count { min: 1, max: REPLICAS_MAX },
            "10",
            "How many instances a release may be starting at one time, over all services.",
        )
        .otherwise("as many as its strategies ask for")
        .elsewhere(&["max_starts", "concurrency", "parallel"]),
        Key::new(
            "between",
            Kind::Span { min: 0, max: 7 * DAY },
            "\"10m\"",
            "The least time between the starts of two releases of one service; a hotfix goes past \
             it.",
        )
        .elsewhere(&["interval", "cooldown", "min_interval"]),
    ],
};

/// `[discovery]`
static DISCOVERY: Table = Table {
    id: "discovery",
    header: "[discovery]",
    doc: "Where other programs ask for the addresses of services; off without an address. It tells \
          of instances that are well, with their weights, and answers also when nothing else of \
          Evenkeel but the edge runs. There are no passwords: who reaches the address may ask, and \
          register services of their own.",
    short: None,
    keys: &[
        Key::new(
            "dns",
            Kind::Addresses,
            "\"127.0.0.1:5353\"",
            "Where DNS is answered, over UDP and TCP: `web.STACK.DOMAIN`, and Consul's names such \
             as `web.service.consul`.",
        )
        .elsewhere(&["dns_listen", "resolver", "nameserver", "port", "listen"]),
        Key::new(
            "http",
            Kind::Addresses,
            "\"127.0.0.1:8500\"",
            "Where Consul's catalog and health API is spoken, Prometheus finds its targets, and \
             Evenkeel's own directory is.",
        )
        .elsewhere(&["consul", "api", "rest"]),
        Key::new(
            "xds",
            Kind::Addresses,
            "\"127.0.0.1:18000\"",
            "Where xDS is spoken, for Envoy and for gRPC without a proxy.",
        )
        .elsewhere(&["ads", "envoy", "grpc"]),
        Key::new("domain", Kind::Host, "\"internal\"", "The domain that all names end in.")
            .preset(|| format!("\"{}\"", Discovery::default().domain))
            .elsewhere(&["zone", "suffix", "tld"]),
        Key::new(
            "forward",
            Kind::Addresses,
            "[\"1.1.1.1:53\"]",
            "DNS servers that are asked for all other names, in this order.",
        )
        .otherwise("other names are refused")
        .elsewhere(&["upstream", "upstreams", "forwarders", "recursors", "resolvers"]),
        Key::new(
            "linger",
            Kind::Span { min: 0, max: LINGER_MAX },
            "\"15s\"",
            "How long clients may go on by what they were told: the longest that one of them keeps \
             an answer, and a request that it has begun. An instance of a service that is asked for \
             here is not stopped sooner after nobody is told of it any more.",
        )
        .preset(|| span(Discovery::default().linger))
        .elsewhere(&["ttl", "hold", "cache", "deregistration_delay"]),
    ],
};

/// `[notify.NAME]`
static NOTIFY: Table = Table {
    id: "receiver",
    header: "[notify.NAME]",
    doc: "Somebody who is told what happens: exactly one of `webhook`, `slack` and `command`. A \
          receiver hears of what happens from the release on that brings it, of each event at \
          least once, in order. One that does not take an event is tried again for a day, and \
          never delays a release.",
    short: None,
    keys: &[
        Key::new(
            "webhook",
            Kind::Url,
            "\"https://ops.example.com/evenkeel\"",
            "Each event is posted there as JSON.",
        )
        .elsewhere(&["url", "http", "post", "endpoint"]),
        Key::new(
            "slack",
            Kind::Url,
            "\"env:SLACK_URL\"",
            "Each event is posted there as one line of text, as Slack, Mattermost and others take \
             it. Such a URL is a secret: who has it can write there.",
        )
        .elsewhere(&["mattermost", "chat", "incoming_webhook"]),
        Key::new(
            "command",
            Kind::Command,
            "[\"./tell\", \"--room\", \"ops\"]",
            "This program is run in the file's folder, with the event as JSON on its standard \
             input and in `$EVENKEEL_EVENT`, `$EVENKEEL_TEXT` and the like. It has 30 seconds.",
        )
        .elsewhere(&["run", "exec", "cmd", "script"]),
        Key::new(
            "secret",
            Kind::Secret,
            "\"env:HOOK_SECRET\"",
            "What each message to a webhook is signed with, so that its receiver can tell that it \
             comes from here.",
        )
        .elsewhere(&["key", "token", "signing_secret", "hmac"]),
        Key::new(
            "events",
            Kind::Texts,
            "[\"release.*\", \"gate.reached\"]",
            "Which events are told: names, or all below a `release.*`, or `*`. They are listed at \
             the end.",
        )
        .otherwise("those marked as told to everybody")
        .elsewhere(&["on", "only", "filter", "event"]),
    ],
};

pub(super) fn span(span: Duration) -> String {
    format!("\"{}\"", span_text(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// The table of rollouts, whose keys know which strategy they belong to.
pub(crate) fn rollout() -> &'static Table {
    &ROLLOUT
}
