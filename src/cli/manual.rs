//! The chapters of prebind(1) that the clap table does not hold: what an operator looks up, as plain text.

use super::servers;
use std::fmt::Write;

/// A paragraph, or a term with its explanation.
pub(super) enum Part {
    Text(&'static str),
    Term(&'static str, &'static str),
}

use Part::{Term, Text};

const CHAPTERS: &[(&str, &[Part])] = &[
    ("SOCKETS", SOCKETS),
    ("SOCKET OPTIONS", OPTIONS),
    ("INHERITED SOCKETS", INHERITED),
    ("UNITS", UNITS),
    ("CIRCUS", CIRCUS),
    ("PLACEHOLDERS", PLACEHOLDERS),
    ("WHAT A WORKER FINDS", FINDS),
    ("READINESS", READINESS),
    ("SUPERVISION", SUPERVISION),
    ("UPGRADES", UPGRADES),
    ("SIGNALS", SIGNALS),
    ("CONTAINERS", super::containers::CONTAINERS),
    ("FROM OTHER ENTRYPOINTS", super::containers::OTHERS),
    ("EXIT STATUS", EXITS),
    ("FILES", FILES),
    ("SERVERS", SERVERS),
    ("EXAMPLES", EXAMPLES),
    (
        "SEE ALSO",
        &[Text(
            "prebindctl(1), prebind.units(5), prebind.circus(5), prebind.einhorn(7), systemd.socket(5), sd_listen_fds(3), sd_notify(3)",
        )],
    ),
];

const SOCKETS: &[Part] = &[
    Text(
        "Each -b binds one socket; workers get them from descriptor 3, in the order of the command line. A name is made of letters, digits, _ . and -; a socket without one is named by its position, from 0.",
    ),
    Term("PORT, :PORT", "TCP on 0.0.0.0. Port 0 takes a free one; status shows which."),
    Term("*:PORT", "TCP for IPv6 and IPv4 in one socket. IPv4 clients appear as ::ffff:a.b.c.d."),
    Term("HOST:PORT, [V6]:PORT", "TCP on an address, or on the first IPv4 address (else IPv6) of a name."),
    Term(
        "/path, @abstract",
        "A unix stream socket. A stale path is replaced only when nobody answers on it; a path that a worker unlinks is put back; all are removed at the end.",
    ),
    Term("vsock:CID:PORT", "A vsock stream socket, where the kernel has it. An empty CID is any."),
    Term("fd:N", "Adopts the open descriptor N."),
    Term("tcp: udp: unix: unixgram: seqpacket: fifo:", "The kind, before the address; also as tcp:// and so on."),
];

const OPTIONS: &[Part] = &[
    Text(
        "After the address, separated by commas. An unknown one is an error, and so is one that the kind does not have.",
    ),
    Term("r, so_reuseaddr", "SO_REUSEADDR. Listening TCP sockets have it anyway."),
    Term("n, o_nonblock", "O_NONBLOCK, for all workers: it belongs to the socket, not to the worker."),
    Term("backlog=N", "Connections that may wait."),
    Term("reuseport", "SO_REUSEPORT: other processes of the same user may bind the address too."),
    Term(
        "slots",
        "One SO_REUSEPORT socket for each slot, of TCP or UDP: each worker and its successors have one of their own, at the same place among its descriptors. The load is even, and what waits in a queue outlives the worker. New connections are steered around slots whose worker is not ready; where the number of workers shrinks, the slot's connections are drained first (--drain-delay; 0.1 s without it, to be raised to a second or more where clients are far away). A process outside the workers' groups that keeps a copy of a slot's UDP socket would keep its share of the packets.",
    ),
    Term(
        "mode=OCTAL user=U group=G dirmode=OCTAL",
        "Of a path; dirmode of the parent directories that have to be made.",
    ),
    Term("v6only freebind transparent device=IF", "As the socket options of those names, before bind."),
    Term("defer=SECONDS nodelay keepalive keepidle=SECONDS keepintvl=SECONDS keepcnt=N congestion=NAME", "Of TCP."),
    Term("rcvbuf=SIZE sndbuf=SIZE pipesize=SIZE", "Bytes, with K, M or G as powers of 1024."),
    Term(
        "mark=N priority=N tos=N ttl=N broadcast pktinfo passcred passsec timestamp=us|ns",
        "As the socket options of those names.",
    ),
];

const INHERITED: &[Part] = &[Text(
    "prebind takes LISTEN_FDS where LISTEN_PID is its own. Without -b all of it is passed on, in its order and with its names. With -b each is matched by name, then by address; what was inherited and not asked for is an error.",
)];

const UNITS: &[Part] = &[Text(
    "With --unit prebind reads systemd's .socket and .service files in the place of -b and COMMAND, and does what systemd does with them: prebind.units(5). -n N sets the number of workers where there is one service; options that say what a unit says itself are refused, with the unit's key.",
)];

const CIRCUS: &[Part] = &[Text(
    "--circus FILE runs the watchers of a circus.ini, of Circus 0.19 and of its first year, on its sockets. prebind.circus(5) lists every option and what becomes of it; --check --circus FILE shows what would be run, and everything that is not taken as it stands.",
)];

const PLACEHOLDERS: &[Part] = &[
    Text("In COMMAND, its arguments and --env values. A socket named web.socket answers to web too."),
    Term(
        "{SOCKET:web}, <SOCKET:web>, {SOCKET}",
        "The descriptor's number in the worker; without a name where there is one socket.",
    ),
    Term("{ADDR:web} {HOST:web} {PORT:web} {PATH:web}", "The real address and its parts."),
    Term("{SLOT}, <SLOT>", "The number of the worker's slot."),
];

const FINDS: &[Part] = &[
    Text(
        "Descriptors 0, 1, 2 and its sockets from 3, nothing else; default signal dispositions, an empty signal mask, a process group of its own. Descriptor 0 is /dev/null where prebind's is a terminal; with -n 1 the worker is the terminal's foreground group instead.",
    ),
    Term("LISTEN_FDS LISTEN_FDNAMES LISTEN_PID", "As systemd gives them; see --listen-env."),
    Term("EINHORN_FD_COUNT EINHORN_FD_n EINHORN_FD_FAMILY_n", "The descriptors, and the family where it is not IPv4."),
    Term(
        "EINHORN_CHILD_INDEX EINHORN_MASTER_PID EINHORN_SOCK_PATH EINHORN_SOCK_FD",
        "The lowest number that no live worker uses; prebind's pid; the control socket; with -g a connection to it.",
    ),
    Term(
        "NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID",
        "prebind's own notify socket, never the one of the manager above; the watchdog where asked for.",
    ),
    Term("PREBIND_SERVICE PREBIND_SLOT PREBIND_GENERATION", "Who it is."),
    Term(
        "PREBIND_INVOCATION_ID",
        "As PID 1 and with --subreaper: 32 digits that only this worker has, by which its orphans are known.",
    ),
    Text(
        "--drop-env-var takes effect at once. With --user, USER, LOGNAME, HOME and SHELL are that user's unless --env sets them.",
    ),
];

const READINESS: &[Part] = &[
    Text(
        "auto: READY=1 or an einhorn ack; or one of the worker's processes waits on each of its listening sockets, as /proc tells (the socket is in an epoll set, or a thread sleeps in accept, poll or select on it, or it accepted connections from it, as a server does that has more requests than it can take and never waits; on some of them is enough after 1 s); else after 1 s if a process of its group then holds one of its sockets. In the place of a worker that serves, no other is ready by time alone where /proc tells: an unmodified server is upgraded when it accepts, not before. What it accepted is asked of the kernel over AF_NETLINK: where that is not allowed (RestrictAddressFamilies=), only waiting counts. A worker that holds no socket (it bound its own, or a wrapper such as npm start closed them) is not ready, and the log says so.",
    ),
    Text(
        "accept is the same without the time. With SECONDS a worker is ready after that time, whatever it says. manual and notify believe only READY=1 and acks, within --start-timeout; EXTEND_TIMEOUT_USEC moves that limit.",
    ),
    Text(
        "gunicorn and uWSGI say READY=1 before the application is loaded: --min-ready with more than its loading takes keeps the old workers until then.",
    ),
];

const UPGRADES: &[Part] = &[
    Text(
        "prebindctl upgrade starts the next generation: COMMAND, --chdir and --env-file are looked up anew at each start, so that a symbolic link to a release is enough. A new worker takes over the slot, and the sockets, of the old one.",
    ),
    Term(
        "rolling",
        "A quarter of the workers, at least one, are starting at once; each old worker is told to stop as soon as its successor is ready (and --min-ready passed).",
    ),
    Term(
        "fleet",
        "All new workers start at once; the old ones are told to stop when every new one is ready. Needs room for twice the workers: where --max-upgrade-additional leaves less, rolling is used.",
    ),
    Term(
        "canary",
        "One new worker serves beside the old ones for --bake seconds; then, or at prebindctl promote, the others follow by rolling. prebindctl rollback withdraws it.",
    ),
    Text(
        "A generation is given up when a new worker is not ready within --upgrade-timeout, when --upgrade-retries new workers failed (died, also after READY=1 while the upgrade goes on, or could not be started), or when a canary dies on trial. What has not taken over is told to stop, and the old workers never notice; with rolling, slots that were replaced keep the new code, and another upgrade goes on from there. Whoever asked gets the reason and exit code 1; status shows it as last_upgrade. An old worker that dies after a rollback is replaced by whatever COMMAND is then: put the old release back first.",
    ),
    Text("A second upgrade takes the place of one that is under way."),
    Text(
        "prebindctl reexec replaces prebind's own program by what its path gives now: same process, same sockets, workers, clients of the control socket and what they wait for, back-offs and deadlines. The new program is first asked whether it understands the state; if it does not, cannot be executed, or says nothing within 5 s, nothing changes, the reason is said and the exit code is 1. Signals that arrive meanwhile are heard afterwards, and workers that ended are noticed.",
    ),
    Text(
        "HUP and USR2 do both: prebind replaces itself, and where that worked, every service is upgraded. Where it did not, nothing is upgraded, either.",
    ),
    Text(
        "The command line is the one of the first start. With --reexec-as CMDLINE that one is run, with --with-state-fd N and prebind's own arguments behind it, and is to end in exec prebind: a script that passes \"$@\" on, or env VAR=b prebind. It is run twice: first to ask, with --upgrade-check behind the state's number (what hangs for 5 s is killed with its children), then in prebind's own place, where nothing is left that could go on if it fails then. Signals that come while it runs may be lost: a shell may unblock them. The environment is the one of the first start without what --drop-env-var names; what CMDLINE sets, workers get.",
    ),
    Text(
        "The plan that is read then is compared with the one that runs, and only what changed is touched. A socket that is new is bound before anything is given up; one that nobody asks for any more, or whose address is another one now, is closed when the last worker that has it is gone (addresses that overlap, such as 127.0.0.1:80 and 0.0.0.0:80, stand beside each other as long; what still waits in a socket that closes is lost). Options that an open socket can still get are set, the others are said. The number of workers is the plan's where the plan's own changed, else what prebindctl scale made of it. -c, -d, -e, -f, --no-control, the kind of a path and the option slots cannot change. A plan with a problem changes nothing; every problem is listed.",
    ),
];

const SUPERVISION: &[Part] = &[
    Text(
        "A worker that had been ready is replaced at once, unless its slot was replaced more than 5 times in 10 s. Otherwise the slot waits the back-off: -s times 1.5 to the power of its deaths, at most 30 s. Deaths are forgotten after 10 s of being ready.",
    ),
    Text(
        "The stop signal goes to the worker's main process alone, SIGKILL after -t to its whole group. When a main process ended by itself, what is left of its group gets the stop signal, then SIGKILL.",
    ),
    Text(
        "In a terminal's foreground (-n 1) the worker alone sees ^C: when it dies of INT or QUIT or exits with 130, or exits with 0 where --restart was not given, prebind ends too.",
    ),
    Text(
        "A restart replaces the workers as a rolling upgrade does, but within their generation; --slot replaces only one.",
    ),
];

const SIGNALS: &[Part] = &[
    Term(
        "TERM, INT",
        "Stop gracefully, exit 0; told twice, without --drain-delay. A second INT kills all workers, exit 1.",
    ),
    Term("QUIT", "Passes QUIT on to the workers and stops as TERM does."),
    Term(
        "HUP, USR2",
        "prebind replaces itself as by prebindctl reexec, reading its plan anew; then upgrades, as by prebindctl upgrade. HUP means stop where the kernel sent it because the terminal closed; under nohup that one is ignored.",
    ),
    Term("TTIN, TTOU", "One worker more, one worker less."),
    Term(
        "USR1",
        "Opens the log files of workers anew (of circus.ini; prebind's own log is on stderr); it is not passed on.",
    ),
];

const EXITS: &[Part] = &[
    Term("0", "Stopped as asked."),
    Term("1", "The service failed for good, or was killed by a second INT."),
    Term("2", "The command line cannot be understood."),
    Term("100", "The plan is wrong: every problem was listed and nothing was bound."),
    Term("111", "The system refused: a bind, the first start of a worker, a permission."),
    Term(
        "N, 128+N",
        "With --restart no: the command's own code, or the signal that killed it, also after a stop; --exit-code 143=0 makes another one of it.",
    ),
];

const FILES: &[Part] = &[
    Term(
        "/run/prebind/NAME.sock, $XDG_RUNTIME_DIR/prebind/NAME.sock",
        "The control socket of root, of a user; else in a private directory under $TMPDIR. NAME comes from -c, else from the command or the first unit. Where it is taken, NAME-PID.sock.",
    ),
    Term("NAME.sock.lock, NAME.notify", "Beside it: its lock, and the workers' notify socket."),
];

const EXAMPLES: &[Part] = &[
    Text("prebind -b web=8080 -n 4 -- gunicorn --bind fd://{SOCKET:web} app:app"),
    Text("prebind -b web=/run/web.sock,mode=0660,group=www-data -n auto -- ./app"),
    Text("systemd-socket-activate -l 8080 prebind -n 4 -- ./app"),
    Text("prebind --unit /etc/systemd/system/web.socket"),
    Text(
        "By the name of a link it is prebindctl(1), circusctl (prebind.circus(5)), einhorn and einhornsh (prebind.einhorn(7)), or systemd-socket-activate.",
    ),
];

const SERVERS: &[Part] = &[Text(
    "What is known of servers that were not written for prebind: what follows prebind, the signal that lets the server finish its requests, the version it was tried with, what surprises. What concerns a command is said at the start and by --check.",
)];

/// The chapters as roff, to stand behind what clap prints.
pub(super) fn chapters() -> String {
    let of =
        |title: &str, parts| chapter(title, parts) + &if title == "SERVERS" { servers::terms() } else { "".into() };
    CHAPTERS.iter().map(|(title, parts)| of(title, parts)).collect()
}

/// One chapter as roff.
pub(super) fn chapter(title: &str, parts: &[Part]) -> String {
    let mut out = format!(".SH \"{title}\"\n");
    for part in parts {
        let _ = match part {
            Text(text) => writeln!(out, ".PP\n{}", escape(text)),
            Term(term, text) => writeln!(out, ".TP\n\\fB{}\\fR\n{}", escape(term), escape(text)),
        };
    }
    out
}

/// Nothing of a text is a request or an escape of roff; every hyphen can be copied.
pub(super) fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('^', "\\(ha");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_becomes_a_request() {
        assert_eq!(super::escape(".SH x-y\\"), "\\&.SH x\\-y\\e");
        assert!(super::chapters().contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\n"));
    }
}
