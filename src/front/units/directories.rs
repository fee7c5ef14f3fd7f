//! RuntimeDirectory= and its four siblings: names below a base folder -> absolute paths with their mode.

use super::process::Context;
use super::values::{boolean, mode, set};
use crate::plan::{DirectoryKind, DirectorySpec, Preserve};
use std::path::PathBuf;

/// Each kind: its key, the specifier of its base folder.
const KINDS: [(&str, char, DirectoryKind); 5] = [
    ("Runtime", 't', DirectoryKind::Runtime),
    ("State", 'S', DirectoryKind::State),
    ("Cache", 'C', DirectoryKind::Cache),
    ("Logs", 'L', DirectoryKind::Logs),
    ("Configuration", 'E', DirectoryKind::Configuration),
];

/// A folder and links to it.
struct Folder {
    kind: DirectoryKind,
    path: PathBuf,
    links: Vec<PathBuf>,
}

/// What the lines have said so far.
#[derive(Default)]
pub(super) struct Directories {
    folders: Vec<Folder>,
    modes: [Option<u32>; 5],
    preserve: Preserve,
}

impl Directories {
    /// `None`: the key is not of this table.
    pub(super) fn take(&mut self, key: &str, value: &str, context: Context<'_>) -> Option<Result<(), String>> {
        if key == "RuntimeDirectoryPreserve" {
            return Some(set(&mut self.preserve, preserve(value)));
        }
        let at =
            KINDS.iter().position(|(kind, _, _)| key.strip_prefix(kind).is_some_and(|rest| rest.starts_with("Dir")))?;
        let (name, base, kind) = KINDS[at];
        match &key[name.len()..] {
            "DirectoryMode" if value.is_empty() => self.modes[at] = None,
            "DirectoryMode" => return Some(set(&mut self.modes[at], mode(value).map(Some))),
            "Directory" if value.is_empty() => self.folders.retain(|folder| folder.kind != kind),
            "Directory" => {
                let Some(base) = (context.outside)(base) else {
                    return Some(Err("the folder that it lies in is not known".into()));
                };
                return Some(self.add(kind, &base, value, context));
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    fn add(&mut self, kind: DirectoryKind, base: &str, value: &str, context: Context<'_>) -> Result<(), String> {
        let mut wrong = Vec::new();
        for word in context.words(value)? {
            match folder(kind, base, &word) {
                Ok(new) => match self.folders.iter_mut().find(|old| old.kind == kind && old.path == new.path) {
                    Some(old) => old.links.extend(new.links),
                    None => self.folders.push(new),
                },
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    pub(super) fn finish(self) -> Vec<DirectorySpec> {
        let Directories { folders, modes, preserve } = self;
        let spec = |Folder { kind, path, links }| {
            let at = KINDS.iter().position(|(_, _, known)| *known == kind).unwrap_or_default();
            DirectorySpec { kind, path, links, mode: modes[at].unwrap_or(0o755), preserve }
        };
        folders.into_iter().map(spec).collect()
    }
}

/// `NAME[:LINK]`, both below the base.
fn folder(kind: DirectoryKind, base: &str, word: &str) -> Result<Folder, String> {
    let (name, link) = word.split_once(':').unwrap_or((word, ""));
    let below = |text: &str| {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if text.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
            return Err(format!("'{text}' is no path below {base}"));
        }
        if parts[0] == "private" {
            return Err(format!("'{text}' is systemd's own"));
        }
        Ok(PathBuf::from(format!("{base}/{}", parts.join("/"))))
    };
    let (link, flag) = link.split_once(':').unwrap_or((link, ""));
    if !flag.is_empty() {
        return Err(format!("'{word}': the flag {flag} needs systemd"));
    }
    let links = if link.is_empty() { Vec::new() } else { vec![below(link)?] };
    Ok(Folder { kind, path: below(name)?, links })
}

/// `yes`, `no`, `restart`.
pub(super) fn preserve(value: &str) -> Result<Preserve, String> {
    match value {
        "restart" => Ok(Preserve::Restart),
        _ => boolean(value).map(|yes| if yes { Preserve::Yes } else { Preserve::No }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::UnitName;
    use super::*;

    #[test]
    fn names_become_paths_with_their_mode() {
        let name = UnitName::parse("web.service").unwrap();
        let outside = |letter| match letter {
            't' => Some("/run".to_string()),
            'S' => Some("/var/lib".to_string()),
            _ => None,
        };
        let context = Context { name: &name, outside: &outside };
        let mut all = Directories::default();
        let mut errors = Vec::new();
        for (key, value) in [
            ("RuntimeDirectory", "gone"),
            ("RuntimeDirectory", ""),
            ("RuntimeDirectory", "%p web/sub:link"),
            ("RuntimeDirectory", "web:again /abs ../up x::ro"),
            ("RuntimeDirectoryMode", "0750"),
            ("RuntimeDirectoryPreserve", "restart"),
            ("StateDirectory", "web"),
            ("StateDirectoryMode", "9"),
            ("CacheDirectory", "web"),
        ] {
            errors.extend(all.take(key, value, context).expect(key).err());
        }
        let found: Vec<String> = all
            .finish()
            .iter()
            .map(|one| format!("{} {:o} {:?} {:?}", one.path.display(), one.mode, one.preserve, one.links))
            .collect();
        assert_eq!(
            found,
            [
                "/run/web 750 Restart [\"/run/again\"]",
                "/run/web/sub 750 Restart [\"/run/link\"]",
                "/var/lib/web 755 Restart []",
            ]
        );
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("'/abs' is no path below /run; '../up' is") && errors[0].contains("flag ro"));
        assert!(Directories::default().take("RuntimeDirectorySymlink", "x", context).is_none());
    }
}
