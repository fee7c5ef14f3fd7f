//! `--unit PATH...` and what goes with it. A unit says itself what its service runs and as whom: an option that says so too
//! is refused, with the key that is meant.

use super::{Name, Reader, Refusal};
use crate::front::units::Request;
use crate::plan::{Number, Origin};

/// Options, and where a unit says the same.
const IN_UNITS: [(&str, &str); 20] = [
    ("bind", "ListenStream= in a .socket"),
    ("backlog", "Backlog= in the .socket"),
    ("listen-env", "LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID, as systemd gives them"),
    ("ack-mode", "Type= in the .service"),
    ("start-timeout", "TimeoutStartSec= in the .service"),
    ("seconds", "RestartSec= in the .service"),
    ("signal-timeout", "TimeoutStopSec= in the .service"),
    ("stop-signal", "KillSignal= in the .service"),
    ("watchdog", "WatchdogSec= in the .service"),
    ("restart", "Restart= in the .service"),
    ("give-up-after", "StartLimitBurst= in the .service"),
    ("user", "User= in the .service"),
    ("group", "Group= in the .service"),
    ("chdir", "WorkingDirectory= in the .service"),
    ("umask", "UMask= in the .service"),
    ("env", "Environment= in the .service"),
    ("env-file", "EnvironmentFile= in the .service"),
    ("drop-env-var", "UnsetEnvironment= in the .service"),
    ("nice", "Nice= in the .service"),
    ("limit", "LimitNOFILE= and its siblings in the .service"),
];

impl Reader<'_> {
    /// What `--unit` asks for, if it was given.
    pub(super) fn units(&mut self, program: &Name) -> Result<Option<Request>, Refusal> {
        let refuse = |message: String| Err(Refusal(message));
        if !self.given.has("unit") {
            let alone = ["start", "inherit-env", "allow-unprotected"].into_iter().find(|id| self.given.has(id));
            return alone.map_or(Ok(None), |id| refuse(format!("--{id} goes with --unit PATH")));
        }
        if *program != Name::Prebind {
            return refuse("--unit is prebind's own: start it under the name prebind".into());
        }
        if let Some(word) = self.words.command.first() {
            let word = word.to_string_lossy();
            return refuse(format!(
                "'{word}': with --unit there is no COMMAND, ExecStart= says what is run (another unit: --unit {word})"
            ));
        }
        if let Some((id, key)) = IN_UNITS.iter().find(|(id, _)| self.given.has(id)) {
            return refuse(format!("--{id} means nothing with --unit: it is {key} (or in a drop-in)"));
        }
        if self.given.has("command-socket-as-fd") {
            return refuse("-g means nothing with --unit: a unit's descriptors are its sockets'".into());
        }
        let mut words = Vec::new();
        for (word, origin) in self.many("unit") {
            match word.into_string() {
                Ok(word) if !word.is_empty() => words.push((word, origin)),
                Ok(_) => return refuse("--unit needs a value (an empty variable?)".into()),
                Err(word) => self.problem(&origin, format!("'{}' is not UTF-8", super::lossy(&word))),
            }
        }
        let number = self.given.one::<Number>("number");
        let flag = |id| self.given.flag(id);
        Ok(Some(Request {
            words,
            start: flag("start"),
            inherit_env: flag("inherit-env"),
            allow_unprotected: flag("allow-unprotected"),
            number: number.map(|number| (number, Origin::Argument(self.words.place("number", 0)))),
            strategy: self.strategy(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn what_combines_with_units() {
        let line = "--unit web.socket --unit=units -n 4 -d /run/x -c web -e p -v --check --json --start --inherit-env \
                    --allow-unprotected --strategy fleet --min-ready 2 -k";
        let run = parsed(line).unwrap();
        let expected = Request {
            words: vec![("web.socket".into(), Origin::Argument(2)), ("units".into(), Origin::Argument(3))],
            start: true,
            inherit_env: true,
            allow_unprotected: true,
            number: Some((Number::Fixed(4), Origin::Argument(5))),
            strategy: Some(crate::plan::Strategy::Fleet),
        };
        assert_eq!((run.units, run.problems.len()), (Some(expected), 0));
        assert_eq!(run.plan.services[0].min_ready_ns, 2 * crate::plan::SECOND);
        assert_eq!(parsed("-b 80 app").unwrap().units, None);
    }

    #[test]
    fn what_a_unit_says_itself() {
        for (line, why) in [
            ("--unit a.service -- app", "ExecStart= says what is run"),
            ("--unit a.service b.service", "--unit b.service"),
            ("--unit a.service -b 80", "ListenStream="),
            ("--unit a.service -l 8", "Backlog="),
            ("--unit a.service --user x", "User="),
            ("--unit a.service -t 3", "TimeoutStopSec="),
            ("--unit a.service -m notify", "Type="),
            ("--unit a.service --env A=1", "Environment="),
            ("--unit a.service --limit nofile=3", "LimitNOFILE="),
            ("--unit a.service -g", "-g means nothing"),
            ("--unit=", "needs a value"),
            ("--start app", "--start goes with --unit"),
            ("--allow-unprotected app", "--allow-unprotected goes with --unit"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
