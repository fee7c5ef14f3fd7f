//! The chapters of prebind(1) for containers.

use super::manual::Part::{self, Term, Text};

pub(super) const CONTAINERS: &[Part] = &[
    Text(
        "As PID 1 prebind reaps every orphan, handles every signal, and takes with it what workers left: once the last worker is gone, everything that descends from prebind gets TERM, the rest of the workers' time (at least 1 s), then KILL. With --subreaper it does so elsewhere. Signals that mean nothing to it are passed on to the main processes of all workers.",
    ),
    Text(
        "With one worker and no socket it is an init: --restart no, and the command's own exit code, as tini has it. -t is 8 there, as engines kill after 10 s; give more time to both (docker stop -t 60, terminationGracePeriodSeconds) where requests are long. -n auto counts the CPUs of the container's quota and affinity, not the host's.",
    ),
    Term(
        "What a worker started",
        "ends with it while prebind goes on, also what began a session of its own: it gets the stop signal, -t, then KILL. Where prebind may divide its control group (cgroup v2, writable, and prebind is PID 1 or was given the group as by Delegate=yes), each worker has one of its own, prebind-ID, and cgroup.kill ends it. Elsewhere an orphan is known by PREBIND_INVOCATION_ID in its environment; without that it ends with prebind.",
    ),
    Term(
        "--rewrite FROM:TO",
        "TERM, INT and QUIT stop with the other signal (as --stop-signal, but for this one only); any other is passed on as TO in the place of its meaning for prebind; TO 0: it is ignored. An image whose STOPSIGNAL is QUIT (nginx, PHP-FPM) needs nothing: QUIT is passed on and prebind waits.",
    ),
    Term(
        "--forward SIGNAL",
        "Passed on in the place of its meaning for prebind: --forward USR1, or HUP for a server that reloads itself.",
    ),
    Term(
        "--give-up-after N",
        "So many workers of a service in a row that died before one was ready, while none is ready, end prebind with 1: the orchestrator sees it.",
    ),
    Term(
        "--drain-delay SECONDS",
        "Between TERM and the workers' stop signal probes say no and everything is served: what a sleep in preStop is for.",
    ),
    Term(
        "Probes",
        "prebindctl ready and prebindctl live exit with 0 or 1 and nothing else (in an image without links: prebind --ctl ready). --health-file FILE is there while every service is ready. --health-listen ADDR answers GET /ready (200, 503) and /live (200). None of them is ready any more as soon as prebind is to stop.",
    ),
    Term(
        "No place for files",
        "With a read-only root the control socket lies in /dev/shm/prebind-UID, where nothing better serves, as the first line of the log says; without any such place prebind goes on without one. Workers say READY=1 to an abstract socket then.",
    ),
    Term(
        "Memory",
        "A worker that the kernel killed because the control group has no memory left is named as such (memory.events), and the back-off applies.",
    ),
];

pub(super) const OTHERS: &[Part] = &[
    Term(
        "tini -- CMD, dumb-init CMD",
        "prebind -- CMD; tini -e 143: --exit-code 143; tini -s: --subreaper; dumb-init --rewrite 15:3: --rewrite TERM:QUIT. Signals go to the main process, not to its group.",
    ),
    Term(
        "tini -- gunicorn -w 4 -b :8080 app",
        "prebind -b web=8080 -n 4 -- gunicorn --bind fd://{SOCKET:web} app: prebind holds the socket, so that HUP upgrades without a refused connection.",
    ),
    Term(
        "supervisord.conf",
        "One prebind for each program that listens; several in one container: a folder of units (prebind --unit /etc/prebind) or a circus.ini.",
    ),
    Term("[program:x] command, numprocs", "COMMAND, -n; %(process_num)d is {SLOT}."),
    Term("autorestart = unexpected, false", "--restart on-failure, no."),
    Term("startsecs, startretries", "-m SECONDS, or better -m notify; --give-up-after N."),
    Term("stopsignal, stopwaitsecs", "--stop-signal, -t."),
    Term("user, directory, umask, environment", "--user, --chdir, --umask, --env."),
    Term("stdout_logfile = /dev/stdout", "Nothing to do: workers write where prebind does."),
    Term("[fcgi-program:x] socket", "-b unix:/run/x.sock, or tcp."),
    Term("supervisorctl status, restart x, signal HUP x", "prebindctl status, restart, signal HUP."),
];
