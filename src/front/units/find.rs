//! Which files a unit is made of: the search path, masks, templates, drop-ins. The folders are somebody else's: what they
//! hold comes through [`Folders`].

use super::Remark;
use super::lex::{Assignment, lex};
use super::name::UnitName;
use crate::plan::{Origin, nearest};
use std::collections::BTreeMap;

/// systemd's folders for system units, the first one wins. `$SYSTEMD_UNIT_PATH` takes their place.
pub const STANDARD: [&str; 8] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// What a file of that path is.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Its bytes.
    File(Vec<u8>),
    /// A link to /dev/null, or an empty file.
    Masked,
    /// It is there and cannot be read; why.
    Unreadable(String),
}

/// The file system, as far as units are concerned.
pub trait Folders {
    /// A file by its path; `None`: there is none.
    fn read(&self, path: &str) -> Option<Found>;
    /// The names in a folder, in any order; empty where there is none.
    fn list(&self, folder: &str) -> Vec<String>;
    /// Whether a folder of that path is there.
    fn is_folder(&self, path: &str) -> bool;
    /// Where a file that is a symbolic link leads in the end; `None`: it is none.
    fn target(&self, path: &str) -> Option<String>;
}

/// A unit as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its name: of an alias (a link to a unit of another name) that unit's.
    pub name: UnitName,
    /// The main file.
    pub path: String,
    /// The main file's assignments, then those of the drop-ins in their order.
    pub assignments: Vec<Assignment>,
}

/// Why a unit cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// No file of that name in the search path. The nearest one that there is.
    NotFound(Option<String>),
    /// It is masked, there.
    Masked(String),
    /// There, and why not.
    Unreadable(String, String),
}

/// Finds and reads a unit with its drop-ins.
pub fn load(
    name: &UnitName,
    search: &[String],
    folders: &dyn Folders,
    remarks: &mut Vec<Remark>,
) -> Result<Loaded, Missing> {
    let names: Vec<String> = std::iter::once(name.clone()).chain(name.template()).map(|one| one.to_string()).collect();
    let paths = names.iter().flat_map(|name| search.iter().map(move |folder| join(folder, name)));
    let found = paths.into_iter().find_map(|path| folders.read(&path).map(|found| (path, found)));
    let (path, mut assignments) = match found {
        Some((path, Found::File(bytes))) => {
            let assignments = lex(&path, &bytes, remarks);
            (path, assignments)
        }
        Some((path, Found::Masked)) => return Err(Missing::Masked(path)),
        Some((path, Found::Unreadable(why))) => return Err(Missing::Unreadable(path, why)),
        None => return Err(Missing::NotFound(near(&names[0], search, folders))),
    };
    let real = folders.target(&path).and_then(|target| renamed(name, &target));
    let names = [Some(name), real.as_ref()];
    for path in drop_ins(names.into_iter().flatten(), search, folders).into_values() {
        match folders.read(&path) {
            Some(Found::File(bytes)) => assignments.extend(lex(&path, &bytes, remarks)),
            Some(Found::Unreadable(why)) => {
                let origin = Origin::File { name: path, line: 1 };
                remarks.push(Remark::warn(origin, format!("cannot be read: {why}")));
            }
            Some(Found::Masked) | None => {}
        }
    }
    Ok(Loaded { name: real.unwrap_or_else(|| name.clone()), path, assignments })
}

/// A file of a folder; the empty one is where prebind was started.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") }
}

/// The name that an alias stands for: that of the file it leads to, with the instance that was asked for.
fn renamed(name: &UnitName, target: &str) -> Option<UnitName> {
    let mut real = UnitName::parse(target.rsplit('/').next()?).ok()?;
    if real.is_template() {
        real.instance.clone_from(&name.instance);
    }
    (real != *name && real.kind == name.kind).then_some(real)
}

/// The unit of that type whose name is spelled most like it.
fn near(name: &str, search: &[String], folders: &dyn Folders) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let all: Vec<String> = search.iter().flat_map(|folder| folders.list(folder)).collect();
    let stems = all.iter().filter_map(|other| other.rsplit_once('.').filter(|(_, own)| *own == kind));
    let stems: Vec<&str> = stems.map(|(stem, _)| stem).collect();
    // Of short names one slip is much.
    let slip = stems.iter().find(|other| strsim::osa_distance(stem, other) <= 1).copied();
    slip.or_else(|| nearest(stem, stems)).map(|stem| format!("{stem}.{kind}"))
}

/// The drop-ins by file name, which is their order; of two with one name the first folder's counts.
fn drop_ins<'a>(
    names: impl Iterator<Item = &'a UnitName>,
    search: &[String],
    folders: &dyn Folders,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for directory in names.flat_map(directories) {
        for folder in search {
            let folder = join(folder, &directory);
            let files = folders.list(&folder).into_iter().filter(|file| file.ends_with(".conf"));
            for file in files {
                let path = format!("{folder}/{file}");
                found.entry(file).or_insert(path);
            }
        }
    }
    found
}

/// The drop-in folders' names, the most special first: the unit's, its template's, those of its name's beginnings at
/// each dash, its type's.
fn directories(name: &UnitName) -> Vec<String> {
    let own = [Some(name.clone()), name.template()].into_iter().flatten().map(|one| format!("{one}.d"));
    let dashes = name.prefix.rmatch_indices('-').map(|(at, _)| &name.prefix[..=at]);
    // Of an instance: with it, of the template, and those of plain units.
    let ats = match name.instance.as_deref() {
        None => vec![String::new()],
        Some("") => vec!["@".to_string(), String::new()],
        Some(instance) => vec![format!("@{instance}"), "@".to_string(), String::new()],
    };
    let beginnings = dashes.filter(|beginning| beginning.len() < name.prefix.len());
    let beginnings = beginnings.flat_map(|beginning| ats.iter().map(move |at| (beginning, at)));
    let beginnings = beginnings.map(|(beginning, at)| format!("{beginning}{at}.{}.d", name.kind));
    own.chain(beginnings).chain([format!("{}.d", name.kind)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    fn values(name: &str, files: &[(&'static str, &'static str)]) -> Result<Vec<String>, Missing> {
        let search = ["/etc".to_string(), "/usr".to_string()];
        let mut remarks = Vec::new();
        let name = UnitName::parse(name).unwrap();
        let loaded = load(&name, &search, &Memory(files.to_vec()), &mut remarks)?;
        Ok(loaded.assignments.into_iter().map(|one| one.value).collect())
    }

    #[test]
    fn the_first_folder_wins_and_drop_ins_follow_by_name() {
        let files = [
            ("/usr/web.service", "[S]\nA=usr"),
            ("/etc/web.service", "[S]\nA=etc"),
            ("/usr/web.service.d/50.conf", "[S]\nA=usr50"),
            ("/etc/web.service.d/50.conf", "[S]\nA=etc50"),
            ("/usr/web.service.d/10.conf", "[S]\nA=usr10"),
            ("/etc/web.service.d/note.txt", "[S]\nA=no"),
            ("/usr/service.d/20.conf", "[S]\nA=type20"),
            ("/usr/service.d/10.conf", "[S]\nA=type10"),
        ];
        assert_eq!(values("web.service", &files).unwrap(), ["etc", "usr10", "type20", "etc50"]);
    }

    #[test]
    fn templates_dashes_and_masked_drop_ins() {
        let files = [
            ("/usr/foo-bar@.service", "[S]\nA=template"),
            ("/etc/foo-bar@x.service.d/1.conf", "[S]\nA=instance"),
            ("/etc/foo-bar@.service.d/2.conf", "[S]\nA=templates"),
            ("/etc/foo-@.service.d/3.conf", "[S]\nA=dash"),
            ("/etc/foo-@x.service.d/5.conf", "[S]\nA=dashed instance"),
            ("/etc/foo-.service.d/6.conf", "[S]\nA=plain dash"),
            ("/etc/foo-.service.d/3.conf", "[S]\nA=less special"),
            ("/etc/foo-bar@x.service.d/4.conf", "-> /dev/null"),
            ("/usr/foo-bar@.service.d/4.conf", "[S]\nA=masked"),
        ];
        assert_eq!(
            values("foo-bar@x.service", &files).unwrap(),
            ["template", "instance", "templates", "dash", "dashed instance", "plain dash"]
        );
    }

    #[test]
    fn what_cannot_be_had_is_told() {
        let files = [("/etc/web.socket", "-> /dev/null"), ("/usr/web.socket", "[S]"), ("/usr/a.service", "secret")];
        assert_eq!(values("web.socket", &files), Err(Missing::Masked("/etc/web.socket".into())));
        assert_eq!(values("wen.socket", &files), Err(Missing::NotFound(Some("web.socket".into()))));
        let unreadable = Missing::Unreadable("/usr/a.service".into(), "permission denied".into());
        assert_eq!(values("a.service", &files), Err(unreadable));
    }
}
