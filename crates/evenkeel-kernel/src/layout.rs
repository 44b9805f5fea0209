//! The names of files and sockets below `$EVENKEEL_HOME`, so that rooms that never import one
//! another still meet at the same door.
//!
//! Only names: nothing here touches a disk. Every path is relative to the home folder.

/// Sockets, pid files and locks of the running roles; nothing in it outlives a reboot.
pub const RUN: &str = "run";
/// The control plane's API: HTTP on a unix socket, mode 0600.
pub const CONTROL_SOCKET: &str = "run/control.sock";
/// Datagram socket on which edge and shims tell control that something changed.
pub const WAKE_SOCKET: &str = "run/wake.sock";
/// The edge's own door for control: tables in, observations out; mode 0600.
pub const EDGE_SOCKET: &str = "run/edge.sock";
/// The keeper's door: listening sockets are handed over here.
pub const KEEPER_SOCKET: &str = "run/keeper.sock";
/// Files of which each is locked by an instance that is starting.
pub const TURNS: &str = "run/turns";
/// Folder of the shims' sockets, one per instance, named by [`shim_socket`].
pub const SHIM_SOCKETS: &str = "run/shim";
/// The journal and the state.
pub const STATE: &str = "state";
/// The edge's last good routing table.
pub const EDGE_TABLE: &str = "edge/table.json";
/// Services of others that were registered with discovery, one small file each.
pub const REGISTERED: &str = "edge/registered";
/// One folder per instance: what to run, its status, its log.
pub const INSTANCES: &str = "instances";
/// Files that revisions name, kept by content so that an old revision can always start again.
pub const ARTIFACTS: &str = "artifacts";
/// Secrets that revisions name, kept by a digest that only this home can make.
pub const SECRETS: &str = "secrets";
/// How far each receiver of news is: one small file per receiver.
pub const NOTIFY: &str = "notify";
/// Logs of the roles themselves.
pub const LOGS: &str = "logs";

/// The longest home path, in bytes, for which every socket path still fits the kernel's limit of
/// 107 bytes: the longest name below it is [`shim_socket`]'s, 35 bytes.
pub const HOME_LENGTH_MAX: usize = 70;

/// The pid file of a role: `keeper`, `control` or `edge`.
#[must_use]
pub fn pid_file(role: &str) -> String {
    format!("{RUN}/{role}.pid")
}

/// Certificates that the edge ordered: a folder for each.
pub const CERTIFICATES: &str = "edge/certificates";
/// The edge's accounts at those who issue certificates; for the owner's eyes only.
pub const ACME: &str = "edge/acme";
/// What those may ask just now: one small file each.
pub const CHALLENGES: &str = "edge/challenges";

/// How the names of the listeners for HTTP without TLS begin, for HTTP with it, and for what is not
/// HTTP. The address follows.
pub const PLAIN_LISTENERS: &str = "edge-";
/// See [`PLAIN_LISTENERS`].
pub const TLS_LISTENERS: &str = "tls-";
/// See [`PLAIN_LISTENERS`].
pub const TCP_LISTENERS: &str = "tcp-";

/// How the names of the listeners begin where the edge shows its metrics.
pub const METRICS_LISTENERS: &str = "metrics-";

/// How the names of the listeners begin that are not the edge's own, but discovery's.
pub const DISCOVERY_LISTENERS: &str = "discovery-";

/// The name of the listener on which discovery speaks `what`: `dns`, `http` or `xds`.
#[must_use]
pub fn discovery_listener(what: &str, addr: &std::net::SocketAddr) -> String {
    format!("{DISCOVERY_LISTENERS}{what}-{addr}")
}

/// Who a role is: a JSON object with its `pid`, `version` and `program`.
#[must_use]
pub fn about_file(role: &str) -> String {
    format!("{RUN}/{role}.about")
}

/// The door of an edge that has left its place to a successor and still holds requests.
#[must_use]
pub fn leaving_edge_socket(pid: u32) -> String {
    format!("{RUN}/{LEAVING}{pid}.sock")
}

/// The process whose door has this file name below [`RUN`], if it is that of a leaving edge.
#[must_use]
pub fn leaving_edge(file_name: &str) -> Option<u32> {
    file_name.strip_prefix(LEAVING)?.strip_suffix(".sock")?.parse().ok()
}

const LEAVING: &str = "edge-leaving-";

/// The socket of one instance's shim.
///
/// Service names may be longer than a socket path allows, so the name is a digest of the
/// instance's name (64 bits: with a million instances a collision is one in 10^7).
#[must_use]
pub fn shim_socket(instance: &crate::model::InstanceId) -> String {
    let digest = crate::model::Digest::of(instance.to_string().as_bytes());
    format!("{SHIM_SOCKETS}/{}.sock", &digest.hex()[..16])
}

/// The folder of one instance.
#[must_use]
pub fn instance_dir(instance: &crate::model::InstanceId) -> String {
    format!("{INSTANCES}/{instance}")
}
