//! prebindctl: receives its arguments, asks a running prebind one thing, prints the answer and hands on the exit code.
//! Help, man page and completions are printed from the one clap table here.

mod circus;
pub(super) mod circusctl;
mod line;
mod progress;
mod table;

use crate::control::client::{Answered, Client, ClientError, find};
use crate::exit::Exit;
use crate::plan::Signal;
use clap::ArgMatches;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a prebind that is alive may take to answer what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs prebindctl, or circusctl; `args` starts with the program's name, which says what words mean.
pub fn main(args: Vec<OsString>) -> Exit {
    if args.first().map(Path::new).and_then(Path::file_name).is_some_and(|name| name == "circusctl") {
        return circusctl::main(args);
    }
    let matches = match super::matched(line::command_line(), args, Exit::Usage) {
        Ok(matches) => matches,
        Err(exit) => return exit,
    };
    let mut out = io::stdout().lock();
    let ended = match matches.get_one::<String>("generate") {
        Some(what) => line::generated(what).and_then(|text| out.write_all(&text)).map(|()| Exit::Done),
        None => ask(&matches, &mut out),
    };
    match ended.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => complain(&format!("cannot write to the standard output: {error}"), Exit::System),
    }
}

fn ask(matches: &ArgMatches, out: &mut impl Write) -> io::Result<Exit> {
    let Some((command, options)) = matches.subcommand() else {
        return Ok(complain(
            "a command is missing: status, ready, live, scale, restart, upgrade, reload, promote, rollback, reexec, signal, stop, events, \
             or one of Circus's: incr, decr, numprocesses, list, listsockets, numwatchers, options, stats",
            Exit::Usage,
        ));
    };
    match converse(command, options, out) {
        Ok(exit) => exit,
        // Probes know yes and no.
        Err(error) if matches!(command, "ready" | "live") => Ok(complain(&error.to_string(), Exit::Failed)),
        Err(error @ ClientError::Several(_)) => Ok(complain(&error.to_string(), Exit::Usage)),
        Err(error) => Ok(complain(&error.to_string(), Exit::System)),
    }
}

fn converse(command: &str, options: &ArgMatches, out: &mut impl Write) -> Result<io::Result<Exit>, ClientError> {
    let path = options.get_one::<PathBuf>("socket-path").cloned();
    let name = options.get_one::<String>("command-name").map(String::as_str);
    let path = find(path, name, &|name| std::env::var_os(name))?;
    // These end when what they ask for has happened.
    let patience = if matches!(command, "restart" | "upgrade" | "reload" | "reexec" | "stop" | "events") {
        None
    } else {
        Some(PATIENCE)
    };
    let mut client = Client::connect(&path, patience)?;
    if circus::WORDS.contains(&command) {
        return circus::converse(&mut client, command, options, out);
    }
    if command == "upgrade" && !options.get_flag("json") {
        client.ask(&json!({ "command": "events", "id": progress::EVENTS }))?;
    }
    // Whoever tells the status is alive.
    client.ask(&request(if command == "live" { "status" } else { command }, options))?;
    if command == "events" {
        return events(&mut client, out);
    }
    let as_json = options.get_flag("json");
    let reply = if command == "upgrade" && !as_json { progress::follow(&mut client)? } else { client.reply()? };
    let exit = if reply.ok { Exit::Done } else { Exit::Failed };
    Ok(show(command, &reply, as_json, out).map(|()| exit))
}

fn request(command: &str, matches: &ArgMatches) -> Value {
    let mut options = Map::new();
    let has = |name: &str| matches.try_contains_id(name).unwrap_or(false);
    if has("service")
        && let Some(service) = matches.get_one::<String>("service")
    {
        options.insert("service".into(), service.as_str().into());
    }
    for name in ["number", "slot"] {
        if has(name)
            && let Some(number) = matches.get_one::<u32>(name)
        {
            options.insert(name.into(), (*number).into());
        }
    }
    for name in ["strategy", "wait"] {
        if has(name)
            && let Some(word) = matches.get_one::<String>(name)
        {
            options.insert(name.into(), word.as_str().into());
        }
    }
    if has("timeout")
        && let Some(seconds) = matches.get_one::<f64>("timeout")
    {
        options.insert("timeout".into(), (*seconds).into());
    }
    if has("no-wait") && matches.get_flag("no-wait") {
        options.insert("wait".into(), "no".into());
    }
    if has("signal")
        && let Some(signal) = matches.get_one::<Signal>("signal")
    {
        options.insert("signal".into(), signal.to_string().into());
    }
    let sequential = has("sequential") && matches.get_flag("sequential");
    json!({ "command": if sequential { "restart" } else { command }, "id": 1, "options": options })
}

fn show(command: &str, reply: &Answered, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    match &reply.data {
        Some(data) if as_json && reply.ok => writeln!(out, "{data}"),
        _ if as_json => writeln!(out, "{}", json!({ "ok": reply.ok, "message": reply.message })),
        _ if command == "live" && reply.ok => writeln!(out, "live"),
        Some(data) if command == "status" && reply.ok => out.write_all(table::status(data, width()).as_bytes()),
        // No is an answer for `ready`; for the others it is a failure.
        _ if reply.ok || command == "ready" => writeln!(out, "{}", table::plain(&reply.message)),
        _ => {
            complain(&table::plain(&reply.message), Exit::Failed);
            Ok(())
        }
    }
}

fn events(client: &mut Client, out: &mut impl Write) -> Result<io::Result<Exit>, ClientError> {
    while let Some(reply) = client.next_reply()? {
        if !reply.ok {
            return Ok(Ok(complain(&table::plain(&reply.message), Exit::Failed)));
        }
        if let Some(event) = reply.data
            && let Err(error) = writeln!(out, "{event}").and_then(|()| out.flush())
        {
            return Ok(Err(error));
        }
    }
    Ok(Ok(Exit::Done))
}

/// The table is never wider than 100 columns: a wider line is not read.
fn width() -> usize {
    let width = terminal_size::terminal_size_of(io::stdout()).map_or(80, |(width, _)| usize::from(width.0));
    width.clamp(40, 100)
}

/// One line on stderr.
fn complain(message: &str, exit: Exit) -> Exit {
    // With stderr closed the exit code still says it.
    let _ = writeln!(io::stderr(), "prebindctl: {message}");
    exit
}

#[cfg(test)]
mod tests {
    use super::line::{command_line, generated};
    use super::*;

    fn parsed(words: &str) -> Result<Value, clap::error::ErrorKind> {
        let matches = command_line().try_get_matches_from(words.split(' ')).map_err(|error| error.kind())?;
        let (command, options) = matches.subcommand().expect("a command");
        Ok(request(command, options))
    }

    #[test]
    fn the_table_is_sound() {
        command_line().debug_assert();
    }

    #[test]
    fn words_become_requests() {
        for (words, command, options) in [
            ("prebindctl status", "status", json!({})),
            ("prebindctl -d /x ready --json", "ready", json!({})),
            ("prebindctl ready -c web", "ready", json!({})),
            ("prebindctl scale 4", "scale", json!({"number": 4})),
            ("prebindctl scale web 4", "scale", json!({"service": "web", "number": 4})),
            ("prebindctl restart", "restart", json!({})),
            ("prebindctl restart web --slot 0", "restart", json!({"service": "web", "slot": 0})),
            ("prebindctl upgrade", "upgrade", json!({})),
            ("prebindctl upgrade web --no-wait", "upgrade", json!({"service": "web", "wait": "no"})),
            (
                "prebindctl upgrade --strategy fleet --timeout 2.5 --wait drained",
                "upgrade",
                json!({"strategy": "fleet", "timeout": 2.5, "wait": "drained"}),
            ),
            ("prebindctl reload web", "reload", json!({"service": "web"})),
            ("prebindctl reload web --sequential", "restart", json!({"service": "web"})),
            ("prebindctl promote", "promote", json!({})),
            ("prebindctl rollback web", "rollback", json!({"service": "web"})),
            ("prebindctl signal SIGusr1", "signal", json!({"signal": "USR1"})),
            ("prebindctl signal web 10", "signal", json!({"service": "web", "signal": "USR1"})),
            ("prebindctl stop", "stop", json!({})),
            ("prebindctl events", "events", json!({})),
        ] {
            let wanted = json!({"command": command, "id": 1, "options": options});
            assert_eq!(parsed(words).as_ref(), Ok(&wanted), "{words}");
            let line = crate::control::wire::encode(&wanted);
            crate::control::wire::parse(line.trim_end().as_bytes(), false).expect(words);
        }
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for words in [
            "prebindctl",
            "prebindctl --json",
            "prebindctl statsu",
            "prebindctl scale",
            "prebindctl scale four",
            "prebindctl signal TREM",
            "prebindctl restart --slot x",
            "prebindctl upgrade --strategy quick",
            "prebindctl upgrade --timeout 0",
            "prebindctl upgrade --wait no",
            "prebindctl upgrade --wait told --no-wait",
            "prebindctl -c a -d b status",
            "prebindctl --generate poem",
        ] {
            let exit = main(words.split(' ').map(OsString::from).collect());
            assert_eq!(exit, Exit::Usage, "{words}");
        }
    }

    /// Runs prebindctl against a socket that gives these replies; what it prints, and how it ends.
    fn played(words: &str, replies: &[Value]) -> (String, Exit) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prebind-ctl-{}-{count}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
        let text: String = replies.iter().map(crate::control::wire::encode).collect();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(text.as_bytes()).expect("write");
            let mut request = String::new();
            io::BufRead::read_line(&mut io::BufReader::new(stream), &mut request).expect("read");
            request
        });
        let mut words: Vec<&str> = words.split(' ').collect();
        let path_text = path.to_str().expect("path").to_owned();
        words.splice(0..0, ["prebindctl", "-d", &path_text]);
        let matches = command_line().try_get_matches_from(words).expect("words");
        let mut out = Vec::new();
        let exit = ask(&matches, &mut out).expect("writes");
        crate::control::wire::parse(server.join().expect("server").trim_end().as_bytes(), false).expect("a request");
        std::fs::remove_file(path).expect("remove");
        (String::from_utf8(out).expect("text"), exit)
    }

    #[test]
    fn answers_are_shown_and_decide_the_exit_code() {
        let done = json!({"ok": true, "message": "50 %\u{1b} done"});
        let no = json!({"ok": false, "message": "web: 1 of 2"});
        let status = json!({"ok": true, "message": "m", "data": {"pid": 7}});
        let event = json!({"ok": true, "message": "m", "wait": true, "data": {"event": "x"}});
        let subscribed = json!({"ok": true, "message": "subscribed", "wait": true});
        for (words, replies, printed, exit) in [
            ("status", vec![&status], "prebind ?, pid 7, ?, up -\n", Exit::Done),
            ("status --json", vec![&status], "{\"pid\":7}\n", Exit::Done),
            ("status", vec![&no], "", Exit::Failed),
            ("ready", vec![&done], "50 %  done\n", Exit::Done),
            ("ready", vec![&no], "web: 1 of 2\n", Exit::Failed),
            ("ready --json", vec![&no], "{\"message\":\"web: 1 of 2\",\"ok\":false}\n", Exit::Failed),
            ("scale 4", vec![&no], "", Exit::Failed),
            ("stop", vec![&done], "50 %  done\n", Exit::Done),
            ("stop", vec![], "", Exit::System),
            ("events", vec![&subscribed, &event, &event], "{\"event\":\"x\"}\n{\"event\":\"x\"}\n", Exit::Done),
            ("events", vec![&subscribed, &no], "", Exit::Failed),
        ] {
            let replies: Vec<Value> = replies.into_iter().cloned().collect();
            assert_eq!(played(words, &replies), (printed.into(), exit), "{words}");
        }
    }

    #[test]
    fn printed_pages_are_the_committed_ones() {
        for (what, committed) in [
            ("man", include_str!("../../man/prebindctl.1")),
            ("completions-bash", include_str!("../../man/completions/prebindctl.bash")),
            ("completions-zsh", include_str!("../../man/completions/prebindctl.zsh")),
            ("completions-fish", include_str!("../../man/completions/prebindctl.fish")),
        ] {
            let printed = String::from_utf8(generated(what).expect(what)).expect(what);
            assert!(printed == committed, "{what} is old: print it anew with prebindctl --generate {what}");
        }
    }
}
