//! What is right in a plan but known to surprise, by the table of servers: one that drains on another signal, says READY=1
//! too early or cannot take a socket; a wrapper that loses it. Said at the start and by `--check`.

use super::servers::{Drain, SERVERS, Server, Trap, WRAPPERS, When, Wrapper};
use super::{AckMode, Command, ListenEnv, Piece, Plan, ServiceSpec, Signal, SocketId, Template};
use std::path::Path;

/// One line for each, about each service.
pub fn remarks(plan: &Plan) -> Vec<String> {
    let blocking = |id: &SocketId| plan.sockets.get(usize::from(id.0)).is_some_and(|socket| !socket.options.nonblock);
    plan.services.iter().flat_map(|service| about(service, service.sockets.iter().any(blocking))).collect()
}

/// `blocking`: a socket of it is.
fn about(service: &ServiceSpec, blocking: bool) -> Vec<String> {
    let words = words(service);
    let mut found = Vec::new();
    let mut rest = &words[..];
    while let Some((name, wrapper, after)) = wrapped(rest) {
        let said = wrapper.trap.as_ref().filter(|trap| holds(trap, service, blocking, &words));
        found.extend(said.map(|trap| format!("{name} {}", trap.say)));
        rest = after;
    }
    let program = rest.first().map_or("", |word| base(word));
    if let Some(server) = SERVERS.iter().find(|server| server.programs.contains(&program)) {
        found.extend(drains(server, service.stop_signal).map(|say| format!("{program}: {say}")));
        let traps = server.traps.iter().filter(|trap| holds(trap, service, blocking, &words));
        found.extend(traps.map(|trap| format!("{program}: {}", trap.say)));
    }
    found
}

/// What the stop signal does to its requests, where it does not let it finish them.
fn drains(server: &Server, given: Signal) -> Option<String> {
    match server.drains {
        Drain::On(signal) if given == signal => None,
        Drain::On(signal) if given == Signal::TERM => {
            Some(format!("TERM cuts connections; use --stop-signal {signal}"))
        }
        Drain::On(signal) => Some(format!("{given} is not what drains it; use --stop-signal {signal}")),
        Drain::Never => Some("no signal drains it: what is in flight when it is told to stop is lost".into()),
        Drain::AsCoded(_) | Drain::Unused => None,
    }
}

fn holds(trap: &Trap, service: &ServiceSpec, blocking: bool, words: &[String]) -> bool {
    let has = |part: &str| words.iter().any(|word| word.contains(part));
    let (sockets, full) = (!service.sockets.is_empty(), service.listen_env == ListenEnv::Full);
    match trap.when {
        When::Told => false,
        When::Sockets => sockets,
        When::Blocking => blocking,
        When::Trusted => !matches!(service.ack, AckMode::After(_)) && service.min_ready_ns == 0,
        When::CopiesLack(part) => service.number.get() > 1 && !has(part),
        When::TermLacks(part) => service.stop_signal == Signal::TERM && !has(part),
        When::FullWith(part) => full && has(part),
        When::NoPid => sockets && !full,
        When::WrongPid => sockets && full,
    }
}

/// The wrapper that these words begin with, its name, and the words of what it starts.
fn wrapped(words: &[String]) -> Option<(&'static str, &'static Wrapper, &[String])> {
    let runs = |name: &str| {
        let wanted = name.split(' ');
        let count = wanted.clone().count();
        let given = words.iter().enumerate().map(|(n, word)| if n == 0 { unversioned(base(word)) } else { word });
        (words.len() > count && wanted.eq(given.take(count))).then_some(count)
    };
    let named = WRAPPERS.iter().flat_map(|one| one.programs.iter().map(move |name| (*name, one)));
    let (name, wrapper, count) = named.filter_map(|(name, one)| Some((name, one, runs(name)?))).next()?;
    // Behind its options, the values of nice and the assignments of env.
    let own = |word: &String| word.starts_with('-') || word.contains('=') || word.parse::<i32>().is_ok();
    let start = words[count..].iter().take_while(|word| own(word)).count();
    Some((name, wrapper, &words[count + start..]))
}

/// The literal text of each word; a script of a shell is words, too.
fn words(service: &ServiceSpec) -> Vec<String> {
    let words: &[Template] = match &service.command {
        Command::Program(words) => words,
        Command::Execs(execs) => execs.last().map_or(&[], |exec| &exec.words),
        Command::Demo => &[],
    };
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    let words = words.iter().map(|word| word.0.iter().map(text).collect::<String>());
    words.flat_map(|word| word.split_whitespace().map(String::from).collect::<Vec<_>>()).collect()
}

fn base(word: &str) -> &str {
    let name = Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word);
    // php-fpm8.2 is php-fpm.
    if name.starts_with("php-fpm") { "php-fpm" } else { name }
}

/// python3.11 is python.
fn unversioned(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Address, Number, Origin, SocketKind, SocketOptions, SocketSpec};

    fn said(words: &str, set: fn(&mut ServiceSpec)) -> Vec<String> {
        let argv = words.split(' ').map(|word| Template::parse(word.as_ref()).expect("a word")).collect();
        let mut service = ServiceSpec {
            command: Command::Program(argv),
            sockets: vec![SocketId(0)],
            listen_env: ListenEnv::Full,
            ..ServiceSpec::default()
        };
        set(&mut service);
        remarks(&Plan { services: vec![service], ..Plan::default() })
    }

    /// The parts that the remarks must hold, in their order.
    #[track_caller]
    fn says(words: &str, set: fn(&mut ServiceSpec), parts: &[&str]) {
        let said = said(words, set);
        let right = said.len() == parts.len() && said.iter().zip(parts).all(|(line, part)| line.contains(part));
        assert!(right, "{words}: {said:?}, not {parts:?}");
    }

    const AS_IS: fn(&mut ServiceSpec) = |_| {};
    const NO_PID: fn(&mut ServiceSpec) = |service| service.listen_env = ListenEnv::NoPid;

    #[test]
    fn what_drains_is_said_only_where_something_else_is_given() {
        for (words, signal) in [
            ("nginx", Signal::QUIT),
            ("unicorn config.ru", Signal::QUIT),
            ("/usr/sbin/php-fpm8.2 -F", Signal::QUIT),
            ("lighttpd -D", Signal::INT),
            ("haproxy -Ws", Signal::USR1),
        ] {
            let program = base(words.split(' ').next().unwrap());
            assert_eq!(said(words, AS_IS), [format!("{program}: TERM cuts connections; use --stop-signal {signal}")]);
        }
        says("nginx", |service| service.stop_signal = Signal::QUIT, &[]); // what it is given is not in this plan
        says("haproxy", |service| service.stop_signal = Signal::USR1, &[]);
        says("uvicorn app:app", AS_IS, &[]);
        says("uvicorn app:app", |service| service.stop_signal = Signal::USR1, &["uvicorn: USR1 is not what drains it"]);
        says("chaussette --fd 3", AS_IS, &["chaussette: no signal drains it"]);
        says("daphne --fd 3", AS_IS, &["daphne: no signal"]);
    }

    #[test]
    fn early_readiness_is_said_where_it_is_believed() {
        for words in ["gunicorn app:app", "/srv/venv/bin/gunicorn app:app", "python3 -m gunicorn app:app"] {
            says(words, AS_IS, &["gunicorn: says READY=1 before"]);
            says(words, |service| service.min_ready_ns = 1, &[]);
            says(words, |service| service.ack = AckMode::After(1), &[]);
        }
    }

    #[test]
    fn traps_of_python_servers() {
        let quiet: fn(&mut ServiceSpec) = |service| service.min_ready_ns = 1;
        says("gunicorn --bind fd://3 app:app", quiet, &["--listen-env no-pid"]);
        says("gunicorn --bind fd://3 app", |s| (s.min_ready_ns, s.listen_env) = (1, ListenEnv::NoPid), &[]);
        let two: fn(&mut ServiceSpec) = |s| (s.min_ready_ns, s.number) = (1, Number::Fixed(2));
        says("gunicorn app:app", two, &["use --no-control-socket"]);
        says("gunicorn --no-control-socket app:app", two, &[]);
        says("uwsgi --http-socket fd://3", quiet, &["takes TERM for a reload", "a second time"]);
        says("uwsgi --master", AS_IS, &["READY=1", "gracefully_kill_them_all"]);
        says("uwsgi --hook-master-start unix_signal:15", quiet, &[]);
        for cannot in ["waitress-serve app:app", "granian app:app", "/usr/sbin/apache2 -DFOREGROUND"] {
            assert_eq!(said(cannot, AS_IS).len(), 1, "{cannot}");
            says(cannot, |service| service.sockets.clear(), &[]);
        }
    }

    #[test]
    fn servers_that_look_for_their_pid() {
        says("puma", AS_IS, &[]);
        says("puma", NO_PID, &["puma: looks for its own LISTEN_PID"]);
        says("lighttpd", |s| (s.stop_signal, s.listen_env) = (Signal::INT, ListenEnv::NoPid), &["LISTEN_PID"]);
        says("unicorn", |s| (s.stop_signal, s.listen_env) = (Signal::QUIT, ListenEnv::NoPid), &["LISTEN_PID"]);
    }

    #[test]
    fn a_blocking_socket_of_who_wants_another() {
        let said = |command: &str, nonblock| {
            let socket = SocketSpec {
                name: "web".into(),
                named: true,
                kind: SocketKind::Stream,
                address: Address::Fd(3),
                options: SocketOptions { nonblock, ..SocketOptions::default() },
                origin: Origin::Argument(0),
                retired: false,
                since: 0,
            };
            let service = ServiceSpec {
                command: Command::Program(vec![Template::parse(command.as_ref()).expect("a word")]),
                sockets: vec![SocketId(0)],
                stop_signal: Signal::QUIT,
                ..ServiceSpec::default()
            };
            remarks(&Plan { sockets: vec![socket], services: vec![service], ..Plan::default() })
        };
        assert!(matches!(&said("nginx", false)[..], [one] if one.contains("option n (-b web=8080,n)")));
        assert_eq!((said("nginx", true), said("node server.js", false)), (vec![], vec![]));
    }

    #[test]
    fn wrappers_and_what_they_wrap() {
        for npm in ["npm start", "/usr/bin/npm run serve"] {
            assert_eq!(said(npm, AS_IS), ["npm closes descriptor 3: run node directly"]);
            says(npm, |service| service.sockets.clear(), &[]);
        }
        says("watchfiles app.main", AS_IS, &["watchfiles closes the descriptors"]);
        says("tini -- nginx", AS_IS, &["tini is not the process", "nginx: TERM cuts"]);
        says("tini -- nginx", NO_PID, &["nginx: TERM cuts"]);
        says("uv run --frozen chaussette", AS_IS, &["uv run is not", "chaussette: no signal"]);
        says("sh -c exec\u{20}nginx", AS_IS, &["nginx: TERM"]);
        says("nice -n 5 env A=b python3.11 -m daphne", AS_IS, &["daphne: no signal"]);
        says("bundle exec unicorn", AS_IS, &["unicorn: TERM cuts"]);
    }

    #[test]
    fn nothing_is_said_of_others() {
        for quiet in ["./app --log gunicorn", "node server.js", "uv pip nginx", "tini", "./run nginx", ""] {
            assert_eq!(said(quiet, AS_IS), Vec::<String>::new(), "{quiet}");
        }
    }
}
