//! The command line of prebindctl, and what is printed from it.

use crate::plan::{Signal, Strategy};
use clap::{Arg, ArgAction, Command, value_parser};
use std::io::{self, Write};
use std::path::PathBuf;

/// What `--generate` prints.
const GENERATED: [&str; 4] = ["man", "completions-bash", "completions-zsh", "completions-fish"];

/// The longest time: a year.
const SECONDS_MAX: f64 = 365.0 * 86400.0;

/// The one table of prebindctl's command line.
pub(super) fn command_line() -> Command {
    Command::new("prebindctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Asks a running prebind for its state, and tells it what to do")
        .override_usage("prebindctl [OPTIONS] COMMAND [ARG]...")
        .after_help(AFTER_HELP)
        .arg_required_else_help(true)
        .subcommand_value_name("COMMAND")
        .disable_help_subcommand(true)
        .args([
            Arg::new("socket-path")
                .short('d')
                .long("socket-path")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .value_hint(clap::ValueHint::FilePath)
                .global(true)
                .help("The control socket of the prebind to ask"),
            Arg::new("command-name")
                .short('c')
                .long("command-name")
                .value_name("NAME")
                .conflicts_with("socket-path")
                .global(true)
                .help("The prebind of that name; without -c and -d: the only one that runs"),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .global(true)
                .help("Print the answer as one line of JSON"),
            Arg::new("generate")
                .long("generate")
                .value_name("WHAT")
                .value_parser(GENERATED)
                .exclusive(true)
                .hide_possible_values(true)
                .help("Print one of man, completions-bash, completions-zsh, completions-fish"),
        ])
        .subcommands(commands())
}

fn upgrade() -> Command {
    Command::new("upgrade")
        .about("Replace the workers by those of the next generation; a version that does not get ready is taken back")
        .args([
            service(),
            Arg::new("strategy")
                .long("strategy")
                .value_name("HOW")
                .value_parser(Strategy::ALL.map(|(word, _)| word))
                .help("rolling, fleet or canary, whatever prebind was started with"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(seconds)
                .help("How long a new worker may take to be ready"),
            Arg::new("wait")
                .long("wait")
                .value_name("UNTIL")
                .value_parser(["told", "drained"])
                .help("Until every old worker is told to stop (the default), or is gone"),
            Arg::new("no-wait").long("no-wait").action(ArgAction::SetTrue).conflicts_with("wait").help("Only begin"),
        ])
}

pub(super) fn service() -> Arg {
    Arg::new("service").value_name("SERVICE").help("Which service; all of them (scale: the only one) without")
}

/// What can be asked.
fn commands() -> Vec<Command> {
    let own = own_commands();
    own.into_iter().chain(super::circus::commands()).collect()
}

fn own_commands() -> [Command; 13] {
    [
        Command::new("status").about("Show the sockets, the services and their workers"),
        Command::new("ready")
            .about("Exit with 0 when every service has as many ready workers as asked for, else with 1"),
        Command::new("live").about("Exit with 0 when prebind answers, else with 1"),
        Command::new("scale").about("Run another number of workers").allow_missing_positional(true).args([
            service(),
            Arg::new("number").value_name("N").required(true).value_parser(value_parser!(u32)).help("So many"),
        ]),
        Command::new("restart")
            .about("Replace the workers one by one: the new one is ready before the old one is told to stop")
            .args([
                service(),
                Arg::new("slot")
                    .long("slot")
                    .value_name("N")
                    .value_parser(value_parser!(u32))
                    .help("Only the worker of that slot"),
            ]),
        upgrade(),
        Command::new("reload")
            .about("Let the workers read their configuration again (a unit's ExecReload=, notify-reload); else upgrade")
            .arg(service())
            .arg(
                Arg::new("sequential")
                    .long("sequential")
                    .action(ArgAction::SetTrue)
                    .help("Replace the workers one by one, whatever the service's own way is (restart)"),
            ),
        Command::new("promote").about("The worker on trial is fine: go on with the upgrade").arg(service()),
        Command::new("rollback").about("Give the upgrade up that is under way").arg(service()),
        Command::new("reexec").about("Replace prebind's own program in place; the workers go on"),
        Command::new("signal")
            .about("Send a signal to the main process of every worker")
            .allow_missing_positional(true)
            .args([
                service(),
                Arg::new("signal")
                    .value_name("SIG")
                    .required(true)
                    .value_parser(|text: &str| text.parse::<Signal>())
                    .help("Its name, with or without SIG, or its number"),
            ]),
        Command::new("stop").about("Stop every worker, then prebind"),
        Command::new("events").about("Print what happens as it happens, one line of JSON each"),
    ]
}

const AFTER_HELP: &str = "\
Exit codes: 0, done, or the answer is yes; 1, the answer is no; 2, the command line is wrong; 111, nobody is there.";

/// A span above 0, fractions allowed.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        _ => Err("not a number of seconds above 0".into()),
    }
}

/// The man page or completions, from the table.
pub(super) fn generated(what: &str) -> io::Result<Vec<u8>> {
    use clap_complete::{Shell, generate};
    let mut text = Vec::new();
    let shell = match what {
        "completions-bash" => Shell::Bash,
        "completions-zsh" => Shell::Zsh,
        "completions-fish" => Shell::Fish,
        _ => {
            man(&mut text)?;
            return Ok(text);
        }
    };
    generate(shell, &mut command_line(), "prebindctl", &mut text);
    Ok(text)
}

/// clap's page, with what every command takes in the place of pages of their own.
fn man(out: &mut Vec<u8>) -> io::Result<()> {
    let mut table = command_line();
    table.build();
    let page = clap_mangen::Man::new(table.clone()).date("").manual("prebind");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for command in table.get_subcommands() {
        let own = command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help");
        let words: String = own.map(|arg| format!(" {}", word(arg))).collect();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(out, ".TP\n\\fB{}\\fR{words}\n{about}.", command.get_name())?;
    }
    page.render_options_section(out)?;
    out.write_all(MAN_END.as_bytes())
}

/// An argument as the man page writes it.
fn word(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    match (arg.get_long(), arg.is_required_set()) {
        (Some(long), _) => format!("[\\fB\\-\\-{}\\fR \\fI{value}\\fR]", long.replace('-', "\\-")),
        (None, true) => format!("\\fI{value}\\fR"),
        (None, false) => format!("[\\fI{value}\\fR]"),
    }
}

/// The sections that clap has no place for.
const MAN_END: &str = "\
.SH FILES
.TP
\\fI/run/prebind/NAME.sock\\fR, \\fI$XDG_RUNTIME_DIR/prebind/NAME.sock\\fR, \\fI$TMPDIR/prebind\\-UID/NAME.sock\\fR
The control socket of the prebind called NAME (its \\fB\\-c\\fR, else the base name of its command). The first is root's.
.SH EXIT STATUS
.TP
0
Done, or the answer is yes.
.TP
1
The answer is no, or prebind refused.
.TP
2
The command line is wrong, or it does not tell which of several prebinds is meant.
.TP
111
Nobody is there, or no answer came.
.SH SEE ALSO
\\fBprebind\\fR(1)
";
