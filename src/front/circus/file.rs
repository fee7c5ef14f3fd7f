//! The file that was asked for with those that it includes, as one list of sections. An included file includes nothing
//! more, and what stands in the first one comes before it.

use super::lex::{Section, lex, merge};
use super::variables::Variables;
use super::{Machine, Request, Said};
use crate::plan::Origin;

/// Reads them all.
pub(super) fn gather(request: &Request, machine: Machine<'_>, said: &mut Said) -> Vec<Section> {
    let mut raw = match (machine.read)(&request.file) {
        Ok(bytes) => lex(&request.file, &bytes, said),
        Err(why) => {
            said.problem(&request.origin, format!("cannot read {}: {why}", request.file));
            return Vec::new();
        }
    };
    let outside = Variables::new(machine.environment);
    let folder = request.file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut known = vec![request.file.clone()];
    for (pattern, origin) in patterns(&raw, &outside, said) {
        let rooted = pattern.starts_with('/') || (folder.is_empty() && !request.file.starts_with('/'));
        let pattern = if rooted { pattern } else { format!("{folder}/{pattern}") };
        let found = (machine.matching)(&pattern);
        if found.is_empty() {
            said.warn(&origin, format!("no file fits {pattern}"));
        }
        for path in found {
            if known.contains(&path) {
                continue;
            }
            match (machine.read)(&path) {
                Ok(bytes) => {
                    let more = lex(&path, &bytes, said);
                    not_nested(&more, said);
                    raw.extend(more);
                }
                Err(why) => said.problem(&origin, format!("cannot read {path}: {why}")),
            }
            known.push(path);
        }
    }
    merge(raw, said)
}

/// What `include` and `include_dir` name.
fn patterns(raw: &[Section], outside: &Variables, said: &mut Said) -> Vec<(String, Origin)> {
    let mut found = Vec::new();
    for (key, ending) in [("include", ""), ("include_dir", "/*.ini")] {
        let Some(entry) = raw.iter().filter(|section| section.name == "circus").find_map(|section| section.get(key))
        else {
            continue;
        };
        let text = outside.fill_environment(&entry.value, &entry.origin, said);
        let words = text.split_whitespace().map(|word| word.trim_end_matches('/'));
        found.extend(words.map(|word| (format!("{word}{ending}"), entry.origin.clone())));
    }
    found
}

fn not_nested(sections: &[Section], said: &mut Said) {
    let circus = sections.iter().filter(|section| section.name == "circus");
    for entry in circus.flat_map(|section| ["include", "include_dir"].map(|key| section.get(key))).flatten() {
        said.warn(&entry.origin, format!("{}: an included file includes nothing more", entry.key));
    }
}
