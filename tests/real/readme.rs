//! The README's two commands and the man pages' first example stay true.

use crate::harness::{Setup, get};
use serde_json::Value;
use std::collections::BTreeSet;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md")
}

#[test]
fn the_first_command_shows_the_whole_thing_at_work() {
    let text = readme();
    let start = "cargo run --release -- ";
    let command = text.lines().find_map(|line| line.trim().strip_prefix(start)).expect("the README's first command");
    let address = "127.0.0.1:8080";
    assert!(command.contains(address), "{command}");
    // The same words, on a port that is free.
    let words: Vec<String> = command.split_whitespace().map(|word| word.replace(address, "127.0.0.1:0")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut prebind = Setup::new(&words).start();
    let status = prebind.wait_ready();
    assert_eq!(status["services"][0]["number"], 4);
    prebind.lines.expect(&["demonstration"]);
    let workers: BTreeSet<i64> = prebind.worker_pids().into_iter().map(i64::from).collect();
    let body = prebind.get("web", "/");
    let answer: Value = serde_json::from_str(&body).expect("one line of JSON");
    assert!(workers.contains(&answer["pid"].as_i64().expect("pid")), "{body} of {workers:?}");
    assert!(answer["service"].is_string() && answer["slot"].is_u64() && answer["generation"] == 1, "{body}");
    let elsewhere = get(prebind.inet("web"), "/elsewhere").expect_err("404").to_string();
    assert!(elsewhere.contains("404"), "{elsewhere}");
    prebind.stop();
}

#[test]
fn the_second_command_is_there() {
    let text = readme();
    assert!(text.lines().any(|line| line.trim() == "tests/run"), "the README's one test command");
}
