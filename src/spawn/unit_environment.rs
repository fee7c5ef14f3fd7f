//! The environment of a unit's process. The layers and their order are systemd's: what the manager says, what belongs
//! to the process, `PassEnvironment=`, `Environment=`, `EnvironmentFile=`; a later one wins, whatever the name, and
//! `UnsetEnvironment=` takes out last.

use super::environment::{Environment, is_dropped, no_such_socket};
use super::error::SpawnError;
use super::identity::Identity;
use super::{Base, Copy, Given, Part, directories, environment_files, fill};
use crate::plan::{Kind, ListenEnv, NotifyAccess, ServiceSpec};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// systemd's fixed folders: PATH, and where commands without a slash are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a manager of prebind's own told prebind, and would be wrong of a worker.
const OUTER: [&str; 7] =
    ["INVOCATION_ID", "SYSTEMD_EXEC_PID", "SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS", "REMOTE_ADDR", "REMOTE_PORT"];

/// All layers.
pub(super) fn make<'a>(
    base: &'a Base,
    service: &'a ServiceSpec,
    given: &[Given<'a>],
    names: &[&str],
    copy: &Copy,
    identity: &Identity,
    remarks: &mut Vec<String>,
) -> Result<Environment<'a>, SpawnError> {
    let mut environment = Environment::default();
    first(&mut environment, base, service);
    told(&mut environment, base, service, copy);
    own(&mut environment, service, names, copy, identity);
    for name in &service.process.pass_environment {
        let Some((_, value)) = base.environment.iter().find(|(key, _)| key == name.as_str()) else { continue };
        if is_dropped(OsStr::new(name), &[]) {
            remarks.push(format!("PassEnvironment={name}: not passed on, its value was meant for prebind"));
        } else {
            environment.set(OsStr::new(name), value.as_os_str());
        }
    }
    for (key, template) in &service.env {
        let value = fill::fill(template, given, copy).map_err(|_| no_such_socket(service, key))?;
        environment.set(OsStr::new(key), value);
    }
    environment_files::read(base, service, remarks, |key, value| environment.set(key, value))?;
    for word in &service.process.unset_environment {
        environment.unset(word);
    }
    Ok(environment)
}

/// The manager's block.
fn first<'a>(environment: &mut Environment<'a>, base: &'a Base, service: &'a ServiceSpec) {
    let kept = base.environment.iter().filter(|(key, _)| match service.process.clean_environment {
        true => key == "LANG",
        false => {
            let drops: &[String] = if base.drops_done { &[] } else { &service.drop_env };
            !is_dropped(key, drops) && OUTER.iter().all(|name| key != name)
        }
    });
    for (key, value) in kept {
        environment.set(key.as_os_str(), value.as_os_str());
    }
    if environment.get("PATH").is_none() {
        environment.set(OsStr::new("PATH"), OsStr::new(PATH));
    }
}

/// What the supervisor tells this process.
fn told<'a>(environment: &mut Environment<'a>, base: &'a Base, service: &'a ServiceSpec, copy: &Copy) {
    let heard = match copy.part {
        Part::Main(_) => service.notify_access != NotifyAccess::None,
        Part::Step(..) => matches!(service.notify_access, NotifyAccess::Exec | NotifyAccess::All),
    };
    if let Some(address) = base.notify_address.as_ref().filter(|_| heard) {
        environment.set(OsStr::new("NOTIFY_SOCKET"), address.as_os_str());
        if service.fd_store_max > 0 {
            environment.set(OsStr::new("FDSTORE"), OsString::from(service.fd_store_max.to_string()));
        }
    }
    if let Kind::Forking { pidfile: Some(path) } = &service.kind {
        environment.set(OsStr::new("PIDFILE"), path.as_os_str());
    }
    if let Some(pid) = copy.main_pid {
        environment.set(OsStr::new("MAINPID"), OsString::from(pid.to_string()));
    }
    if let Some(outcome) = copy.outcome {
        environment.set(OsStr::new("SERVICE_RESULT"), OsStr::new(outcome.result));
        if let Some((code, status)) = &outcome.main {
            environment.set(OsStr::new("EXIT_CODE"), OsStr::new(*code));
            environment.set(OsStr::new("EXIT_STATUS"), OsString::from(status));
        }
    }
    if let Some((address, port)) = copy.connection.and_then(|served| served.remote.as_ref()) {
        environment.set(OsStr::new("REMOTE_ADDR"), OsString::from(address));
        if let Some(port) = port {
            environment.set(OsStr::new("REMOTE_PORT"), OsString::from(port.to_string()));
        }
    }
}

/// Who this process is, and what it has.
fn own<'a>(
    environment: &mut Environment<'a>,
    service: &'a ServiceSpec,
    names: &[&str],
    copy: &Copy,
    identity: &Identity,
) {
    if !names.is_empty() && service.listen_env != ListenEnv::None {
        environment.listen(names, service.listen_env != ListenEnv::NoPid);
    }
    if let Some(nanos) = service.watchdog_ns.filter(|_| matches!(copy.part, Part::Main(_))) {
        environment.watchdog(nanos);
    }
    for (key, value) in &identity.login {
        environment.set(OsStr::new(*key), value.clone());
    }
    environment.set(OsStr::new("INVOCATION_ID"), OsString::from(format!("{:032x}", copy.invocation)));
    for (key, value) in directories::variables(service) {
        environment.set(OsStr::new(key), value);
    }
    environment.set_pid("SYSTEMD_EXEC_PID");
    environment.set(OsStr::new("PREBIND_SLOT"), OsString::from(copy.slot.to_string()));
    environment.set(OsStr::new("PREBIND_GENERATION"), OsString::from(copy.generation.to_string()));
    environment.set(OsStr::new("PREBIND_SERVICE"), OsStr::new(&service.name));
}

/// `NAME`, or `NAME=VALUE`, which takes it out only with that value.
pub(super) fn is_unset(key: &OsStr, value: &OsStr, word: &str) -> bool {
    match word.split_once('=') {
        Some((name, given)) => key == name && value.as_bytes() == given.as_bytes(),
        None => key == word,
    }
}
