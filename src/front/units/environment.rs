//! A service's variables: Environment=, EnvironmentFile=, PassEnvironment=, UnsetEnvironment=. Files are read and patterns
//! filled at each spawn, not here.

use super::process::Context;
use super::words::split;
use crate::plan::ServiceSpec;

/// `None`: the key is not of this table.
pub(super) fn take(spec: &mut ServiceSpec, key: &str, value: &str, context: Context<'_>) -> Option<Result<(), String>> {
    Some(match (key, value) {
        ("Environment", "") => {
            spec.env.clear();
            Ok(())
        }
        ("Environment", _) => assignments(spec, value, context),
        ("EnvironmentFile", "") => {
            spec.env_files.clear();
            Ok(())
        }
        ("EnvironmentFile", _) => file(value, context).map(|path| spec.env_files.push(path.into())),
        ("PassEnvironment", "") => {
            spec.process.pass_environment.clear();
            Ok(())
        }
        ("PassEnvironment", _) => names(&mut spec.process.pass_environment, value, context, is_name),
        ("UnsetEnvironment", "") => {
            spec.process.unset_environment.clear();
            Ok(())
        }
        ("UnsetEnvironment", _) => {
            let fits = |word: &str| is_name(word.split_once('=').map_or(word, |(name, _)| name));
            names(&mut spec.process.unset_environment, value, context, fits)
        }
        _ => return None,
    })
}

/// A variable that is set again keeps its first place and gets the last value.
fn assignments(spec: &mut ServiceSpec, value: &str, context: Context<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for word in split(value)? {
        // A name has no specifier that is known later.
        let read = word.split_once('=').and_then(|(name, value)| {
            let name = context.expand(name).ok().filter(|name| is_name(name))?;
            Some(context.name.fill(value, context.outside).map(|value| (name, value)))
        });
        match read {
            Some(Ok((name, value))) => match spec.env.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => spec.env.push((name, value)),
            },
            Some(Err(why)) => wrong.push(why),
            None => wrong.push(format!("'{word}' is not NAME=VALUE")),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// An absolute path or pattern, behind a `-` one that may be missing.
fn file(value: &str, context: Context<'_>) -> Result<String, String> {
    let path = context.expand(value)?;
    let absolute = path.strip_prefix('-').unwrap_or(&path).starts_with('/');
    if absolute { Ok(path) } else { Err(format!("'{path}' is no absolute path")) }
}

fn names(list: &mut Vec<String>, value: &str, context: Context<'_>, fits: impl Fn(&str) -> bool) -> Result<(), String> {
    let (good, bad): (Vec<String>, Vec<String>) = context.words(value)?.into_iter().partition(|word| fits(word));
    list.extend(good);
    if bad.is_empty() { Ok(()) } else { Err(format!("'{}' is no name of a variable", bad.join(" "))) }
}

/// The names that a shell can have.
fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::super::name::UnitName;
    use super::*;
    use crate::plan::{Piece, Template};

    fn read(lines: &[(&str, &str)]) -> (ServiceSpec, Vec<String>) {
        let name = UnitName::parse("web@.service").unwrap();
        let outside = |letter| (letter == 't').then(|| "/run".to_string());
        let context = Context { name: &name, outside: &outside };
        let mut spec = ServiceSpec::default();
        let taken = lines.iter().map(|(key, value)| take(&mut spec, key, value, context).expect("of this table"));
        let errors = taken.filter_map(Result::err).collect();
        (spec, errors)
    }

    #[test]
    fn variables_are_read_word_by_word() {
        let (spec, errors) = read(&[
            ("Environment", "A=1 \"B=two words\" 'C=%t/x'"),
            ("Environment", "A=$B \"D=i %i\""),
            ("Environment", "1X=1 E=%Z nothing F=6"),
        ]);
        let text = |text: &str| Template(vec![Piece::Text(text.into())]);
        let instance = Template(vec![Piece::Text("i ".into()), Piece::Instance { unescaped: false }]);
        let expected =
            [("A", text("$B")), ("B", text("two words")), ("C", text("/run/x")), ("D", instance), ("F", text("6"))];
        assert_eq!(spec.env, expected.map(|(name, value)| (name.to_string(), value)));
        assert_eq!(errors.len(), 1);
        for part in ["'1X=1' is not NAME=VALUE", "unknown specifier %Z", "'nothing' is not"] {
            assert!(errors[0].contains(part), "{errors:?}");
        }
        assert!(read(&[("Environment", "A=1"), ("Environment", "")]).0.env.is_empty());
    }

    #[test]
    fn files_and_lists_of_names() {
        let (spec, errors) = read(&[
            ("EnvironmentFile", "/etc/gone"),
            ("EnvironmentFile", ""),
            ("EnvironmentFile", "-%t/*.env"),
            ("EnvironmentFile", "relative"),
            ("PassEnvironment", "HOME 9 LANG"),
            ("UnsetEnvironment", "A B=1"),
            ("UnsetEnvironment", "=1"),
        ]);
        assert_eq!(spec.env_files, [std::path::PathBuf::from("-/run/*.env")]);
        assert_eq!(spec.process.pass_environment, ["HOME", "LANG"]);
        assert_eq!(spec.process.unset_environment, ["A", "B=1"]);
        assert_eq!(
            errors,
            ["'relative' is no absolute path", "'9' is no name of a variable", "'=1' is no name of a variable"]
        );
    }
}
