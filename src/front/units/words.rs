//! Command lines as systemd splits them: quotes, C escapes, prefixes of the program, `;` between commands. Specifiers come
//! before, variables after (at the spawn), neither is known here.

use super::name::UnitName;
use crate::plan::{self, Origin, Privilege};

/// One command of an Exec setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exec {
    /// The program: an absolute path, or a name to be found in systemd's fixed PATH.
    pub path: String,
    /// All words; the first is what the program is told to be called.
    pub words: Vec<String>,
    /// `-`: a failure counts as success.
    pub may_fail: bool,
    /// `:`: `$` is not special.
    pub literal: bool,
    /// `+`, `!`: not as the unit's user.
    pub privilege: Privilege,
}

impl Exec {
    /// As the plan has it. Specifiers come word by word, after the splitting.
    pub fn fill(
        &self,
        name: &UnitName,
        outside: &dyn Fn(char) -> Option<String>,
        origin: &Origin,
    ) -> Result<plan::Exec, String> {
        Ok(plan::Exec {
            path: name.fill(&self.path, outside)?,
            words: self.words.iter().map(|word| name.fill(word, outside)).collect::<Result<_, _>>()?,
            may_fail: self.may_fail,
            literal: self.literal,
            privilege: self.privilege,
            origin: origin.clone(),
        })
    }
}

/// Splits at blanks. Quotes are honoured where a word begins or within it; C escapes everywhere but an unknown one, which
/// stays as it is.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let (mut word, mut quote) = (String::new(), None);
        loop {
            match (chars.next(), quote) {
                (None, None) => break,
                (None, Some(quote)) => return Err(format!("a {quote} is left open")),
                (Some(c), None) if c.is_whitespace() => break,
                (Some(c @ ('"' | '\'')), None) => quote = Some(c),
                (Some(c), Some(open)) if c == open => quote = None,
                (Some('\\'), _) => escape(&mut chars, &mut word)?,
                (Some(c), _) => word.push(c),
            }
        }
        words.push(word);
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn escape(chars: &mut Chars<'_>, word: &mut String) -> Result<(), String> {
    let Some(c) = chars.next() else { return Err("it ends with a backslash".into()) };
    let simple = match c {
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        '\\' | '"' | '\'' => Some(c),
        's' => Some(' '),
        _ => None,
    };
    if let Some(simple) = simple {
        word.push(simple);
        return Ok(());
    }
    let (radix, length, first) = match c {
        'x' => (16, 2, None),
        'u' => (16, 4, None),
        'U' => (16, 8, None),
        '0'..='7' => (8, 3, Some(c)),
        _ => {
            word.push('\\');
            word.push(c);
            return Ok(());
        }
    };
    let mut digits: String = first.into_iter().collect();
    while digits.len() < length {
        match chars.next_if(|c| c.is_digit(radix)) {
            Some(digit) => digits.push(digit),
            None => return Err(format!("\\{c} needs {length} digits")),
        }
    }
    let number = u32::from_str_radix(&digits, radix).unwrap_or_default();
    match char::from_u32(number) {
        Some('\0') | None => Err(format!("\\{c}{digits} is no character that a word can have")),
        Some(character) => {
            word.push(character);
            Ok(())
        }
    }
}

/// The same escapes in a value that is no list of words.
pub(super) fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' { escape(&mut chars, &mut out)? } else { out.push(c) }
    }
    Ok(out)
}

/// The commands of one Exec setting.
pub fn commands(text: &str) -> Result<Vec<Exec>, String> {
    let mut found = Vec::new();
    // A word that is exactly `;` divides; `\;` is that word itself.
    for words in split(text)?.split(|word| word == ";") {
        if let [first, rest @ ..] = words {
            let rest = rest.iter().map(|word| if word == "\\;" { ";".into() } else { word.clone() });
            found.push(command(first, rest.collect())?);
        }
    }
    if found.is_empty() { Err("no command".into()) } else { Ok(found) }
}

fn command(first: &str, mut rest: Vec<String>) -> Result<Exec, String> {
    let mut exec = Exec::default();
    let (mut path, mut own_name, mut seen) = (first, false, String::new());
    while let Some(prefix) = path.chars().next().filter(|c| "-@:+!|".contains(*c)) {
        let times = seen.matches(prefix).count();
        if times > usize::from(prefix == '!') {
            return Err(format!("the prefix {prefix} stands too often before {path}"));
        }
        seen.push(prefix);
        match prefix {
            '-' => exec.may_fail = true,
            '@' => own_name = true,
            ':' => exec.literal = true,
            '|' => return Err("the prefix | (through the user's shell) is not supported".into()),
            '+' => exec.privilege = Privilege::Full,
            // `!!` means something on kernels without ambient capabilities only.
            _ if times == 1 => exec.privilege = Privilege::Unit,
            _ => exec.privilege = Privilege::KeepIds,
        }
        path = &path[1..];
    }
    if seen.contains('+') && seen.contains('!') {
        return Err(format!("+ and ! exclude each other before {path}"));
    }
    if path.is_empty() {
        return Err("no program behind its prefixes".into());
    }
    if path.contains('/') && !path.starts_with('/') {
        return Err(format!("'{path}' is neither an absolute path nor a bare name"));
    }
    if path.ends_with('/') {
        return Err(format!("'{path}' is a directory"));
    }
    exec.path = path.to_string();
    if own_name && rest.is_empty() {
        return Err("@ needs a word more: the name".into());
    }
    exec.words = if own_name { rest } else { [vec![exec.path.clone()], std::mem::take(&mut rest)].concat() };
    Ok(exec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_observed() {
        for (text, words) in [
            ("a b  c", vec!["a", "b", "c"]),
            (r#""dq \x41\u00e9\n" x"#, vec!["dq Aé\n", "x"]),
            (r"'one two'three", vec!["one twothree"]),
            (r#"K="a b""#, vec!["K=a b"]),
            (r"a\ b", vec![r"a\", "b"]),
            (r"\s\101\t", vec![" A\t"]),
            ("\"\"", vec![""]),
            ("", vec![]),
        ] {
            let words: Vec<String> = words.into_iter().map(str::to_string).collect();
            if text == r"a\ b" {
                assert_eq!(split(text), Ok(vec![r"a\ b".to_string()]), "an unknown escape stays, and its blank too");
            } else {
                assert_eq!(split(text), Ok(words), "{text}");
            }
        }
        for bad in ["'open", "a \"b", "x\\", r"\x4", r"\u12", r"\000"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_and_semicolons() {
        let all = commands(r"-@/bin/a name x ; :b \; y").unwrap();
        let a =
            Exec { path: "/bin/a".into(), words: vec!["name".into(), "x".into()], may_fail: true, ..Exec::default() };
        let b = Exec {
            path: "b".into(),
            words: vec!["b".into(), ";".into(), "y".into()],
            literal: true,
            ..Exec::default()
        };
        assert_eq!(all, [a, b]);
        assert_eq!(commands("!/bin/x").unwrap()[0].privilege, Privilege::KeepIds);
        assert_eq!(commands("!!/bin/x").unwrap()[0].privilege, Privilege::Unit);
        assert_eq!(commands("+-/bin/x").unwrap()[0].privilege, Privilege::Full);
        for bad in ["", "--/bin/a", "-", "@/bin/a", "bin/a", "/bin/", "'open", ";", "+!/bin/a", "!!!/bin/a", "|/bin/a"]
        {
            assert!(commands(bad).is_err(), "{bad}");
        }
        assert_eq!(commands("a x; y").unwrap()[0].words, ["a", "x;", "y"]);
    }
}
