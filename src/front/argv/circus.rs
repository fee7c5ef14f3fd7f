//! `--circus FILE` and what goes with it. The file says itself what its watchers run and as whom: an option that says so too
//! is refused, with the option of the file that is meant. What the file has no word for is the same for all watchers.

use super::{Name, Reader, Refusal};
use crate::front::circus::Request;
use crate::plan::Origin;

/// Options, and where the file says the same.
const IN_FILE: [(&str, &str); 14] = [
    ("unit", "the other door: one of them"),
    ("bind", "a [socket:NAME]"),
    ("backlog", "backlog in [socket:NAME]"),
    ("number", "numprocesses in [watcher:NAME]"),
    ("signal-timeout", "graceful_timeout in [watcher:NAME]"),
    ("stop-signal", "stop_signal in [watcher:NAME]"),
    ("restart", "respawn in [watcher:NAME]"),
    ("user", "uid in [watcher:NAME]"),
    ("group", "gid in [watcher:NAME]"),
    ("chdir", "working_dir in [watcher:NAME]"),
    ("umask", "umask in [circus]"),
    ("env", "a line in [env] or [env:NAME]"),
    ("env-file", "a line in [env] or [env:NAME]"),
    ("limit", "rlimit_nofile and its siblings in [watcher:NAME]"),
];

impl Reader<'_> {
    /// What `--circus` asks for, if it was given.
    pub(super) fn circus(&mut self, program: &Name) -> Result<Option<Request>, Refusal> {
        let refuse = |message: String| Err(Refusal(message));
        let Some(file) = self.given.one::<std::ffi::OsString>("circus") else { return Ok(None) };
        if *program != Name::Prebind {
            return refuse("--circus is prebind's own: start it under the name prebind".into());
        }
        if let Some(word) = self.words.command.first() {
            let word = word.to_string_lossy();
            return refuse(format!(
                "'{word}': with --circus there is no COMMAND, cmd in [watcher:NAME] says what is run"
            ));
        }
        if let Some((id, key)) = IN_FILE.iter().find(|(id, _)| self.given.has(id)) {
            return refuse(format!("--{id} means nothing with --circus: it is {key}"));
        }
        match file.into_string() {
            Ok(file) if file.is_empty() => refuse("--circus needs a value (an empty variable?)".into()),
            Ok(file) => Ok(Some(Request { file, origin: Origin::Argument(self.words.place("circus", 0)) })),
            Err(file) => refuse(format!("--circus: '{}' is not UTF-8", super::lossy(&file))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn what_combines_with_a_file() {
        let run =
            parsed("--check --circus a.ini -c web -m notify --min-ready 2 -s 3 --strategy fleet --nice 5").unwrap();
        let expected = Request { file: "a.ini".into(), origin: Origin::Argument(3) };
        assert_eq!((run.circus, run.problems.len()), (Some(expected), 0));
        assert_eq!(run.plan.services[0].nice, Some(5));
        assert_eq!(parsed("-b 80 app").unwrap().circus, None);
    }

    #[test]
    fn what_the_file_says_itself() {
        for (line, why) in [
            ("--circus a.ini -- app", "cmd in [watcher:NAME]"),
            ("--circus a.ini -b 80", "a [socket:NAME]"),
            ("--circus a.ini -n 2", "numprocesses"),
            ("--circus a.ini --unit b.service", "the other door"),
            ("--circus a.ini -t 3", "graceful_timeout"),
            ("--circus a.ini --env A=1", "[env]"),
            ("--circus=", "needs a value"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
