//! circusctl: Circus's words with Circus's meanings, its way to print and its exit codes; asked of a running prebind.
//! Whatever Circus answers at once, prebind answers when it is done.

mod line;
mod print;

use super::circus::{chosen, count, options_of, pids, rows, status};
use super::table::{list, plain, word};
use crate::cli::matched;
use crate::control::client::{Answered, Client, ClientError, find};
use crate::exit::Exit;
use crate::front::pattern::fits;
use crate::plan::Signal;
use clap::ArgMatches;
use line::{command_line, elsewhere};
pub(in crate::cli) use line::{missing, terms};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Circus's own; what is given with the program's name means no other prebind.
const ENDPOINT: &str = "tcp://127.0.0.1:5555";
/// How often `--waiting` looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why there is no good answer.
#[derive(Debug, PartialEq)]
enum Trouble {
    /// The command line, or nobody is there: exit code 1.
    Call(String),
    /// prebind says no: exit code 3.
    Refused(String),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        Trouble::Call(error.to_string())
    }
}

/// Runs circusctl; `args` starts with the program's name.
pub(super) fn main(args: Vec<OsString>) -> Exit {
    let matches = match matched(command_line(), args, Exit::Failed) {
        Ok(matches) => matches,
        Err(exit) => return exit,
    };
    let answer = converse(&matches);
    print::answer(&answer, matches.get_flag("json") || matches.get_flag("prettify"), matches.get_flag("prettify"));
    match answer {
        Ok(_) => Exit::Done,
        Err(Trouble::Call(_)) => Exit::Failed,
        Err(Trouble::Refused(_)) => Exit::Refused,
    }
}

fn converse(matches: &ArgMatches) -> Result<Value, Trouble> {
    let Some((command, options)) = matches.subcommand() else {
        return Err(Trouble::Call(
            "a command is missing, and there is no shell here (--help lists the commands)".into(),
        ));
    };
    if let Some(instead) = elsewhere(command) {
        return Err(Trouble::Call(format!("{command} is not had here: {instead}")));
    }
    if matches.contains_id("ssh") || matches.contains_id("ssh_keyfile") {
        return Err(Trouble::Call("--ssh is not had here: ssh HOST circusctl ...".into()));
    }
    let path = matches.get_one::<PathBuf>("socket-path").cloned();
    let name = matches.get_one::<String>("command-name").map(String::as_str);
    let given = matches.get_one::<String>("endpoint").cloned();
    let endpoint = given.or_else(|| std::env::var("CIRCUSCTL_ENDPOINT").ok());
    let path = match path {
        None if name.is_none() => place(endpoint.as_deref()).map_err(Trouble::Call)?,
        path => path,
    };
    let path = find(path, name, &|name| std::env::var_os(name))?;
    let patience = matches.get_one::<f64>("timeout").map(|seconds| Duration::from_secs_f64(*seconds));
    // These end when what they ask for has happened.
    let long = matches!(command, "restart" | "reload" | "reloadconfig" | "quit");
    let patience = if long { patience } else { patience.or(Some(line::PATIENCE)) };
    act(&mut Client::connect(&path, patience)?, command, options, patience)
}

/// What an endpoint means: nothing where it is Circus's own, a path where it is one.
fn place(endpoint: Option<&str>) -> Result<Option<PathBuf>, String> {
    match endpoint {
        None | Some("" | ENDPOINT) => Ok(None),
        Some(endpoint) => match endpoint.strip_prefix("ipc://") {
            Some(path) => Ok(Some(path.into())),
            None => Err(format!(
                "the endpoint {} is nobody's: prebind is asked on its control socket (-d PATH, -c NAME, or --endpoint ipc://PATH)",
                plain(endpoint)
            )),
        },
    }
}

fn act(client: &mut Client, command: &str, options: &ArgMatches, patience: Option<Duration>) -> Result<Value, Trouble> {
    let name = options.try_get_one::<String>("name").ok().flatten().map(String::as_str);
    let waiting = options.try_get_one::<bool>("waiting").ok().flatten().is_some_and(|waiting| *waiting);
    if command == "quit" {
        return done(client, "stop", json!({}));
    }
    if command == "reloadconfig" {
        // prebind reads its plan when its program is replaced, be it by itself.
        done(client, "reexec", json!({}))?;
        return done(client, "upgrade", json!({}));
    }
    let status = status(client)?;
    let meant = services(&status, name, options)?;
    match command {
        "incr" | "decr" => {
            let by = i64::from(*options.get_one::<u32>("step").expect("it has a default"));
            let by = if command == "incr" { by } else { -by };
            let [service] = meant[..] else { return Err(several()) };
            let number = (count(service) + by).max(0);
            scale(client, service, number)?;
            settle(client, &meant, waiting, patience)?;
            Ok(json!({ "numprocesses": number }))
        }
        "start" => {
            meant.iter().try_for_each(|service| start(client, service))?;
            settle(client, &meant, waiting, patience)
        }
        "stop" => {
            meant.iter().try_for_each(|service| scale(client, service, 0))?;
            settle(client, &meant, waiting, patience)
        }
        "restart" | "reload" => {
            let flag = |name: &str| options.try_get_one::<bool>(name).ok().flatten().is_some_and(|set| *set);
            let word = if flag("sequential") || flag("terminate") { "restart" } else { command };
            if name.is_none() {
                return done(client, word, json!({}));
            }
            meant.iter().try_for_each(|one| done(client, word, json!({ "service": one["name"] })).map(drop))?;
            Ok(json!({}))
        }
        "signal" => signal(client, &meant, options),
        _ => told(client, command, &status, &meant, options),
    }
}

/// What only looks.
fn told(
    client: &mut Client,
    command: &str,
    status: &Value,
    meant: &[&Value],
    options: &ArgMatches,
) -> Result<Value, Trouble> {
    let named = options.try_contains_id("name").unwrap_or(false) && options.contains_id("name");
    let each = |of: &dyn Fn(&Value) -> Value| -> Map<String, Value> {
        meant.iter().map(|one| (word(&one["name"]), of(one))).collect()
    };
    Ok(match command {
        "list" if named => json!({ "pids": meant.iter().flat_map(|one| pids(one)).collect::<Vec<i64>>() }),
        "list" => json!({ "watchers": meant.iter().map(|one| word(&one["name"])).collect::<Vec<String>>() }),
        "numprocesses" => json!({ "numprocesses": meant.iter().map(|one| count(one)).sum::<i64>() }),
        "numwatchers" => json!({ "numwatchers": meant.len() }),
        "listsockets" => {
            json!({ "sockets": list(&status["sockets"]).iter().enumerate().map(socket).collect::<Vec<_>>() })
        }
        "status" if named => json!({ "status": meant.first().map(|one| state(status, one)) }),
        "status" => json!({ "statuses": each(&|one| state(status, one).into()) }),
        "stats" => {
            let rows = |one: &Value| rows(one, Instant::now(), None);
            let costs =
                |one: &Value| rows(one).iter().map(|row| (row.pid.to_string(), row.json())).collect::<Map<_, _>>();
            json!({ "infos": each(&|one| costs(one).into()) })
        }
        _ => {
            let [service] = meant[..] else { return Err(several()) };
            let all = options_data(client, service)?["options"].take();
            match options.try_get_many::<String>("keys").ok().flatten() {
                Some(keys) => {
                    json!({ "options": keys.map(|key| picked(&all, key)).collect::<Result<Map<_, _>, _>>()? })
                }
                None => json!({ "options": all }),
            }
        }
    })
}

fn picked(all: &Value, key: &str) -> Result<(String, Value), Trouble> {
    let missing = || Trouble::Refused(format!("there is no option {} (options NAME lists them)", plain(key)));
    all.get(key).map(|value| (key.to_string(), value.clone())).ok_or_else(missing)
}

fn several() -> Trouble {
    Trouble::Call("which watcher? There are several".into())
}

/// The services that a name means: as a pattern where the command takes one; all without.
fn services<'a>(status: &'a Value, name: Option<&str>, options: &ArgMatches) -> Result<Vec<&'a Value>, Trouble> {
    let how = options.try_get_one::<String>("match").ok().flatten().map(String::as_str);
    let Some(pattern) = name.filter(|_| how == Some("glob")).map(str::to_lowercase) else {
        return chosen(status, name).map_err(Trouble::Refused);
    };
    let all = list(&status["services"]).iter();
    let meant: Vec<&Value> = all.filter(|one| fits(&pattern, &word(&one["name"]).to_lowercase())).collect();
    // Its words for a name that nobody has.
    if meant.is_empty() { chosen(status, name).map_err(Trouble::Refused) } else { Ok(meant) }
}

/// active, starting, stopping, stopped.
fn state(status: &Value, service: &Value) -> &'static str {
    let alive = !pids(service).is_empty();
    match (service["state"].as_str(), count(service)) {
        _ if status["state"] == "stopping" => "stopping",
        (Some("active"), 0) if alive => "stopping",
        (Some("active"), 0) => "stopped",
        (Some("active"), _) if service["ready"] == 0 => "starting",
        (Some("active"), _) => "active",
        _ if alive => "active",
        _ => "stopped",
    }
}

/// With the number that a worker finds it at, where it gets all of them.
fn socket((n, socket): (usize, &Value)) -> Value {
    json!({ "fd": n + 3, "name": socket["name"], "kind": socket["kind"], "address": socket["address"] })
}

/// One request whose answer is no more than that it is done.
fn done(client: &mut Client, command: &str, options: Value) -> Result<Value, Trouble> {
    client.ask(&json!({ "command": command, "id": 1, "options": options }))?;
    good(client.reply()?).map(|_| json!({}))
}

fn good(reply: Answered) -> Result<Answered, Trouble> {
    if reply.ok { Ok(reply) } else { Err(Trouble::Refused(plain(&reply.message))) }
}

fn options_data(client: &mut Client, service: &Value) -> Result<Value, Trouble> {
    good(options_of(client, service)?).map(|reply| reply.data.unwrap_or_default())
}

fn scale(client: &mut Client, service: &Value, number: i64) -> Result<(), Trouble> {
    done(client, "scale", json!({ "service": service["name"], "number": number })).map(drop)
}

/// As many as the file says; one whose workers are all over begins anew. Nothing happens to one that runs.
fn start(client: &mut Client, service: &Value) -> Result<(), Trouble> {
    let over = matches!(service["state"].as_str(), Some("over" | "failed"));
    if count(service) > 0 && !over {
        return Ok(());
    }
    let number = options_data(client, service)?["start_number"].as_i64().unwrap_or(1);
    if count(service) > 0 {
        scale(client, service, 0)?;
    }
    scale(client, service, number)
}

/// `--waiting`: until as many workers are there, and ready, as asked for.
fn settle(client: &mut Client, meant: &[&Value], waiting: bool, patience: Option<Duration>) -> Result<Value, Trouble> {
    let until = Instant::now() + patience.unwrap_or(line::PATIENCE);
    let is_settled = |one: &Value| pids(one).len() as i64 == count(one) && one["ready"].as_i64() == Some(count(one));
    if !waiting {
        return Ok(json!({}));
    }
    loop {
        let now = status(client)?;
        let mut those = list(&now["services"]).iter().filter(|one| meant.iter().any(|old| old["name"] == one["name"]));
        if those.all(is_settled) {
            return Ok(json!({}));
        }
        if Instant::now() > until {
            return Err(Trouble::Call("it is begun, and not done in time (--timeout SECONDS)".into()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// To all workers of a watcher, or to one.
fn signal(client: &mut Client, meant: &[&Value], options: &ArgMatches) -> Result<Value, Trouble> {
    let signal = options.get_one::<Signal>("signal").expect("it is required");
    if options.get_flag("children") || options.get_flag("recursive") {
        let instead = "each worker leads a process group: kill -s SIG -- -PID reaches all of it";
        return Err(Trouble::Call(format!("--children and --recursive are not had here: {instead}")));
    }
    let [service] = meant[..] else { return Err(several()) };
    let Some(pid) = options.get_one::<i32>("pid") else {
        return done(client, "signal", json!({ "service": service["name"], "signal": signal.to_string() }));
    };
    if !pids(service).contains(&i64::from(*pid)) {
        return Err(Trouble::Refused(format!("{pid} is no worker of {}", word(&service["name"]))));
    }
    let known = nix::sys::signal::Signal::try_from(signal.0);
    let sent = known.and_then(|signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal));
    sent.map_err(|why| Trouble::Refused(format!("{signal} to {pid}: {}", why.desc())))?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_path_or_nobody() {
        assert_eq!(place(None), Ok(None));
        assert_eq!(place(Some(ENDPOINT)), Ok(None));
        assert_eq!(place(Some("ipc:///run/x.sock")), Ok(Some("/run/x.sock".into())));
        let why = place(Some("tcp://127.0.0.1:6000")).expect_err("somebody else's");
        assert!(why.contains("tcp://127.0.0.1:6000") && why.contains("-d PATH"), "{why}");
    }

    #[test]
    fn states_are_circuss() {
        let running = json!({ "state": "running" });
        for (state_word, number, ready, pid, said) in [
            ("active", 2, 1, Some(5), "active"),
            ("active", 2, 0, Some(5), "starting"),
            ("active", 0, 0, Some(5), "stopping"),
            ("active", 0, 0, None, "stopped"),
            ("listening", 2, 0, None, "stopped"),
            ("over", 1, 0, None, "stopped"),
            ("failed", 1, 0, None, "stopped"),
        ] {
            let service = json!({ "state": state_word, "number": number, "ready": ready, "workers": [{ "pid": pid }] });
            assert_eq!(state(&running, &service), said, "{service}");
            assert_eq!(state(&json!({ "state": "stopping" }), &service), "stopping");
        }
    }

    #[test]
    fn names_are_patterns_where_circus_takes_them() {
        let status = json!({ "services": [{ "name": "Web" }, { "name": "web2" }, { "name": "db" }] });
        let meant = |words: &str| {
            let matches = command_line().try_get_matches_from(words.split(' ')).expect(words);
            let (_, options) = matches.subcommand().expect("a command");
            let name = options.get_one::<String>("name").map(String::as_str);
            services(&status, name, options).map(|all| all.len())
        };
        for (words, count) in [
            ("circusctl stop", 3),
            ("circusctl stop WEB*", 2),
            ("circusctl restart web", 1),
            ("circusctl list web", 1),
            ("circusctl start --match simple db", 1),
        ] {
            assert_eq!(meant(words), Ok(count), "{words}");
        }
        for words in ["circusctl list web*", "circusctl start x*", "circusctl stop --match simple web*"] {
            assert!(matches!(meant(words), Err(Trouble::Refused(_))), "{words}");
        }
    }
}
