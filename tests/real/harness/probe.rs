//! Builds the probe worker once, and reads its answers.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The probe worker, compiled with the C compiler that Rust links with.
pub(crate) fn path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| compiled("probe.c", &["-pthread"]).to_str().expect("UTF-8").to_owned())
}

/// Another program of tests/real/workers.
pub(crate) fn compiled(name: &str, options: &[&str]) -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/real/workers").join(name);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&directory).expect("target/tmp");
    let made = directory.join(name.trim_end_matches(".c"));
    let draft = directory.join(format!("{name}.{}", std::process::id()));
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-o"])
        .args([&draft, &source])
        .args(options)
        .status()
        .expect("cc (tests/setup installs it)");
    assert!(status.success(), "cc {}", source.display());
    std::fs::rename(&draft, &made).expect("rename the program");
    made
}

/// The environment that a probe reported.
pub(crate) fn environ(probe: &Value) -> BTreeMap<String, String> {
    strings(&probe["environ"])
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A JSON array of strings.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().expect("an array").iter().map(|word| word.as_str().expect("a string").to_owned()).collect()
}

/// The descriptor of that number, as the probe found it at its start.
pub(crate) fn fd(probe: &Value, number: i64) -> &Value {
    let fds = probe["fds"].as_array().expect("fds");
    fds.iter().find(|fd| fd["fd"] == number).unwrap_or_else(|| panic!("no descriptor {number} in {fds:?}"))
}

/// The numbers of the descriptors that it found at its start, in order.
pub(crate) fn numbers(probe: &Value) -> Vec<i64> {
    let mut all: Vec<i64> =
        probe["fds"].as_array().expect("fds").iter().map(|fd| fd["fd"].as_i64().expect("fd")).collect();
    all.sort_unstable();
    all
}
