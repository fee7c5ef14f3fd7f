//! What is known about servers that were not written for prebind: how each takes its socket, what lets it finish its
//! requests, how it trips. The one place for it: remarks, the manual's chapter and the README's table are made of it.
//! A server is known by the base name of what is run.

use super::Signal;

/// One server.
pub struct Server {
    /// What people call it.
    pub name: &'static str,
    /// The base names of its programs, without a version at the end; empty: a library, known by no name.
    pub programs: &'static [&'static str],
    /// What follows its socket on the command line; empty: it cannot take a socket.
    pub command: &'static str,
    /// How it ends with its requests answered.
    pub drains: Drain,
    /// The version that this was seen with; `read` where it was only read.
    pub tried: &'static str,
    /// What surprises.
    pub traps: &'static [Trap],
}

impl Server {
    /// What follows `prebind`: its socket, with the option that it wants, and its command.
    pub fn words(&self) -> String {
        let nonblock = self.traps.iter().any(|trap| trap.when == When::Blocking);
        format!("-b web=8080{} {}", if nonblock { ",n" } else { "" }, self.command)
    }
}

/// How a server ends with its requests answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// On that signal, and on no other that is known.
    On(Signal),
    /// As the application does it.
    AsCoded(&'static str),
    /// On no signal: what is in flight is lost.
    Never,
    /// It takes no socket: of no matter.
    Unused,
}

/// A surprise.
pub struct Trap {
    /// In which plans it is said.
    pub when: When,
    /// Behind the name.
    pub say: &'static str,
}

/// In which plans something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In none: only in the table.
    Told,
    /// Where it is given sockets.
    Sockets,
    /// Where a socket of it is not given O_NONBLOCK.
    Blocking,
    /// Where its READY=1 is believed at once.
    Trusted,
    /// Where there is more than one copy and no word of the command holds this.
    CopiesLack(&'static str),
    /// Where TERM stops it and no word holds this.
    TermLacks(&'static str),
    /// Where a word holds this and it finds the right LISTEN_PID as well.
    FullWith(&'static str),
    /// Where it is given sockets and no LISTEN_PID of its own.
    NoPid,
    /// Where it is given sockets and the LISTEN_PID of its first process.
    WrongPid,
}

/// What starts a server and stays in its place, or between.
pub struct Wrapper {
    /// The base names, each the last words of one.
    pub programs: &'static [&'static str],
    /// What becomes of the sockets behind it.
    pub trap: Option<Trap>,
}

const EARLY: Trap = Trap {
    when: When::Trusted,
    say: "says READY=1 before the application is loaded: an upgrade would trust it too early; use --min-ready with more than loading takes",
};
const CANNOT: Trap = Trap { when: When::Sockets, say: "cannot take a socket that is already open" };
const NEEDS_PID: Trap = Trap {
    when: When::NoPid,
    say: "looks for its own LISTEN_PID; name no socket in COMMAND, or use --listen-env full",
};

const UNREAD: Trap = Trap {
    when: When::Told,
    say: "closes what it has accepted and not read from yet when it is told to stop: under load a client may have to try again",
};

/// Every server.
pub const SERVERS: &[Server] = &[
    Server {
        name: "gunicorn",
        programs: &["gunicorn"],
        command: "--min-ready 4 -- gunicorn --no-control-socket --bind fd://{SOCKET:web} app:app",
        drains: Drain::On(Signal::TERM),
        tried: "27.0.1",
        traps: &[
            EARLY,
            Trap {
                when: When::FullWith("fd://"),
                say: "--bind fd:// beside LISTEN_PID fails (EBADF); use --listen-env no-pid, or no --bind",
            },
            Trap {
                when: When::CopiesLack("--no-control-socket"),
                say: "all copies would share one control socket; use --no-control-socket",
            },
        ],
    },
    Server {
        name: "uvicorn",
        programs: &["uvicorn"],
        command: "-- uvicorn --fd {SOCKET:web} app:app",
        drains: Drain::On(Signal::TERM),
        tried: "0.54.0",
        traps: &[UNREAD],
    },
    Server {
        name: "Hypercorn",
        programs: &["hypercorn"],
        command: "-- hypercorn --bind fd://{SOCKET:web} app:app",
        drains: Drain::On(Signal::TERM),
        tried: "0.18.0",
        traps: &[],
    },
    Server {
        name: "Daphne",
        programs: &["daphne"],
        command: "-- daphne --fd {SOCKET:web} app:app",
        drains: Drain::Never,
        tried: "4.2",
        traps: &[Trap { when: When::Told, say: "does not answer on a unix socket" }],
    },
    Server {
        name: "Chaussette",
        programs: &["chaussette"],
        command: "-- chaussette --fd {SOCKET:web} app.app",
        drains: Drain::Never,
        tried: "1.3.0",
        traps: &[Trap { when: When::Told, say: "--backend waitress works with waitress 0.9.0 only" }],
    },
    Server {
        name: "Granian",
        programs: &["granian"],
        command: "",
        drains: Drain::Unused,
        tried: "2.8",
        traps: &[CANNOT],
    },
    Server {
        name: "Waitress",
        programs: &["waitress-serve"],
        command: "",
        drains: Drain::Unused,
        tried: "3",
        traps: &[CANNOT],
    },
    Server {
        name: "uWSGI",
        programs: &["uwsgi"],
        command: "--min-ready 4 -- uwsgi --http-socket fd://{SOCKET:web} --master --need-app --hook-master-start 'unix_signal:15 gracefully_kill_them_all' --module app",
        drains: Drain::On(Signal::TERM),
        tried: "2.0.21",
        traps: &[
            EARLY,
            Trap {
                when: When::TermLacks("unix_signal:15"),
                say: "takes TERM for a reload and does not stop; use --hook-master-start 'unix_signal:15 gracefully_kill_them_all'",
            },
            Trap {
                when: When::FullWith("fd://"),
                say: "takes descriptor 3 a second time, in its own protocol, beside LISTEN_PID; use --listen-env no-pid",
            },
            Trap { when: When::Told, say: "Debian's wants --plugin python3" },
        ],
    },
    Server {
        name: "Puma",
        programs: &["puma"],
        command: "-- puma --bind-to-activated-sockets only config.ru",
        drains: Drain::On(Signal::TERM),
        tried: "5.6.5",
        traps: &[NEEDS_PID],
    },
    Server {
        name: "Unicorn",
        programs: &["unicorn", "unicorn_rails"],
        command: "--stop-signal QUIT -- unicorn config.ru",
        drains: Drain::On(Signal::QUIT),
        tried: "6.0.0",
        traps: &[NEEDS_PID],
    },
    Server {
        name: "nginx",
        programs: &["nginx"],
        command: "--stop-signal QUIT --env 'NGINX={SOCKET:web};' -- nginx -g 'daemon off; pid /run/nginx.{SLOT};'",
        drains: Drain::On(Signal::QUIT),
        tried: "1.22.1",
        traps: &[
            Trap {
                when: When::Blocking,
                say: "wants the socket's option n (-b web=8080,n): it waits in accept() where another copy was quicker, and all its clients with it",
            },
            Trap { when: When::Told, say: "its listen is the same address, as in listen 0.0.0.0:8080" },
        ],
    },
    Server {
        name: "HAProxy",
        programs: &["haproxy"],
        command: "--stop-signal USR1 --env 'FD={SOCKET:web}' -- haproxy -Ws -f haproxy.cfg",
        drains: Drain::On(Signal::USR1),
        tried: "2.6.12",
        traps: &[Trap { when: When::Told, say: "bind fd@${FD}" }],
    },
    Server {
        name: "lighttpd",
        programs: &["lighttpd"],
        command: "--stop-signal INT -- lighttpd -D -f lighttpd.conf",
        drains: Drain::On(Signal::INT),
        tried: "1.4.69",
        traps: &[
            NEEDS_PID,
            Trap { when: When::Told, say: "server.systemd-socket-activation = \"enable\", and the same server.port" },
        ],
    },
    Server {
        name: "PHP-FPM",
        programs: &["php-fpm"],
        command: "--stop-signal QUIT --env 'FPM_SOCKETS={ADDR:web}={SOCKET:web}' -- php-fpm8.2 -F",
        drains: Drain::On(Signal::QUIT),
        tried: "8.2",
        traps: &[Trap { when: When::Told, say: "process_control_timeout = 20s, and listen is the same address" }],
    },
    Server {
        name: "Apache httpd of Debian",
        programs: &["apache2", "apache2ctl", "httpd"],
        command: "",
        drains: Drain::Unused,
        tried: "2.4",
        traps: &[Trap {
            when: When::Sockets,
            say: "is built without support for LISTEN_FDS on Debian and binds by itself (AH00072)",
        }],
    },
    Server {
        name: "Caddy",
        programs: &["caddy"],
        command: "--env 'FD={SOCKET:web}' -- caddy run",
        drains: Drain::AsCoded("not tried"),
        tried: "read",
        traps: &[Trap { when: When::Told, say: "bind fd/{env.FD}" }],
    },
    Server {
        name: "Node.js",
        programs: &["node", "nodejs"],
        command: "-- node server.js",
        drains: Drain::AsCoded("where a handler of TERM calls server.close()"),
        tried: "20.20",
        traps: &[Trap { when: When::Told, say: "server.listen({fd: 3})" }],
    },
    Server {
        name: "Go: net.FileListener",
        programs: &[],
        command: "-- ./app",
        drains: Drain::AsCoded("where TERM calls Shutdown()"),
        tried: "read",
        traps: &[],
    },
    Server {
        name: "Rust: listenfd with tokio",
        programs: &[],
        command: "-- ./app",
        drains: Drain::AsCoded("as with_graceful_shutdown of axum"),
        tried: "axum 0.8",
        traps: &[
            UNREAD,
            Trap { when: When::Blocking, say: "tokio wants the socket's option n, or set_nonblocking(true)" },
        ],
    },
];

const CLOSES: &str = "closes the descriptors of what it starts: run the server itself";
const OTHER_PID: &str =
    "is not the process that LISTEN_PID is to name; use --listen-env no-pid, a placeholder, or the server itself";

/// Every wrapper. Those without a trap keep both the descriptors and the process.
pub const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        programs: &["npm", "npx", "yarn", "pnpm"],
        trap: Some(Trap { when: When::Sockets, say: "closes descriptor 3: run node directly" }),
    },
    Wrapper { programs: &["watchfiles", "nodemon"], trap: Some(Trap { when: When::Sockets, say: CLOSES }) },
    Wrapper {
        programs: &["tini", "dumb-init", "uv run", "cargo-watch"],
        trap: Some(Trap { when: When::WrongPid, say: OTHER_PID }),
    },
    Wrapper {
        programs: &["env", "exec", "nice", "ruby", "bundle exec", "python", "sh", "bash", "poetry run"],
        trap: None,
    },
];
