//! The command: found anew at each launch in the worker's own PATH; and, where it could not be run, why.

use super::error::{SpawnError, Stage, reason};
use crate::plan::nearest;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where commands are looked for when the worker's environment has no PATH.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is looked for, and where from.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// The program as it was asked for.
    pub(super) word: OsString,
    /// The worker's PATH.
    pub(super) path: OsString,
    /// Where the worker starts; relative names are seen from there.
    pub(super) directory: PathBuf,
    /// Whom the worker becomes.
    pub(super) user: Option<String>,
}

/// The files to execute. A word with a slash is used as it is. Else the first regular file on PATH that may be
/// executed; with `all` every one, for a worker whose user may not be allowed the first. An empty list: nothing.
pub(super) fn find(search: &Search, all: bool) -> Vec<PathBuf> {
    let word = &search.word;
    if has_slash(word) {
        return vec![PathBuf::from(word)];
    }
    let found = entries(&search.path)
        .map(|entry| entry.join(word))
        .filter(|file| !word.is_empty() && is_executable(&search.directory.join(file)));
    if all { found.collect() } else { found.take(1).collect() }
}

fn has_slash(word: &OsStr) -> bool {
    word.as_bytes().contains(&b'/')
}

/// The directories of a PATH; an empty one is the current directory.
fn entries(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    path.as_bytes().split(|byte| *byte == b':').map(|entry| match entry {
        b"" => PathBuf::from("."),
        entry => PathBuf::from(OsStr::from_bytes(entry)),
    })
}

fn is_executable(file: &Path) -> bool {
    access(file, AccessFlags::X_OK).is_ok() && file.is_file()
}

/// The message for a command that was not found (no `file`, ENOENT) or not executed.
pub(super) fn explain(stage: Stage, search: &Search, file: Option<&Path>, errno: Errno) -> SpawnError {
    let Search { word, path, directory, user } = search;
    let seen = match file {
        Some(file) => Some(directory.join(file)).filter(|file| file.exists()),
        None if word.is_empty() => None,
        // What is no command may lie on PATH as a plain file.
        None => entries(path).map(|entry| directory.join(entry).join(word)).find(|file| file.is_file()),
    };
    let errno = if file.is_none() && seen.is_some() { Errno::EACCES } else { errno };
    let (why, remedy) = match (errno, &seen) {
        (Errno::ENOENT, Some(file)) => match interpreter(file) {
            Some(interpreter) => (format!("its interpreter '{}' is missing", interpreter.display()), None),
            None => ("its interpreter is missing".into(), None),
        },
        (Errno::ENOENT, None) => (reason(errno), similar(search)),
        (Errno::EACCES, Some(file)) if file.is_dir() => (reason(Errno::EISDIR), None),
        (Errno::EACCES, Some(_)) if has_slash(word) && !has_execute_bit(seen.as_deref()) => {
            (reason(errno), Some("not executable; chmod +x".into()))
        }
        (Errno::EACCES, Some(file)) if !has_execute_bit(seen.as_deref()) => {
            (reason(errno), Some(format!("{} is not executable; chmod +x", file.display())))
        }
        (Errno::EACCES, _) => (reason(errno), user.as_ref().map(|user| format!("as user '{user}'"))),
        _ => (reason(errno), None),
    };
    let remedy = remedy.map(|text| format!(" ({text})")).unwrap_or_default();
    SpawnError::new(stage, errno, format!("{} '{}': {why}{remedy}", stage.text(), word.display()))
}

fn has_execute_bit(file: Option<&Path>) -> bool {
    file.is_some_and(|file| file.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0))
}

/// What a script's first line names.
fn interpreter(file: &Path) -> Option<OsString> {
    let mut head = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(file).ok()?, 256), &mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let word = line.split(u8::is_ascii_whitespace).next()?;
    Some(OsString::from_vec(word.to_vec()))
}

/// `did you mean gunicorn?`: the command that is spelled most alike, on PATH or in the directory of a path.
fn similar(search: &Search) -> Option<String> {
    let word = Path::new(&search.word);
    let places = if has_slash(&search.word) { vec![word.parent()?.into()] } else { entries(&search.path).collect() };
    let name = word.file_name()?.to_str()?;
    let names: Vec<String> = places
        .iter()
        .filter_map(|place| std::fs::read_dir(search.directory.join(place)).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let best = nearest(name, names.iter().map(String::as_str))?;
    // with_file_name of a bare name is a bare name.
    Some(format!("did you mean {}?", word.with_file_name(best).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(word: &str, path: &str, directory: &str) -> Search {
        Search { word: word.into(), path: path.into(), directory: directory.into(), user: None }
    }

    #[test]
    fn words_with_a_slash_are_not_looked_up() {
        for word in ["./nothing", "/nothing/there", "a/b"] {
            assert_eq!(find(&search(word, "/bin", "/"), false), [PathBuf::from(word)]);
        }
    }

    #[test]
    fn the_path_is_searched_in_order_from_the_workers_directory() {
        for (word, path, directory, files) in [
            ("sh", "/nowhere:/bin:/usr/bin", "/", vec!["/bin/sh"]),
            ("sh", "bin", "/usr", vec!["bin/sh"]),
            ("sh", ":/bin", "/usr/bin", vec!["./sh"]),
            ("sh", "", "/usr/bin", vec!["./sh"]),
            ("passwd", "/etc", "/", vec![]),
            ("bin", "/usr", "/", vec![]),
            ("", "/bin", "/", vec![]),
        ] {
            let found = find(&search(word, path, directory), false);
            assert_eq!(found, files.iter().map(PathBuf::from).collect::<Vec<_>>(), "{word} {path}");
        }
        assert_eq!(find(&search("sh", "/bin:/usr/bin", "/"), true).len(), 2);
    }
}
