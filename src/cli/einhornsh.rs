//! einhornsh: sends its commands in einhorn's words and prints what comes back, until the answer is whole. Better than the
//! one it stands for: its exit code tells whether everything was done.

use super::matched;
use crate::control::client::{Client, ClientError, find};
use crate::exit::Exit;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

fn command_line() -> Command {
    Command::new("einhornsh")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Speaks to a running einhorn, or prebind, in einhorn's words (help lists them)")
        .override_usage("einhornsh [-c NAME | NAME] [-d PATH] [-e 'COMMAND; COMMAND']")
        .after_help(
            "Exit codes: 0, all was done; 1, something was not, or nobody is there; 2, the command line is wrong.",
        )
        .args([
            Arg::new("command-name")
                .short('c')
                .long("command-name")
                .value_name("NAME")
                .help("The einhorn of that name"),
            Arg::new("socket-path")
                .short('d')
                .long("socket-path")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("Its command socket"),
            Arg::new("execute")
                .short('e')
                .long("execute")
                .value_name("COMMANDS")
                .help("Commands, with ; between them, instead of those that are typed or read"),
            Arg::new("name").value_name("NAME").conflicts_with("command-name").help("As -c"),
        ])
}

/// Runs einhornsh; `args` starts with the program's name.
pub(super) fn main(args: Vec<OsString>) -> Exit {
    let matches = match matched(command_line(), args, Exit::Usage) {
        Ok(matches) => matches,
        Err(exit) => return exit,
    };
    match converse(&matches) {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(error) => {
            // With stderr closed the exit code still says it.
            let _ = writeln!(io::stderr(), "einhornsh: {error}");
            Exit::Failed
        }
    }
}

fn converse(matches: &ArgMatches) -> Result<bool, ClientError> {
    let mut shell = Shell { client: Client::connect(&path(matches)?, None)?, asked: 0, all_done: true };
    if let Some(commands) = matches.get_one::<String>("execute") {
        shell.run(commands)?;
    } else if io::stdin().is_terminal() {
        shell.interactive()?;
    } else {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if !shell.run(&line)? {
                break;
            }
        }
    }
    Ok(shell.all_done)
}

/// einhorn's default path; where nothing lies there, prebind's.
fn path(matches: &ArgMatches) -> Result<PathBuf, ClientError> {
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let name = text("command-name").or(text("name"));
    let given = matches.get_one::<PathBuf>("socket-path").cloned();
    let stem = name.map_or("einhorn".to_string(), |name| format!("einhorn-{name}"));
    let standard = std::env::temp_dir().join(format!("{stem}.sock"));
    let path = given.or_else(|| Some(standard.clone()).filter(|path| path.exists()));
    match find(path, name, &|name| std::env::var_os(name)) {
        Err(error @ ClientError::Several(_)) => Err(error),
        Ok(path) if path.exists() || matches.contains_id("socket-path") => Ok(path),
        // What is missing first of all is einhorn's own socket.
        Ok(_) | Err(_) => Ok(standard),
    }
}

struct Shell {
    client: Client,
    asked: u64,
    all_done: bool,
}

impl Shell {
    fn interactive(&mut self) -> Result<(), ClientError> {
        let user = std::env::var("USER").ok();
        self.asked += 1;
        self.client.ask(&json!({ "id": self.asked, "command": "ehlo", "user": user, "args": [] }))?;
        self.answers()?;
        say("(help lists the commands; quit or exit leaves)");
        // Without history there is nothing that could fail but the terminal itself.
        let Ok(mut editor) = rustyline::DefaultEditor::new() else { return Ok(()) };
        while let Ok(line) = editor.readline("> ") {
            let _ = editor.add_history_entry(&line);
            if !self.run(&line)? {
                break;
            }
        }
        Ok(())
    }

    /// Commands with `;` between them. Whether more may follow.
    fn run(&mut self, line: &str) -> Result<bool, ClientError> {
        for text in line.split(';') {
            let Some(words) = shlex::split(text) else {
                say(&format!("a quote is left open: {text}"));
                self.all_done = false;
                continue;
            };
            let Some((command, args)) = words.split_first() else { continue };
            if matches!(command.as_str(), "quit" | "exit") {
                return Ok(false);
            }
            self.asked += 1;
            self.client.ask(&json!({ "id": self.asked, "command": command, "args": args }))?;
            self.answers()?;
        }
        Ok(true)
    }

    /// Prints the answers to one request, to the last.
    fn answers(&mut self) -> Result<(), ClientError> {
        loop {
            let reply = self.client.reply()?;
            say(&reply.message);
            if !reply.wait {
                self.all_done &= reply.ok;
                return Ok(());
            }
        }
    }
}

/// To stdout; a reader that went away is no error of ours.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
