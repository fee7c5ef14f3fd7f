//! The door of `--circus`: what front/ may not touch itself. It lends front/circus the file system and the environment, and
//! puts what comes back into the plan.

use super::pattern;
use super::regular::file;
use crate::control::place::reason;
use crate::front::circus::{self, Machine, Read, Request};
use crate::plan::{Plan, Problem, ServiceSpec};
use std::path::Path;

/// Reads the file into the plan. `all`: notes are wanted too, not only what is not had.
pub(super) fn read(request: &Request, plan: &mut Plan, problems: &mut Vec<Problem>, all: bool) {
    let base: ServiceSpec = plan.services.drain(..).next().unwrap_or_default();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let here = std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok());
    let here = here.unwrap_or_else(|| "/".into());
    let read = |path: &str| file(path).map_err(|error| reason(&error));
    let matching = |pattern: &str| matching(&here, pattern);
    let machine = Machine { read: &read, matching: &matching, environment: &environment, directory: &here };
    let Read { sockets, services, pidfile, verbosity, remarks, problems: more } = circus::read(request, &base, machine);
    (plan.sockets, plan.services) = (sockets, services);
    plan.identity.stem = Path::new(&request.file).file_stem().and_then(|stem| stem.to_str()).map(str::to_string);
    plan.identity.pidfile = plan.identity.pidfile.take().or(pidfile);
    plan.log.verbosity = plan.log.verbosity.saturating_add(verbosity);
    problems.extend(more);
    let all = all || plan.log.verbosity > 0;
    plan.remarks.extend(remarks.iter().filter(|remark| remark.warning || all).map(ToString::to_string));
}

/// The paths that fit, by name; those of a relative pattern are relative too.
fn matching(here: &str, pattern: &str) -> Vec<String> {
    let mut found = match pattern.starts_with('/') {
        true => pattern::matching(pattern),
        false => {
            let start = format!("{}/", here.trim_end_matches('/'));
            let all = pattern::matching(&format!("{start}{pattern}")).into_iter();
            all.map(|path| path.strip_prefix(&start).map(str::to_string).unwrap_or(path)).collect()
        }
    };
    found.sort();
    found
}
