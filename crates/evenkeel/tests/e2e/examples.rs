//! The stacks below `examples/` that people are told to try: each comes up and answers.

use std::fs;
use std::path::{Path, PathBuf};

use crate::house::House;
use crate::http::Client;
use crate::machine::until;
use crate::programs::Program;

/// The examples, what each is made with, and a word of its answer. `shop` is shown by the demo.
const EXAMPLES: [(&str, Program, &str); 4] = [
    ("caddy", Program::Caddy, "Hello from Caddy"),
    ("files", Program::Python, "Hello from a folder"),
    ("nginx", Program::Nginx, "Hello from nginx"),
    ("node", Program::Node, "Hello, world"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn no_example_is_forgotten_here() {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "shop");
    names.sort();
    assert_eq!(names, EXAMPLES.map(|(name, ..)| name));
}

#[test]
fn every_example_comes_up_and_answers() {
    for (name, program, word) in EXAMPLES {
        if !program.is_here() {
            continue;
        }
        let house = House::new();
        copy(&folder().join(name), &house.folder());
        let file = house.folder().join("evenkeel.toml");
        let text = fs::read_to_string(&file).unwrap();
        // As people write it, but for where it listens, where `caddy` is, and how long it is
        // watched.
        let text = text.replace("min_ready = \"1s\"", "min_ready = \"0s\"");
        let env = program.env(&house).map(|env| format!("[service.web]\nenv = {{ {env} }}"));
        let text = env.map_or(text.clone(), |env| text.replacen("[service.web]", &env, 1));
        fs::write(&file, format!("{text}\n[edge]\nlisten = [\"{}\"]\n", house.listen)).unwrap();
        house.run(&["up", "--detach"]).exits(0);
        let answer = until(&format!("{name} answers"), || {
            let answer = Client::new(house.listen).get("/").ok()?;
            (answer.status == 200).then(|| answer.text())
        });
        assert!(answer.contains(word), "{name}: {answer}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
