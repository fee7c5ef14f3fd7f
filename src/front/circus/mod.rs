//! Circus's configuration, run without Circus: `lex` reads the lines of a file, `file` gathers the files, `variables` fills
//! in what stands for something else, `socket`, `watcher`, `environment`, `streams` and `globals` read the sections, `keys`
//! says what becomes of each option. Receives bytes and the machine as arguments, hands on sockets, services, remarks and
//! every problem; it opens nothing itself.

mod environment;
mod file;
mod globals;
pub mod keys;
mod lex;
mod options;
mod socket;
mod streams;
mod values;
mod variables;
mod watcher;
mod words;

use super::remark::Remark;
use crate::plan::{Origin, Problem, ServiceSpec, SocketSpec};
use globals::Globals;
use lex::Section;
use std::cmp::Reverse;
use std::path::PathBuf;
use variables::Variables;

/// What `--circus` asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The file.
    pub file: String,
    /// Where it was asked for.
    pub origin: Origin,
}

/// What a configuration is read with.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// A file's bytes, or why they cannot be had.
    pub read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// The paths that fit a pattern of the shell, in their order.
    pub matching: &'a dyn Fn(&str) -> Vec<String>,
    /// The environment.
    pub environment: &'a [(String, String)],
    /// The directory in which prebind was started.
    pub directory: &'a str,
}

/// What a configuration amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// All sockets.
    pub sockets: Vec<SocketSpec>,
    /// A service for each watcher, in the order of their priority; they name their sockets already.
    pub services: Vec<ServiceSpec>,
    /// `pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `loglevel`: 0 as usual, more or less of it.
    pub verbosity: i8,
    /// Everything that is not taken as it stands.
    pub remarks: Vec<Remark>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// What was said so far.
#[derive(Clone, Debug, Default)]
struct Said {
    remarks: Vec<Remark>,
    problems: Vec<Problem>,
}

impl Said {
    /// Nothing is lost.
    fn note(&mut self, origin: &Origin, message: impl Into<String>) {
        self.remarks.push(Remark::note(origin.clone(), message));
    }

    /// It is otherwise than asked.
    fn warn(&mut self, origin: &Origin, message: impl Into<String>) {
        self.remarks.push(Remark::warn(origin.clone(), message));
    }

    fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem::new(origin.clone(), message));
    }

    /// A problem with what to do about it.
    fn wrong(&mut self, origin: &Origin, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(origin.clone(), message).remedy(remedy));
    }
}

/// Reads what was asked for. `base`: what the command line says of every service.
pub fn read(request: &Request, base: &ServiceSpec, machine: Machine<'_>) -> Read {
    let mut said = Said::default();
    let sections = file::gather(request, machine, &mut said);
    let named = |name: &str| sections.iter().find(|section| section.name == name);
    let outside = Variables::new(machine.environment);
    let variables = environment::of_all(named("env"), &outside, &mut said);
    let globals = named("circus").map(|section| globals::read(section, &variables, &mut said)).unwrap_or_default();
    let sockets: Vec<SocketSpec> = of_kind(&sections, "socket")
        .filter_map(|one| socket::read(one, &variables, machine.directory, &mut said))
        .collect();
    let world = watcher::World {
        outside: &outside,
        base: &globals::of_plugins(&sections, &variables, base, &mut said),
        sections: &sections,
        sockets: &sockets,
        directory: machine.directory,
        umask: globals.umask,
    };
    let mut watchers: Vec<(i64, ServiceSpec)> =
        of_kind(&sections, "watcher").filter_map(|one| watcher::read(one, &world, &mut said)).collect();
    watchers.sort_by_key(|(priority, _)| Reverse(*priority));
    let services: Vec<ServiceSpec> = watchers.into_iter().map(|(_, service)| service).collect();
    as_a_whole(request, &sections, &services, &sockets, &mut said);
    let Globals { pidfile, verbosity, .. } = globals;
    Read { sockets, services, pidfile, verbosity, remarks: said.remarks, problems: said.problems }
}

/// The sections of one kind that have a name.
fn of_kind<'a>(sections: &'a [Section], kind: &'static str) -> impl Iterator<Item = &'a Section> {
    sections.iter().filter(move |section| section.of_kind(kind).is_some())
}

/// What only all sections together can tell.
fn as_a_whole(
    request: &Request,
    sections: &[Section],
    services: &[ServiceSpec],
    sockets: &[SocketSpec],
    said: &mut Said,
) {
    let known = |name: &str| matches!(name, "circus" | "env");
    let kinds = ["socket", "watcher", "env", "plugin"];
    for section in sections {
        if !known(&section.name) && kinds.iter().all(|kind| section.of_kind(kind).is_none()) {
            let near = crate::plan::nearest(&section.name, ["circus", "env", "socket:", "watcher:", "env:", "plugin:"]);
            let hint = near.map(|near| format!(", did you mean [{near}]?")).unwrap_or_default();
            said.warn(&section.origin, format!("section [{}] is not known{hint}: ignored", section.name));
        }
    }
    for (n, service) in services.iter().enumerate() {
        let same = |other: &&ServiceSpec| other.name.eq_ignore_ascii_case(&service.name);
        if let Some(other) = services[..n].iter().find(same) {
            let message = format!("two watchers are called {} (the other: {})", service.name, other.origin);
            said.wrong(&service.origin, message, "give one another name");
        }
    }
    for (n, spec) in sockets.iter().enumerate() {
        if services.iter().all(|service| service.sockets.iter().all(|id| usize::from(id.0) != n)) {
            let message = format!("no watcher gets socket {}: it needs use_sockets, or to name it", spec.name);
            said.warn(&spec.origin, message);
        }
    }
    if services.is_empty() && said.problems.is_empty() {
        said.wrong(
            &request.origin,
            format!("there is no watcher in {}", request.file),
            "[watcher:NAME] with cmd = ...",
        );
    }
}

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod tests;
