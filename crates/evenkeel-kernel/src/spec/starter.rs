//! The first stack file of a folder: what is found there, written down with comments.
//!
//! Knows how programs of common kinds are started; whether they then listen on `$PORT` is theirs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::command;
use super::hint::{as_name, brief};

/// The most processes taken from a Procfile.
const PROCESSES_MAX: usize = 20;

/// What the caller found in a folder. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The folder's own name.
    pub folder_name: String,
    /// Files in the folder, by name; nothing deeper is looked at.
    pub files: Vec<String>,
    /// The text of `Procfile`.
    pub procfile: Option<String>,
    /// The text of `package.json`.
    pub package_json: Option<String>,
    /// The text of `Cargo.toml`.
    pub cargo_toml: Option<String>,
    /// The text of `go.mod`.
    pub go_mod: Option<String>,
}

impl Found {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn first_of<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().find(|name| self.has(name)).copied()
    }
}

/// One service to write down.
#[derive(Debug)]
struct Draft {
    name: String,
    /// Where it comes from and what is to be known of it; one line each.
    remarks: Vec<String>,
    run: Vec<String>,
    /// Whether requests from outside go to it.
    routed: bool,
}

impl Draft {
    fn web(run: &[&str], remarks: &[&str]) -> Self {
        Self {
            name: "web".to_owned(),
            remarks: remarks.iter().map(|it| (*it).to_owned()).collect(),
            run: run.iter().map(|it| (*it).to_owned()).collect(),
            routed: true,
        }
    }
}

/// A commented `evenkeel.toml` for what is in a folder. It has no problems of its own.
#[must_use]
pub fn starter(found: &Found) -> String {
    let name = as_name(&found.folder_name).unwrap_or_else(|| "stack".to_owned());
    let mut out = format!(
        "# What runs here, and how it is reached. All keys: evenkeel reference\n\
         # See what would happen: evenkeel plan. Make it happen: evenkeel apply.\n\n\
         stack = \"{name}\"\n"
    );
    let drafts = drafts(found);
    for draft in &drafts {
        service(&mut out, draft, found);
    }
    for draft in drafts.iter().filter(|draft| draft.routed) {
        route(&mut out, draft, &name);
    }
    out
}

/// The services of the folder: those of its Procfile, or the one that its files speak of most
/// clearly.
fn drafts(found: &Found) -> Vec<Draft> {
    let listed = found.procfile.as_deref().map(processes).unwrap_or_default();
    if !listed.is_empty() {
        return listed;
    }
    let one = node(found)
        .or_else(|| rust(found))
        .or_else(|| go(found))
        .or_else(|| python(found))
        .or_else(|| program(found))
        .or_else(|| pages(found));
    vec![one.unwrap_or_else(|| {
        let nothing = "Nothing here says how it is started: write the program and its arguments.";
        let mut draft = Draft::web(&["./web"], &[nothing, "It should listen on $PORT."]);
        if found.has("Dockerfile") {
            draft
                .remarks
                .push("The last CMD of the Dockerfile may be what belongs here.".to_owned());
        }
        draft
    })]
}

/// `type: command` lines of a Procfile.
fn processes(text: &str) -> Vec<Draft> {
    let mut names = BTreeSet::new();
    text.lines()
        .filter_map(|line| {
            let (kind, line) = line.split_once(':')?;
            let (kind, line) = (kind.trim(), line.trim());
            let is_kind = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if kind.is_empty() || !kind.chars().all(is_kind) || line.is_empty() || kind == "release"
            {
                return None;
            }
            let name = as_name(kind).filter(|name| names.insert(name.clone()))?;
            let mut remarks = vec![format!("From the Procfile: {kind}")];
            let run = plain(line).unwrap_or_else(|| {
                remarks.push("Its line needs a shell, so it is given to one.".to_owned());
                ["sh", "-c", &line.replace('\0', "")].map(str::to_owned).to_vec()
            });
            Some(Draft { routed: name == "web", name, remarks, run })
        })
        .take(PROCESSES_MAX)
        .collect()
}

/// The words of a command that does not need a shell.
fn plain(line: &str) -> Option<Vec<String>> {
    let without_port = line.replace("${PORT}", "").replace("$PORT", "");
    if without_port.contains(['$', '`', '*', '?', '~', '|', '&', ';', '<', '>', '(', '{', '\0']) {
        return None;
    }
    command::split(line).ok()
}

fn node(found: &Found) -> Option<Draft> {
    let package: serde_json::Value = serde_json::from_str(found.package_json.as_deref()?).ok()?;
    let start = package.pointer("/scripts/start").and_then(serde_json::Value::as_str);
    let remark = "It should listen on process.env.PORT.";
    if let Some(start) = start {
        if let Some(run) = plain(start).filter(|run| run.first().is_some_and(|it| it == "node")) {
            let remarks = ["From package.json: scripts.start", remark].map(str::to_owned).to_vec();
            return Some(Draft { name: "web".to_owned(), remarks, run, routed: true });
        }
        let runner = match found.first_of(&["pnpm-lock.yaml", "yarn.lock"]) {
            Some("pnpm-lock.yaml") => "pnpm",
            Some(_) => "yarn",
            None => "npm",
        };
        let from = "From package.json: scripts.start";
        return Some(Draft::web(&[runner, "run", "start"], &[from, remark]));
    }
    let main = package.get("main").and_then(serde_json::Value::as_str);
    let main = main.filter(|main| found.has(main.trim_start_matches("./")));
    let main = main.or_else(|| found.first_of(&["server.js", "index.js", "app.js"]))?;
    Some(Draft::web(&["node", main], &["From package.json", remark]))
}

fn rust(found: &Found) -> Option<Draft> {
    let (table, _) = toml::de::DeTable::parse_recoverable(found.cargo_toml.as_deref()?);
    let table = table.get_ref();
    let bin = table.get("bin").and_then(|bins| bins.get_ref().get(0)?.get_ref().get("name"));
    let package = || table.get("package")?.get_ref().get("name");
    let name = bin.or_else(package)?.get_ref().as_str()?;
    let name = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let path = format!("./target/release/{}", name.collect::<String>());
    let build = "From Cargo.toml. Build it first: cargo build --release";
    Some(Draft::web(&[&path], &[build, "It should listen on $PORT."]))
}

fn go(found: &Found) -> Option<Draft> {
    let text = found.go_mod.as_deref()?;
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module "))?;
    let is_version = |part: &&str| {
        part.strip_prefix('v').is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()))
    };
    let last = module.trim().trim_matches('"').rsplit('/').find(|part| !is_version(part))?;
    let name = as_name(last)?;
    let build = format!("From go.mod. Build it first: go build -o {name} .");
    Some(Draft::web(&[&format!("./{name}")], &[&build, "It should listen on os.Getenv(\"PORT\")."]))
}

fn python(found: &Found) -> Option<Draft> {
    if found.has("manage.py") {
        let run = ["python3", "manage.py", "runserver", "--noreload", "127.0.0.1:$PORT"];
        let real = "For real traffic: [\"gunicorn\", \"-b\", \"127.0.0.1:$PORT\", \"NAME.wsgi\"]";
        return Some(Draft::web(&run, &["From manage.py.", real]));
    }
    let file = found.first_of(&["app.py", "server.py", "main.py", "wsgi.py"])?;
    Some(Draft::web(
        &["python3", file],
        &[&format!("From {file}. It should listen on os.environ[\"PORT\"].")],
    ))
}

fn program(found: &Found) -> Option<Draft> {
    let file = found.first_of(&["run", "run.sh", "start", "start.sh", "server", "web"])?;
    let remark = format!("The program `{file}` of this folder. It should listen on $PORT.");
    Some(Draft::web(&[&format!("./{file}")], &[&remark]))
}

fn pages(found: &Found) -> Option<Draft> {
    let run = ["python3", "-m", "http.server", "$PORT", "--bind", "127.0.0.1"];
    let remark = "Serves the files of this folder, all of them, to this machine.";
    found.has("index.html").then(|| Draft::web(&run, &[remark]))
}

fn service(out: &mut String, draft: &Draft, found: &Found) {
    let name = &draft.name;
    line(out, "");
    for remark in &draft.remarks {
        line(out, &format!("# {}", remark.replace(char::is_control, " ")));
    }
    line(out, &format!("[service.{name}]"));
    let run: Vec<String> = draft.run.iter().map(|word| quoted(word)).collect();
    line(out, &format!("run = [{}]", run.join(", ")));
    if found.has(".env") {
        line(out, "env_file = \".env\"");
    }
    line(out, "# replicas = 2                 # how many equal instances serve");
    if draft.routed {
        line(out, "# health = \"/healthz\"          # otherwise it must accept connections");
        line(out, "# stop = { drain = \"30s\" }     # how long running requests may take");
        line(
            out,
            "# rollout = { strategy = \"canary\" }   # or \"blue-green\"; otherwise \"rolling\"",
        );
    }
}

fn route(out: &mut String, draft: &Draft, stack: &str) {
    let name = &draft.name;
    line(out, "");
    line(out, &format!("# http://{} goes to `{name}`.", super::keys::LISTEN_DEFAULT));
    line(out, &format!("[route.{}]", brief(name)));
    line(out, &format!("to = \"{name}\""));
    line(out, &format!("# host = \"{stack}.example.com\"   # otherwise any host"));
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
