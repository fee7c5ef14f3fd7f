//! The paths that fit a pattern of the shell.

use crate::front::pattern::fits;
use std::fs;

/// The paths that fit an absolute pattern, component by component; a dot at the beginning of a name must be written.
pub(super) fn matching(pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in &found {
            if !part.contains(['*', '?', '[', '\\']) {
                next.push(format!("{folder}/{part}"));
                continue;
            }
            let entries = fs::read_dir(if folder.is_empty() { "/" } else { folder }).into_iter().flatten();
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let names = names.filter(|name| fits(part, name) && (part.starts_with('.') || !name.starts_with('.')));
            next.extend(names.map(|name| format!("{folder}/{name}")));
        }
        found = next;
    }
    found.retain(|path| !path.is_empty() && fs::symlink_metadata(path).is_ok());
    found
}
