//! einhorn's name: long options by any unique beginning, and the defaults of einhorn 1.1.1. Both names read one table;
//! only einhorn's own options take part in unique beginnings.

use super::table::options;
use super::values::Nice;
use super::words::reach;
use super::{Reader, Refusal};
use crate::plan::{AckMode, ListenEnv, Manner, Nanos, Number, Plan, ServiceSpec, Signal};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// einhorn's options.
const OPTIONS: [&str; 25] = [
    "ack-mode",
    "backlog",
    "bind",
    "command-name",
    "command-socket-as-fd",
    "drop-env-var",
    "gc-before-fork",
    "help",
    "kill-children-on-exit",
    "lockfile",
    "max-unacked",
    "max-upgrade-additional",
    "nice",
    "number",
    "pidfile",
    "preload",
    "quiet",
    "reexec-as",
    "seconds",
    "signal-timeout",
    "socket-path",
    "upgrade-check",
    "verbose",
    "version",
    "with-state-fd",
];
const BACKLOG: u32 = 100;
const ACK_NS: Nanos = AckMode::GRACE_NS;

/// Long options that are begun in a unique way, in full.
pub(super) fn in_full(args: Vec<OsString>) -> Result<Vec<OsString>, Refusal> {
    let mut full = Vec::with_capacity(args.len());
    let mut rest = args.into_iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" || bytes.len() < 2 || bytes[0] != b'-' {
            full.push(word);
            break;
        }
        let word = match word.to_str().and_then(|text| text.strip_prefix("--")) {
            Some(long) => completed(long)?,
            None => word,
        };
        let follows = reach(&word) == 2;
        full.push(word);
        full.extend(if follows { rest.next() } else { None });
    }
    full.extend(rest);
    Ok(full)
}

fn completed(long: &str) -> Result<OsString, Refusal> {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let known = options().any(|option| option.id == name);
    let meant: Vec<&str> = OPTIONS.into_iter().filter(|option| option.starts_with(name)).collect();
    let name = match meant[..] {
        _ if known => name,
        [one] => one,
        [] => name,
        [..] => return Err(Refusal(format!("ambiguous option '--{name}': --{}", meant.join(", --")))),
    };
    Ok(value.map_or(format!("--{name}"), |value| format!("--{name}={value}")).into())
}

impl Reader<'_> {
    /// Under prebind's own name what only einhorn has is said, not lost.
    pub(super) fn own_habits(&mut self, plan: &mut Plan) {
        self.not_here(plan);
        if let Some(Nice { first, workers: Some(workers), command }) = self.given.one::<Nice>("nice") {
            self.einhorns_nice(plan, first, Some(workers), command.is_some());
        }
    }

    /// What was not asked for is as einhorn has it.
    pub(super) fn einhorns_habits(&mut self, plan: &mut Plan, directory: &Path) {
        plan.manner = Manner::Einhorn;
        let stem = plan.identity.name.as_ref().map_or("einhorn".into(), |name| format!("einhorn-{name}"));
        let at = |extension: &str| Some(directory.join(format!("{stem}.{extension}")));
        let identity = &mut plan.identity;
        identity.mode_by_umask = true;
        if !identity.no_control {
            identity.socket_path = identity.socket_path.take().or(at("sock"));
        }
        identity.pidfile = identity.pidfile.take().or(at("pid"));
        identity.lockfile = identity.lockfile.take().or(at("lock"));
        for spec in &mut plan.sockets {
            spec.options.backlog = spec.options.backlog.or(Some(BACKLOG));
        }
        let given = |id: &str| self.given.has(id);
        for service in &mut plan.services {
            service.bounded_first = false;
            if !given("ack-mode") {
                service.ack = AckMode::After(ACK_NS);
            }
            if !given("stop-signal") {
                service.stop_signal = Signal::USR2;
            }
            if !given("signal-timeout") {
                (service.stop_timeout_ns, service.stop_timeout_given) = (ServiceSpec::NEVER_NS, true);
            }
            if !given("start-timeout") {
                service.start_timeout_ns = ServiceSpec::NEVER_NS;
            }
            // Whatever a worker's end was, it is started again: also in a container, also on a terminal.
            service.restart_given = true;
            if !given("listen-env") {
                service.listen_env = ListenEnv::None;
            }
            if !given("number") {
                service.number = Number::Fixed(1);
            }
        }
        self.not_here(plan);
        if let Some(Nice { first, workers, command }) = self.given.one::<Nice>("nice") {
            self.einhorns_nice(plan, first, workers, command.is_some());
        }
    }

    fn not_here(&self, plan: &mut Plan) {
        if let Some(path) = self.given.one::<PathBuf>("preload") {
            let path = path.display();
            plan.remarks.push(format!("-p {path}: nothing is preloaded, the code is loaded by each worker"));
        }
        if self.given.flag("gc-before-fork") {
            plan.remarks.push("--gc-before-fork: nothing is preloaded, so nothing is collected".into());
        }
    }

    fn einhorns_nice(&self, plan: &mut Plan, own: i32, workers: Option<i32>, command: bool) {
        plan.own_nice = Some(own);
        plan.services.iter_mut().for_each(|service| service.nice = workers);
        if command {
            plan.remarks.push("--nice: the levels are set by a system call, not by the command".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Asked, Name, parse_as};
    use super::*;

    fn plan(words: &str) -> Result<Plan, String> {
        let words = words.split(' ').map(OsString::from).collect();
        match parse_as(&Name::Einhorn("/t".into()), words) {
            Ok(Asked::Run(run)) => Ok(run.plan),
            Ok(other) => Err(format!("{other:?}")),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    #[test]
    fn beginnings_are_einhorns_alone() {
        let plan_of = |words: &str| plan(words).expect(words);
        let all = plan_of("--numb 3 --sig=1.5 -vb 127.0.0.1:1,rn --max-una 2 -- app --numb");
        assert_eq!((all.services[0].number, all.services[0].max_unacked), (Number::Fixed(3), Some(2)));
        assert_eq!((all.services[0].stop_timeout_ns, all.sockets.len()), (1_500_000_000, 1));
        for (words, why) in [
            ("--max 1 app", "ambiguous"),
            ("--listen none app", "unknown option"),
            ("--strat fleet app", "unknown option"),
            ("--nosuch app", "unknown option"),
        ] {
            assert!(plan(words).is_err_and(|message| message.contains(why)), "{words}: {:?}", plan(words).err());
        }
        assert_eq!(plan_of("--listen-env full app").services[0].listen_env, ListenEnv::Full, "ours, in full");
    }

    #[test]
    fn defaults_are_einhorns_and_what_is_not_here_is_said() {
        let plan = plan("-p app.rb --gc-before-fork --nice 1:2:renice -c web -b 127.0.0.1:1 app").expect("a plan");
        let (service, identity) = (&plan.services[0], &plan.identity);
        assert_eq!((service.ack, service.stop_signal), (AckMode::After(ACK_NS), Signal::USR2));
        let never = ServiceSpec::NEVER_NS;
        assert_eq!((service.stop_timeout_ns, service.start_timeout_ns), (never, never));
        assert_eq!((plan.own_nice, service.nice, plan.sockets[0].options.backlog), (Some(1), Some(2), Some(BACKLOG)));
        let files = [&identity.socket_path, &identity.pidfile, &identity.lockfile];
        let files = files.map(|path| path.as_ref().expect("a path").display().to_string());
        assert_eq!(files, ["/t/einhorn-web.sock", "/t/einhorn-web.pid", "/t/einhorn-web.lock"]);
        assert_eq!(plan.remarks.len(), 3, "{:?}", plan.remarks);
    }
}
