//! The words of `--unit` -> the units that they mean, read, with those that belong to them. Receives words, and the file
//! system and the machine as arguments; hands on units, remarks and every problem. What they amount to is `plan`'s.
//!
//! A `.socket` brings its service. A service brings what its Sockets= names; both bring those of the sockets in Requires=,
//! Wants= and BindsTo= that are the same service's; a service that is named itself brings the socket of its own name too.

use super::Remark;
use super::condition::{self, Holds, Verdict};
use super::find::{self, Folders, Loaded, Missing};
use super::judge::judge;
use super::lex::Assignment;
use super::name::UnitName;
use super::process::Context;
use super::relations::{instance_misused, relies, service_of};
use super::service::{self, ServiceUnit};
use super::socket::{self, SocketUnit};
use crate::plan::{Number, Origin, Problem, Strategy};
use std::collections::BTreeMap;

/// What `--unit` and the options beside it ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The words, each with where it stands.
    pub words: Vec<(String, Origin)>,
    /// `--start`: services start at once.
    pub start: bool,
    /// `--inherit-env`: their environment begins with prebind's.
    pub inherit_env: bool,
    /// `--allow-unprotected`: they run without the protection that only systemd gives.
    pub allow_unprotected: bool,
    /// `-n`.
    pub number: Option<(Number, Origin)>,
    /// `--strategy`.
    pub strategy: Option<Strategy>,
}

/// What units are read with.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The file system.
    pub folders: &'a dyn Folders,
    /// The folders of units, the first one wins.
    pub search: &'a [String],
    /// Specifiers that are not about the unit.
    pub outside: &'a dyn Fn(char) -> Option<String>,
    /// What Condition= and Assert= ask.
    pub holds: Holds<'a>,
    /// Whether a unit runs already, by its name: conditions are for starting, as in systemd.
    pub runs: &'a dyn Fn(&str) -> bool,
}

/// Why a service is there, the weakest reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// A socket of it was asked for.
    Socket,
    /// It lies in a folder that was asked for.
    Folder,
    /// It was named itself.
    Named,
}

/// A `.socket` that is there.
pub(super) struct SocketEntry {
    pub(super) unit: SocketUnit,
    /// Its service's name.
    pub(super) service: String,
    pub(super) origin: Origin,
}

/// A `.service` that is there.
pub(super) struct ServiceEntry {
    pub(super) name: UnitName,
    pub(super) unit: ServiceUnit,
    pub(super) why: Why,
    pub(super) origin: Origin,
    search: Vec<String>,
    /// The sockets that its Requires=, Wants= and BindsTo= name.
    relies: Vec<(String, Origin)>,
}

/// Who asks for a unit: where it says so, and in which words.
#[derive(Clone)]
struct Asker {
    origin: Origin,
    /// Before the unit's name in a message.
    as_what: &'static str,
    /// A masked unit is left out.
    may_be_masked: bool,
}

/// What was found.
pub(super) struct Door<'a> {
    request: &'a Request,
    machine: Machine<'a>,
    pub(super) sockets: BTreeMap<String, SocketEntry>,
    /// In the order in which they were met.
    pub(super) services: Vec<ServiceEntry>,
    /// What became of every name that was asked for: the unit's own name, or nothing.
    names: BTreeMap<String, Option<String>>,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<Remark>,
}

impl<'a> Door<'a> {
    /// Finds and reads everything.
    pub(super) fn open(request: &'a Request, machine: Machine<'a>) -> Door<'a> {
        let (sockets, names) = (BTreeMap::new(), BTreeMap::new());
        let (services, problems, remarks) = (Vec::new(), Vec::new(), Vec::new());
        let mut door = Door { request, machine, sockets, services, names, problems, remarks };
        for (word, origin) in &request.words {
            door.word(word, origin);
        }
        door
    }

    /// A folder, a file, or the name of a unit in the search path.
    fn word(&mut self, word: &str, origin: &Origin) {
        let folders = self.machine.folders;
        let trimmed = if word.len() > 1 { word.trim_end_matches('/') } else { word };
        if folders.is_folder(trimmed) {
            return self.folder(trimmed, origin);
        }
        let (folder, name) = trimmed
            .rsplit_once('/')
            .map_or(("", trimmed), |(folder, name)| (if folder.is_empty() { "/" } else { folder }, name));
        let search = match trimmed.contains('/') || folders.read(name).is_some() {
            true => self.searching(folder),
            false => self.machine.search.to_vec(),
        };
        let asker = Asker { origin: origin.clone(), as_what: "unit", may_be_masked: false };
        match UnitName::parse(name) {
            Ok(name) if name.is_template() => {
                let message = format!("{name} is a template: only its instances can be started");
                let instance = UnitName { instance: Some("NAME".into()), ..name };
                self.problems.push(Problem::new(origin.clone(), message).remedy(format!("--unit {instance}")));
            }
            Ok(name) if name.kind == "socket" => drop(self.socket(&name, &search, &asker)),
            Ok(name) if name.kind == "service" => drop(self.service(&name, &search, &asker, Why::Named)),
            Ok(name) => {
                let message = format!("{name}: only .socket and .service units are run");
                self.problems.push(Problem::new(origin.clone(), message).remedy("leave it to systemd"));
            }
            Err(why) => {
                self.problems.push(Problem::new(origin.clone(), why).remedy("a file, a folder, or a unit's name"))
            }
        }
    }

    /// The folder before those of the search path.
    fn searching(&self, folder: &str) -> Vec<String> {
        let others = self.machine.search.iter().filter(|other| *other != folder).cloned();
        std::iter::once(folder.to_string()).chain(others).collect()
    }

    /// All its sockets and services, but templates.
    fn folder(&mut self, folder: &str, origin: &Origin) {
        let mut names = self.machine.folders.list(folder);
        names.sort();
        names.retain(|name| !name.starts_with('.'));
        let units: Vec<UnitName> = names.iter().filter_map(|name| UnitName::parse(name).ok()).collect();
        let meant = |name: &&String| name.ends_with(".socket") || name.ends_with(".service");
        for (name, why) in names.iter().filter(meant).filter_map(|name| Some((name, UnitName::parse(name).err()?))) {
            let message = format!("{folder}/{name} is left out: {why}");
            self.remarks.push(Remark::warn(origin.clone(), message));
        }
        let (ours, others): (Vec<&UnitName>, Vec<&UnitName>) =
            units.iter().partition(|name| matches!(name.kind.as_str(), "socket" | "service"));
        if ours.is_empty() {
            let message = format!("no .socket and no .service lies in {folder}");
            self.problems.push(Problem::new(origin.clone(), message));
        }
        // Folders of drop-ins are no units.
        let others: Vec<String> =
            others.iter().filter(|name| KINDS.contains(&name.kind.as_str())).map(|name| name.to_string()).collect();
        if !others.is_empty() {
            let message = format!("left to systemd, being neither sockets nor services: {}", others.join(", "));
            self.remarks.push(Remark::note(origin.clone(), message));
        }
        let search = self.searching(folder);
        let asker = Asker { origin: origin.clone(), as_what: "unit", may_be_masked: true };
        for name in ours.into_iter().filter(|name| !name.is_template()) {
            match name.kind.as_str() {
                "socket" => drop(self.socket(name, &search, &asker)),
                _ => drop(self.service(name, &search, &asker, Why::Folder)),
            }
        }
    }

    /// Reads a socket and its service. Returns the name that it really has, if it is there.
    fn socket(&mut self, name: &UnitName, search: &[String], asker: &Asker) -> Option<String> {
        if let Some(known) = self.names.get(&name.to_string()) {
            return known.clone();
        }
        let asked = name.to_string();
        self.names.insert(asked.clone(), None);
        let loaded = self.load(name, search, asker)?;
        let (name, own) = (loaded.name.clone(), loaded.name.to_string());
        if self.sockets.contains_key(&own) {
            self.names.insert(asked, Some(own.clone()));
            return Some(own);
        }
        let mut remarks = Vec::new();
        let outside = |letter| self.outside(&loaded, letter);
        let (unit, left) = socket::read(&name, &loaded.assignments, &outside, &mut remarks);
        let problem = self.judged(&name, left, !unit.commands.steps.is_empty(), &mut remarks);
        let relies = relies(&loaded, &outside);
        let origin = Origin::File { name: loaded.path.clone(), line: 1 };
        let wrong = unit.wrong().map(|why| Problem::new(origin.clone(), format!("{own}: {why}")));
        self.remarks.extend(remarks);
        self.problems.extend(problem.into_iter().chain(wrong.clone()).chain(unit.problems.iter().cloned()));
        if wrong.is_some() {
            return None;
        }
        for name in [asked, own.clone()] {
            self.names.insert(name, Some(own.clone()));
        }
        let service = service_of(&name, &unit);
        let said = loaded.assignments.iter().rev().find(|one| one.section == "Socket" && one.key == "Service");
        let said = said.map_or_else(|| origin.clone(), |one| one.origin.clone());
        self.sockets.insert(own.clone(), SocketEntry { unit, service: service.to_string(), origin });
        let asker = Asker { origin: said, as_what: "its service", may_be_masked: false };
        if let Some(real) = self.service(&service, search, &asker, Why::Socket)
            && let Some(entry) = self.sockets.get_mut(&own)
        {
            entry.service.clone_from(&real);
            self.relied_on(relies, search, &real);
        }
        Some(own)
    }

    fn service(&mut self, name: &UnitName, search: &[String], asker: &Asker, why: Why) -> Option<String> {
        if let Some(known) = self.names.get(&name.to_string()) {
            let known = known.clone()?;
            let entry = self.services.iter_mut().find(|entry| entry.name.to_string() == known)?;
            if why > entry.why {
                entry.why = why;
                self.sockets_of(&known);
            }
            return Some(known);
        }
        self.names.insert(name.to_string(), None);
        let loaded = self.load(name, search, asker)?;
        let own = loaded.name.to_string();
        if self.services.iter().any(|entry| entry.name == loaded.name) {
            self.names.insert(name.to_string(), Some(own));
            return self.service(&loaded.name, search, asker, why);
        }
        let mut remarks = Vec::new();
        let outside = |letter| self.outside(&loaded, letter);
        let (unit, left, problems) = service::read(&loaded.name, &loaded.assignments, &outside, &mut remarks);
        let problem = self.judged(&loaded.name, left, true, &mut remarks);
        let relies = relies(&loaded, &outside);
        let origin = Origin::File { name: loaded.path.clone(), line: 1 };
        let problems = problems.into_iter().chain(problem).chain(instance_misused(&loaded));
        // What is missing stands nowhere.
        self.problems.extend(problems.map(|one| match one.origin {
            Origin::Default => Problem { origin: origin.clone(), ..one },
            Origin::File { .. } | Origin::Argument(_) | Origin::Environment(_) => one,
        }));
        self.remarks.extend(remarks);
        for name in [name.to_string(), own.clone()] {
            self.names.insert(name, Some(own.clone()));
        }
        let origin = if unit.spec.origin == Origin::Default { origin } else { unit.spec.origin.clone() };
        let entry = ServiceEntry { name: loaded.name, unit, why, origin, search: search.to_vec(), relies };
        self.services.push(entry);
        self.sockets_of(&own);
        Some(own)
    }

    /// The sockets that a service brings.
    fn sockets_of(&mut self, service: &str) {
        let Some(entry) = self.services.iter().find(|entry| entry.name.to_string() == service) else { return };
        let (name, why, search) = (entry.name.clone(), entry.why, entry.search.clone());
        let (listed, relies) = (entry.unit.sockets.clone(), entry.relies.clone());
        for (socket, origin) in listed {
            let asker = Asker { origin, as_what: "socket", may_be_masked: false };
            if let Ok(socket) = UnitName::parse(&socket) {
                self.socket(&socket, &search, &asker);
            }
        }
        self.relied_on(relies, &search, service);
        let own = name.with_kind("socket");
        if why == Why::Named && self.belongs(&own, &search, service) == Some(true) {
            let origin = self.services.iter().find(|entry| entry.name == name).map(|entry| entry.origin.clone());
            let asker = Asker { origin: origin.unwrap_or_default(), as_what: "socket", may_be_masked: true };
            self.socket(&own, &search, &asker);
        }
    }

    /// Of the sockets that a unit asks for to be there, those of its service.
    fn relied_on(&mut self, relies: Vec<(String, Origin)>, search: &[String], service: &str) {
        for (socket, origin) in relies {
            let Ok(socket) = UnitName::parse(&socket) else { continue };
            match self.belongs(&socket, search, service) {
                Some(true) => {
                    let asker = Asker { origin, as_what: "socket", may_be_masked: true };
                    self.socket(&socket, search, &asker);
                }
                Some(false) => {
                    let message = format!("{socket} is another service's: left out (--unit {socket} runs it)");
                    self.remarks.push(Remark::note(origin, message));
                }
                None => self.remarks.push(Remark::warn(origin, format!("no unit {socket} is found: left out"))),
            }
        }
    }

    /// Whether a socket is that service's; `None`: there is no such socket.
    fn belongs(&self, name: &UnitName, search: &[String], service: &str) -> Option<bool> {
        if let Some(entry) = self.sockets.get(&name.to_string()) {
            return Some(entry.service == service);
        }
        let loaded = find::load(name, search, self.machine.folders, &mut Vec::new()).ok()?;
        let outside = |letter| self.outside(&loaded, letter);
        let (unit, _) = socket::read(&loaded.name, &loaded.assignments, &outside, &mut Vec::new());
        let own = service_of(&loaded.name, &unit);
        let real = self.names.get(&own.to_string()).cloned().flatten().unwrap_or_else(|| own.to_string());
        Some(real == service)
    }

    /// A unit's assignments, if it is to be run.
    fn load(&mut self, name: &UnitName, search: &[String], asker: &Asker) -> Option<Loaded> {
        let mut remarks = Vec::new();
        let problem = |message: String| Problem::new(asker.origin.clone(), message);
        let loaded = match find::load(name, search, self.machine.folders, &mut remarks) {
            Ok(loaded) => loaded,
            Err(Missing::Masked(path)) if asker.may_be_masked => {
                self.remarks.push(Remark::note(asker.origin.clone(), format!("{name} is masked ({path}): left out")));
                return None;
            }
            Err(missing) => {
                let what = asker.as_what;
                self.problems.push(match missing {
                    Missing::Masked(path) => problem(format!("{what} {name} is masked ({path})")),
                    Missing::Unreadable(path, why) => problem(format!("cannot read {path}: {why}")),
                    Missing::NotFound(near) => {
                        let problem = problem(format!("{what} {name} is not found"));
                        match near {
                            Some(near) => problem.remedy(format!("did you mean {near}?")),
                            None => problem.remedy(format!("looked in {}", places(search))),
                        }
                    }
                });
                return None;
            }
        };
        let outside = |letter| self.outside(&loaded, letter);
        let context = Context { name: &loaded.name, outside: &outside };
        let mut conditions = condition::read(&loaded.assignments, context, &mut remarks);
        if (self.machine.runs)(&loaded.name.to_string()) {
            conditions.clear();
        }
        let verdict = condition::judge(&conditions, self.machine.holds, &mut remarks);
        self.remarks.extend(remarks);
        match verdict {
            Verdict::Holds => Some(loaded),
            Verdict::Skipped(origin, written) => {
                let message = format!("{written} is not met: {} is skipped", loaded.name);
                self.remarks.push(Remark::warn(origin, message));
                None
            }
            Verdict::Refused(origin, written) => {
                self.problems.push(Problem::new(origin, format!("{written} is not met: {} may not run", loaded.name)));
                None
            }
        }
    }

    /// Specifiers that are about the unit but not about its name, and those about the machine.
    fn outside(&self, loaded: &Loaded, letter: char) -> Option<String> {
        match letter {
            'y' => Some(loaded.path.clone()),
            'Y' => Some(loaded.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_string()),
            'd' => Some(format!("{}/credentials/{}", (self.machine.outside)('t')?, loaded.name)),
            _ => (self.machine.outside)(letter),
        }
    }

    fn judged(
        &self,
        name: &UnitName,
        mut left: Vec<&Assignment>,
        runs: bool,
        remarks: &mut Vec<Remark>,
    ) -> Option<Problem> {
        left.retain(|one| !condition::is_condition(&one.section, &one.key));
        judge(name, &left, runs, self.request.allow_unprotected, remarks)
    }
}

/// The folders that were looked in, for a message.
fn places(search: &[String]) -> String {
    let shown = search.iter().map(|folder| if folder.is_empty() { "." } else { folder });
    shown.collect::<Vec<_>>().join(":")
}

/// systemd's kinds of units that are not run here.
const KINDS: [&str; 9] = ["target", "timer", "path", "mount", "automount", "swap", "device", "slice", "scope"];

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
