//! Words that no tracked file may hold, and the entries that the repository's top may hold.

/// Put together here, so that this file does not hold them itself.
const BANNED: &[(&str, &str, &str)] = &[
    ("/work", "/", "a path of one machine"),
    ("/root", "/", "a path of one machine"),
    ("crates", ".io/", "a registry's address"),
    ("static.crates", ".io", "a registry's address"),
    ("pypi", ".org", "a registry's address"),
    ("registry.npmjs", ".org", "a registry's address"),
    ("todo", "!", "finish it"),
    ("unimplemented", "!", "finish it"),
    ("#[ign", "ore", "a test that never runs"),
    ("FIX", "ME", "fix it"),
    ("XX", "X", "say what it is"),
];

const TOP: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "units",
    "tests",
    "man",
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

/// Banned words. Cargo.lock names the registry in every entry: that is its format.
pub(crate) fn banned(path: &str, text: &str) -> Vec<String> {
    if path == "Cargo.lock" {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (head, tail, why) in BANNED {
            let word = format!("{head}{tail}");
            if line.match_indices(&word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric())) {
                problems.push(format!("{path}:{}: '{word}': {why}", number + 1));
            }
        }
    }
    problems
}

/// A file whose top-level entry the design does not list.
pub(crate) fn place(path: &str, _text: &str) -> Vec<String> {
    let top = path.split('/').next().unwrap_or(path);
    if top.starts_with('.') || TOP.contains(&top) {
        return Vec::new();
    }
    vec![format!("{path}: '{top}' is no entry of the repository's top")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_can_fail() {
        for (head, tail, _) in BANNED {
            let text = format!("fine\nx = {head}{tail}y\n");
            assert!(!banned("src/a.rs", &text).is_empty(), "{text}");
            assert!(banned("src/a.rs", &text)[0].starts_with("src/a.rs:2: "), "{text}");
            assert!(banned("Cargo.lock", &text).is_empty(), "{text}");
        }
        assert!(banned("src/a.rs", "src/work/x teamwork/ chroot/ TODO").is_empty());
    }

    #[test]
    fn place_can_fail() {
        for (path, count) in
            [("src/a.rs", 0), (".ci/run", 0), ("README.md", 0), ("rustfmt.toml", 1), ("docs/x.md", 1), ("notes", 1)]
        {
            assert_eq!(place(path, "").len(), count, "{path}");
        }
    }
}
