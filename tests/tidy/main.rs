//! Holds the shape of the repository: the arrows between the rooms, the purity of the pure ones, where `unsafe` and
//! exit codes live, sizes, the entries at the top, words that nobody wants to ship. Every check is a function over
//! (path, text) that returns its complaints, with a table beside it that proves that it can fail.

mod rooms;
mod size;
mod source;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

type Check = fn(&str, &str) -> Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tracked files and the new ones that git would track; without git, what lies there.
fn files() -> Vec<String> {
    let listed = Command::new("git").current_dir(root()).args(["ls-files", "-co", "--exclude-standard", "-z"]).output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
            text.split_terminator('\0').map(String::from).collect()
        }
        _ => walk(),
    };
    // A file that was deleted and not yet committed is still listed.
    files.retain(|file| root().join(file).is_file());
    files
}

fn walk() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder of the repository").flatten() {
            let name = entry.file_name();
            if [".git", "target", "__pycache__"].iter().any(|skipped| name == *skipped) {
                continue;
            }
            let path = folder.join(name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ => found.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    found
}

/// Runs the checks over the files whose path is wanted; at least `least` of them, so that no check passes on nothing.
fn hold(wanted: fn(&str) -> bool, least: usize, checks: &[Check]) {
    let mut problems = Vec::new();
    let mut seen = 0;
    for path in files().iter().filter(|path| wanted(path)) {
        let bytes = std::fs::read(root().join(path)).expect("a listed file");
        let text = String::from_utf8_lossy(&bytes);
        seen += 1;
        problems.extend(checks.iter().flat_map(|check| check(path, &text)));
    }
    assert!(seen >= least, "only {seen} files were looked at");
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn rust(path: &str) -> bool {
    path.ends_with(".rs")
}

#[test]
fn arrows_run_one_way() {
    hold(rust, 50, &[rooms::arrows]);
}

#[test]
fn pure_places_stay_pure() {
    hold(rust, 50, &[rooms::purity]);
}

#[test]
fn unsafe_stays_in_the_mechanism() {
    hold(rust, 50, &[rooms::unsafety]);
}

#[test]
fn exit_codes_come_from_one_place() {
    hold(rust, 50, &[rooms::exit_codes]);
}

#[test]
fn files_and_functions_fit_a_reader() {
    hold(rust, 50, &[size::file, size::functions]);
}

#[test]
fn nothing_unwanted_is_tracked() {
    hold(|_| true, 80, &[words::banned, words::place]);
}

#[test]
fn both_ways_of_listing_agree_on_the_sources() {
    let sources = |files: Vec<String>| {
        let mut sources: Vec<String> = files.into_iter().filter(|file| file.starts_with("src/")).collect();
        sources.sort();
        sources
    };
    assert_eq!(sources(walk()), sources(files()));
}
