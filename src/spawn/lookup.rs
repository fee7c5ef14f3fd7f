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

/// The files to execute for `word`, relative ones seen from `directory`. A word with a slash is used as it is. Else the
/// first regular file on `path` that may be executed; with `all` every one, for a worker whose user may not be
/// allowed the first. An empty list: nothing.
pub(super) fn find(word: &OsStr, path: &OsStr, directory: &Path, all: bool) -> Vec<PathBuf> {
    if word.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(word)];
    }
    let found = entries(path)
        .map(|entry| entry.join(word))
        .filter(|file| !word.is_empty() && is_executable(&directory.join(file)));
    if all { found.collect() } else { found.take(1).collect() }
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

/// The message for a command that was not found (`errno` ENOENT, `file` none) or not executed.
pub(super) fn explain(
    stage: Stage,
    word: &OsStr,
    file: Option<&Path>,
    errno: Errno,
    path: &OsStr,
    directory: &Path,
) -> SpawnError {
    let name = word.display();
    // A name found nowhere as a command may lie on PATH as a plain file.
    let plain = || entries(path).map(|entry| directory.join(entry).join(word)).find(|file| file.is_file());
    let seen = match file {
        Some(file) => Some(directory.join(file)).filter(|file| file.exists()),
        None if word.is_empty() => None,
        None => plain(),
    };
    let errno = if file.is_none() && seen.is_some() { Errno::EACCES } else { errno };
    let (why, remedy) = match (errno, &seen) {
        (Errno::ENOENT, Some(file)) => match interpreter(file) {
            Some(interpreter) => (format!("its interpreter '{}' is missing", interpreter.display()), None),
            None => ("its interpreter is missing".into(), None),
        },
        (Errno::ENOENT, None) => (reason(errno), similar(word, path, directory)),
        (Errno::EACCES, Some(file)) if file.is_dir() => (reason(Errno::EISDIR), None),
        (Errno::EACCES, Some(file)) if !has_execute_bit(file) => {
            let remedy = match word.as_bytes().contains(&b'/') {
                true => "not executable; chmod +x".into(),
                false => format!("{} is not executable; chmod +x", file.display()),
            };
            (reason(errno), Some(remedy))
        }
        _ => (reason(errno), None),
    };
    let remedy = remedy.map(|text| format!(" ({text})")).unwrap_or_default();
    SpawnError::new(stage, errno, format!("{} '{name}': {why}{remedy}", stage.text()))
}

fn has_execute_bit(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
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
fn similar(word: &OsStr, path: &OsStr, directory: &Path) -> Option<String> {
    let (places, name): (Vec<PathBuf>, &OsStr) = match word.as_bytes().contains(&b'/') {
        true => (vec![Path::new(word).parent()?.into()], Path::new(word).file_name()?),
        false => (entries(path).collect(), word),
    };
    let names: Vec<String> = places
        .iter()
        .filter_map(|place| std::fs::read_dir(directory.join(place)).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let name = name.to_str()?;
    let best = nearest(name, names.iter().map(String::as_str).filter(|other| *other != name))?;
    match word.as_bytes().contains(&b'/') {
        true => Some(format!("did you mean {}?", Path::new(word).with_file_name(best).display())),
        false => Some(format!("did you mean {best}?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_a_slash_are_not_looked_up() {
        for word in ["./nothing", "/nothing/there", "a/b"] {
            assert_eq!(find(word.as_ref(), "/bin".as_ref(), Path::new("/"), false), [PathBuf::from(word)]);
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
            let found = find(word.as_ref(), path.as_ref(), Path::new(directory), false);
            assert_eq!(found, files.iter().map(PathBuf::from).collect::<Vec<_>>(), "{word} {path}");
        }
        assert_eq!(find("sh".as_ref(), "/bin:/usr/bin".as_ref(), Path::new("/"), true).len(), 2);
    }
}
