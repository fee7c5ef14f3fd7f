//! Patterns of the shell: `*`, `?` and `[...]`, for a name.

/// Whether a name fits a pattern as a whole.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // Where the last star stands, and how far it reached.
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match step(&pattern[at..], name[seen]) {
            Some(length) => (at, seen) = (at + length, seen + 1),
            None if pattern.get(at) == Some(&'*') => {
                star = Some((at, seen));
                at += 1;
            }
            None => match &mut star {
                Some((from, reached)) => {
                    *reached += 1;
                    (at, seen) = (*from + 1, *reached);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for that one character.
fn step(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['*', ..] | [] => None,
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', rest @ ..] => match set(rest, c) {
            Some((length, found)) => found.then_some(length + 1),
            None => (c == '[').then_some(1),
        },
        [literal, ..] => (*literal == c).then_some(1),
    }
}

/// `a-z]`, `!a]`: how long it is and whether it has the character.
fn set(rest: &[char], c: char) -> Option<(usize, bool)> {
    let negated = matches!(rest.first(), Some('!' | '^'));
    let body = &rest[usize::from(negated)..];
    // A ] that comes first is a member.
    let end = 1 + body.iter().skip(1).position(|one| *one == ']')?;
    let members = &body[..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        match members[at..] {
            [first, '-', last, ..] => {
                found |= (first..=last).contains(&c);
                at += 3;
            }
            [one, ..] => {
                found |= one == c;
                at += 1;
            }
            [] => break,
        }
    }
    Some((usize::from(negated) + end + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.config", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a-", "a-", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
