//! Which of a service's commands a process runs: its words, filled in, and with whose rights.

use super::clone::Strings;
use super::environment::{Environment, no_such_socket};
use super::error::{SpawnError, Stage};
use super::exec_words::{self, Word};
use super::{Copy, Given, Part, fill};
use crate::plan::{Command, Exec, Privilege, ServiceSpec, Template};
use nix::errno::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The hidden first argument under which prebind is its own demonstration worker.
const DEMO_ARGUMENT: &str = "--demo-worker";

/// The command of this process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen<'a> {
    Program(&'a [Template]),
    /// With the key of a unit that it stands under.
    Exec(&'a Exec, &'static str),
    Demo,
}

/// Finds it. The numbers are the supervisor's, so that one out of range is a mistake of prebind.
pub(super) fn choose(service: &ServiceSpec, part: Part) -> Result<Chosen<'_>, SpawnError> {
    let found = match (part, &service.command) {
        (Part::Main(_), Command::Program(words)) => Some(Chosen::Program(words)),
        (Part::Main(_), Command::Demo) => Some(Chosen::Demo),
        (Part::Main(n), Command::Execs(execs)) => execs.get(usize::from(n)).map(|exec| Chosen::Exec(exec, "ExecStart")),
        (Part::Step(step, n), _) => {
            let mut steps = service.steps.iter().filter(|one| one.step == step);
            steps.nth(usize::from(n)).map(|one| Chosen::Exec(&one.exec, step.key()))
        }
    };
    found.ok_or_else(|| {
        let message = format!("worker of '{}': it has no such command ({part:?})", service.name);
        SpawnError::new(Stage::Command, Errno::EINVAL, message)
    })
}

impl Chosen<'_> {
    /// With whose rights it runs.
    pub(super) fn privilege(&self) -> Privilege {
        match self {
            Chosen::Exec(exec, _) => exec.privilege,
            Chosen::Program(_) | Chosen::Demo => Privilege::Unit,
        }
    }

    /// What is to be executed, and the whole argument list. Variables are those of `environment`.
    pub(super) fn words(
        &self,
        service: &ServiceSpec,
        given: &[Given],
        copy: &Copy,
        environment: &Environment,
    ) -> Result<(OsString, Strings), SpawnError> {
        match self {
            Chosen::Demo => {
                let words = ["prebind", DEMO_ARGUMENT].map(OsString::from);
                Ok((words[0].clone(), strings(service, &words)?))
            }
            Chosen::Program(templates) => {
                let words = filled(templates, given, copy).ok_or_else(|| no_such_socket(service, "COMMAND"))?;
                let strings = strings(service, &words)?;
                Ok((words.into_iter().next().unwrap_or_default(), strings))
            }
            Chosen::Exec(exec, key) => {
                let refused = || no_such_socket(service, &format!("{key}="));
                let path = fill::fill(&exec.path, given, copy).map_err(|_| refused())?;
                let words = filled(&exec.words, given, copy).ok_or_else(refused)?;
                let strings = match exec.literal {
                    true => strings(service, &words)?,
                    false => expanded(service, &path, &words, environment)?,
                };
                Ok((path, strings))
            }
        }
    }
}

fn filled(templates: &[Template], given: &[Given], copy: &Copy) -> Option<Vec<OsString>> {
    templates.iter().map(|template| fill::fill(template, given, copy).ok()).collect()
}

fn strings(service: &ServiceSpec, words: &[OsString]) -> Result<Strings, SpawnError> {
    let mut strings = Strings::default();
    for word in words {
        strings.push(&[word.as_bytes()]).ok_or_else(|| has_nul(service, word))?;
    }
    Ok(strings)
}

/// With variables. All words may name some, the program's own name among them; but not what is executed.
fn expanded(
    service: &ServiceSpec,
    path: &OsStr,
    words: &[OsString],
    environment: &Environment,
) -> Result<Strings, SpawnError> {
    let mut made = Vec::with_capacity(words.len());
    for word in words {
        exec_words::expand(word.as_bytes(), &|name| environment.variable(name), &mut made);
    }
    if made.is_empty() {
        made.push(Word { bytes: path.as_bytes().to_vec(), pids: Vec::new() });
    }
    let mut strings = Strings::default();
    for word in &made {
        let start = strings.push(&[&word.bytes]).ok_or_else(|| has_nul(service, OsStr::from_bytes(&word.bytes)))?;
        word.pids.iter().for_each(|place| strings.pid_at(start + place));
    }
    Ok(strings)
}

pub(super) fn c_string(service: &ServiceSpec, word: OsString) -> Result<CString, SpawnError> {
    CString::new(word.into_vec()).map_err(|error| has_nul(service, OsStr::from_bytes(&error.into_vec())))
}

fn has_nul(service: &ServiceSpec, word: &OsStr) -> SpawnError {
    let word = word.to_string_lossy().replace('\0', "\\0");
    let message = format!("worker of '{}': '{word}' has a NUL byte in it", service.name);
    SpawnError::new(Stage::Environment, Errno::EINVAL, message)
}
