//! Files and functions that a reader can hold.

use crate::source::{code, words};

const FILE_LINES: usize = 450;
const FUNCTION_LINES: usize = 80;

/// A file of more than 450 lines.
pub(crate) fn file(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= FILE_LINES {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines, {FILE_LINES} at most")]
}

/// Every function, from its `fn` to its closing brace, of more than 80 lines.
pub(crate) fn functions(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut problems = Vec::new();
    for (at, word) in words(&code) {
        if word != "fn" {
            continue;
        }
        let rest = &code[at..];
        // A function pointer type or a declaration has no body.
        let Some(open) = rest.find(['{', ';']).filter(|&open| rest[open..].starts_with('{')) else { continue };
        let mut depth = 0;
        let length = rest[open..].find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let lines = rest[..open + length.unwrap_or(0)].matches('\n').count() + 1;
        if lines > FUNCTION_LINES {
            let name = words(&rest[2..]).next().map_or("?", |(_, name)| name);
            let line = code[..at].matches('\n').count() + 1;
            problems.push(format!("{path}:{line}: fn {name} has {lines} lines, {FUNCTION_LINES} at most"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_can_fail() {
        assert!(file("src/a.rs", &"x\n".repeat(FILE_LINES)).is_empty());
        assert_eq!(file("src/a.rs", &"x\n".repeat(FILE_LINES + 1)).len(), 1);
    }

    #[test]
    fn functions_can_fail() {
        let body = |lines: usize| format!("fn a() {{\n{}}}\n", "if x { \"}\" }\n".repeat(lines - 2));
        assert!(functions("src/a.rs", &body(FUNCTION_LINES)).is_empty());
        let long = format!("fn b();\nfn c() {{}}\n{}", body(FUNCTION_LINES + 1));
        assert_eq!(functions("src/a.rs", &long), ["src/a.rs:3: fn a has 81 lines, 80 at most"]);
    }
}
