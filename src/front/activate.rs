//! The command line of systemd-socket-activate: words in, [`Activate`] out, or why not, in that tool's words. Every failure
//! of that tool is exit code 1.

use crate::front::units::address::address;
use crate::plan::{Address, Origin, SocketKind, SocketOptions, SocketSpec};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// What it is to do.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// Listen, and run the command.
    Run(Box<Activate>),
    /// Print this, and end with 0.
    Print(String),
}

/// What is listened on, and what runs then.
#[derive(Debug, PartialEq)]
pub struct Activate {
    /// In their order.
    pub sockets: Vec<SocketSpec>,
    /// One child for each connection.
    pub accept: bool,
    /// Descriptors 0 and 1, not 3 and so on.
    pub inetd: bool,
    /// At once, not at the first traffic.
    pub now: bool,
    /// `-E NAME=VALUE`, or `-E NAME` for the value of our own.
    pub setenv: Vec<(String, Option<String>)>,
    /// For LISTEN_FDNAMES; one stands for all.
    pub names: Vec<String>,
    /// Of what was said and is not done.
    pub remarks: Vec<String>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Reads the words after the program's name. Options end at the first word that is none.
pub fn parse(args: Vec<OsString>) -> Result<Asked, String> {
    let name = std::iter::once(OsString::from("systemd-socket-activate"));
    let matches = table().try_get_matches_from(name.chain(args)).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        // Without the tool's name only where it is about what the words mean.
        format!("systemd-socket-activate: {line}")
    })?;
    if matches.get_flag("help") {
        return Ok(Asked::Print(table().render_help().to_string()));
    }
    if matches.get_flag("version") {
        return Ok(Asked::Print(format!("prebind {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let flag = |id| matches.get_flag(id);
    let texts = |id| matches.get_many::<String>(id).unwrap_or_default().cloned().collect::<Vec<String>>();
    let command: Vec<OsString> = matches.get_many::<OsString>("command").unwrap_or_default().cloned().collect();
    if command.is_empty() {
        return Err("systemd-socket-activate: command to execute is missing.".into());
    }
    let (datagram, seqpacket, accept) = (flag("datagram"), flag("seqpacket"), flag("accept"));
    if datagram && accept {
        let message =
            "Datagram sockets do not accept connections. The --datagram and --accept options may not be combined.";
        return Err(message.into());
    }
    if datagram && seqpacket {
        return Err("--seqpacket may not be combined with --datagram.".into());
    }
    if flag("now") && accept {
        return Err("--now cannot be used with --accept: there is no connection to start for.".into());
    }
    let kind = match (datagram, seqpacket) {
        (true, _) => SocketKind::Datagram,
        (_, true) => SocketKind::SeqPacket,
        _ => SocketKind::Stream,
    };
    let sockets = texts("listen").iter().map(|text| socket(text, kind)).collect::<Result<Vec<_>, _>>()?;
    if flag("inetd") && !accept && sockets.len() > 1 {
        return Err("--inetd only supported for single file descriptors.".into());
    }
    let mut remarks = Vec::new();
    let (mut setenv, mut names) = (Vec::new(), Vec::new());
    for text in texts("setenv") {
        match text.split_once('=') {
            Some(("", _)) => return Err(format!("Cannot assign environment variable {text}: Invalid argument")),
            Some((key, value)) => setenv.push((key.to_string(), Some(value.to_string()))),
            None => setenv.push((text, None)),
        }
    }
    for name in texts("fdname").iter().flat_map(|text| text.split(':')) {
        if name.len() > 255 || !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            remarks.push(format!("File descriptor name {name:?} is not valid."));
        }
        names.push(name.to_string());
    }
    let (inetd, now) = (flag("inetd"), flag("now"));
    Ok(Asked::Run(Box::new(Activate { sockets, accept, inetd, now, setenv, names, remarks, command })))
}

fn socket(text: &str, kind: SocketKind) -> Result<SocketSpec, String> {
    let address = address(text).map_err(|why| format!("Failed to parse socket address {text:?}: {why}"))?;
    if kind == SocketKind::SeqPacket && matches!(address, Address::Inet { .. }) {
        return Err(format!("Failed to open '{text}': SOCK_SEQPACKET is for unix sockets and vsock"));
    }
    Ok(SocketSpec {
        name: "unknown".into(),
        named: false,
        kind,
        address,
        options: SocketOptions { lenient: true, keep_path: true, mode: Some(0o644), ..SocketOptions::default() },
        origin: Origin::Default,
        retired: false,
        since: 0,
    })
}

/// Its options, once.
fn table() -> Command {
    let flag = |id: &'static str, help: &'static str| Arg::new(id).long(id).help(help).action(ArgAction::SetTrue);
    let many = |id: &'static str, name: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(name).help(help).action(ArgAction::Append).allow_hyphen_values(true)
    };
    Command::new("systemd-socket-activate")
        .about("Listen on sockets and run a program at the first connection, as systemd's tool of this name does")
        .override_usage("systemd-socket-activate [OPTIONS] [--] PROGRAM [ARG]...")
        .after_help(
            "Sockets of $LISTEN_FDS are passed through. Without --accept the program takes this process's place.",
        )
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args_override_self(true)
        .args([
            many("listen", "ADDR", "Listen on ADDR: PORT, IPV4:PORT, [IPV6]:PORT, /path, @abstract or vsock:CID:PORT")
                .short('l'),
            flag("datagram", "Datagram sockets").short('d'),
            flag("seqpacket", "SOCK_SEQPACKET sockets"),
            flag("accept", "One child for each connection").short('a'),
            many("setenv", "NAME[=VALUE]", "A variable for the program; without a value the one of our own").short('E'),
            many("fdname", "NAME[:NAME]...", "Names for $LISTEN_FDNAMES; one stands for all"),
            flag("inetd", "Pass the descriptor as 0 and 1"),
            flag("now", "Run the program at once, not at the first traffic"),
            flag("help", "Show this").short('h'),
            flag("version", "Show the version"),
        ])
        .arg(
            Arg::new("command")
                .value_name("PROGRAM")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(clap::builder::ValueParser::os_string())
                .help("The program to run, and its arguments"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Activate, String> {
        match parse(words.split_whitespace().map(OsString::from).collect())? {
            Asked::Run(run) => Ok(*run),
            Asked::Print(text) => Err(text),
        }
    }

    #[test]
    fn words_are_read_as_the_tool_does() {
        let one = read("-l 127.0.0.1:80 --listen=/run/x -E A=1 -EB --fdname=a:b --accept prog -l 5").unwrap();
        let shown: Vec<String> = one.sockets.iter().map(|spec| spec.address.to_string()).collect();
        assert_eq!((shown, one.accept), (vec!["127.0.0.1:80".into(), "/run/x".into()], true));
        assert_eq!(one.setenv, [("A".into(), Some("1".into())), ("B".into(), None)]);
        assert_eq!(
            (one.names, one.command),
            (vec!["a".into(), "b".into()], ["prog", "-l", "5"].map(Into::into).to_vec())
        );
        assert_eq!(read("-d -l 53 prog").unwrap().sockets[0].kind, SocketKind::Datagram);
        assert_eq!(read("--seqpacket -l @x prog").unwrap().sockets[0].kind, SocketKind::SeqPacket);
        assert!(read("--now -l 80 -- prog").unwrap().now);
        assert!(read("-l 80 --fdname=a\u{1} prog").unwrap().remarks[0].contains("not valid"));
    }

    #[test]
    fn what_is_wrong_is_said_in_its_words() {
        for (words, message) in [
            ("-l 80", "command to execute is missing."),
            ("-d -a -l 80 x", "may not be combined"),
            ("-d --seqpacket -l /x x", "--seqpacket may not be combined with --datagram."),
            ("--inetd -l 80 -l 81 x", "--inetd only supported for single file descriptors."),
            ("-l nonsense x", "Failed to parse socket address \"nonsense\""),
            ("--seqpacket -l 80 x", "SOCK_SEQPACKET"),
            ("-l 0 x", "port 0"),
            ("-E =1 -l 80 x", "Cannot assign environment variable"),
            ("--bogus x", "--bogus"),
            ("--help", "Listen on sockets"),
            ("--version", "prebind "),
        ] {
            let said = read(words).unwrap_err();
            assert!(said.contains(message), "{words}: {said}");
        }
    }
}
