//! `--check`, of a service that is no unit's: what only a circus.ini has words for.

use super::{seconds, unit};
use crate::plan::{KillMode, Nanos, Reload, ServiceSpec, StartWhen, Stdio};

/// What is not as it is without such words.
pub(super) fn rows(service: &ServiceSpec) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if service.process.unit {
        return rows;
    }
    let span = |span: Nanos| format!("{} s", seconds(span));
    let process = &service.process;
    if !service.autostart {
        rows.push(("start", format!("when asked for: prebindctl scale {} N", service.name)));
    } else if service.start != StartWhen::AtOnce {
        rows.push(("start", unit::start(service)));
    }
    if service.singleton {
        rows.push(("number", "a singleton: never more than one worker".into()));
    }
    if service.spacing_ns > 0 {
        rows.push(("spacing", format!("{} between the starts of two workers", span(service.spacing_ns))));
    }
    let age = |(age, variance)| ("age", format!("replaced after {}, and up to {} more", span(age), span(variance)));
    rows.extend(service.max_age.map(age));
    if service.kill.mode == KillMode::Group {
        rows.push(("kill", "the stop signal to all processes of a worker".into()));
    }
    if let Reload::Signal(signal) = service.reload {
        rows.push(("reload", format!("{signal} to each worker")));
    }
    if process.clean_environment {
        rows.push(("environment", format!("begins empty, {} set", service.env.len())));
    }
    rows.extend(service.umask.map(|mask| ("umask", format!("{mask:03o}"))));
    if (&process.stdout, &process.stderr) != (&Stdio::Own, &Stdio::Own) || matches!(process.stdin, Stdio::Named(_)) {
        rows.push(("streams", unit::streams(service).join(", ")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{SECOND, Signal};

    #[test]
    fn only_what_was_said_is_shown() {
        let mut service = ServiceSpec { name: "w".into(), ..ServiceSpec::default() };
        assert!(rows(&service).is_empty());
        (service.autostart, service.singleton) = (false, true);
        (service.spacing_ns, service.max_age) = (SECOND / 2, Some((60 * SECOND, 30 * SECOND)));
        (service.kill.mode, service.reload) = (KillMode::Group, Reload::Signal(Signal::HUP));
        (service.process.clean_environment, service.process.stdout) = (true, Stdio::Append("/x".into()));
        service.umask = Some(0o027);
        let shown: Vec<String> = rows(&service).iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let expected = [
            "start: when asked for: prebindctl scale w N",
            "number: a singleton: never more than one worker",
            "spacing: 0.5 s between the starts of two workers",
            "age: replaced after 60 s, and up to 30 s more",
            "kill: the stop signal to all processes of a worker",
            "reload: HUP to each worker",
            "environment: begins empty, 0 set",
            "umask: 027",
            "streams: prebind's own, append:/x, prebind's own",
        ];
        assert_eq!(shown, expected);
    }
}
