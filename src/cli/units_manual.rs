//! prebind.units(5): what becomes of systemd's unit files. The chapters are plain text; the table of keys is the one by which
//! units are read.

use super::manual::Part::{self, Term, Text};
use super::manual::{chapter, escape};
use crate::front::units::keys::{Class, rows};
use std::collections::BTreeSet;
use std::fmt::Write;

const CHAPTERS: &[(&str, &[Part])] = &[
    ("NAME", &[Text("prebind.units - systemd's .socket and .service units, run by prebind")]),
    (
        "SYNOPSIS",
        &[
            Text("prebind --unit PATH [--unit PATH]... [--start] [--inherit-env] [--allow-unprotected] [OPTIONS]"),
            Text("prebind --unit PATH --check"),
        ],
    ),
    ("DESCRIPTION", DESCRIPTION),
    ("WHICH UNITS", WHICH),
    ("SOCKETS AND THEIR ORDER", ORDER),
    ("ONE WORKER FOR EACH CONNECTION", ACCEPT),
    ("KEYS OF PREBIND", OURS),
    ("CONDITIONS", CONDITIONS),
    ("WHAT IS SAID", SAID),
    ("OPTIONS", OPTIONS),
    ("WHAT DIFFERS FROM SYSTEMD", DIFFERS),
];

const DESCRIPTION: &[Part] = &[
    Text(
        "prebind reads unit files as systemd does, where there is no systemd: continuation lines and comments inside them, quotes and C escapes, specifiers, drop-ins, templates and instances, masks and aliases. A value that cannot be read is said with its file and line, and what stood before stays; a command, a user, a group or a working directory that cannot be read makes the unit unusable. An empty assignment resets a list.",
    ),
    Text(
        "A service with sockets starts with the first traffic on one of them, as under systemd; one without, or one that is named on the command line, starts at once. Each is run as often as X-Prebind-Number= says, and each copy is one run of the unit, with all its commands.",
    ),
];

const WHICH: &[Part] = &[
    Text("--unit takes one PATH and may be repeated. All units of all words run in one prebind."),
    Term(
        "a file",
        "A .socket or .service. Its folder comes before the search path: drop-ins, the service of a socket and the sockets of a service are looked for there first.",
    ),
    Term("a folder", "All its .socket and .service units but templates, by name. Masked ones are left out."),
    Term(
        "a name",
        "What is neither is looked for in $SYSTEMD_UNIT_PATH (folders with colons between them; a colon at the end adds systemd's own), else in systemd's folders for system units.",
    ),
    Text(
        "A .socket brings its service. A service brings the sockets that its Sockets= names; both bring, of the sockets in Requires=, Wants= and BindsTo=, those of the same service; a service that is named brings the .socket of its own name as well. Other dependencies are not followed. A link to a unit of another name is that unit, with the drop-ins of both names; a link to /dev/null, or an empty file, masks. [Install] means nothing when a unit runs.",
    ),
];

const ORDER: &[Part] = &[
    Text(
        "Sockets stand from descriptor 3 in the order of the Listen lines of their unit. Where a service has several units of sockets: with Sockets= first the listed ones, in that order, then the others; without it first the one with the service's name, then the others by name. systemd leaves that order open: rely on names.",
    ),
    Text(
        "Where the units of one service differ in TriggerLimitBurst= and TriggerLimitIntervalSec=, those of the first count; FlushPending= of one is for all. A unit that is listed in Sockets= of a second service starts both, and both get its sockets. NonBlocking= of one service makes its sockets non-blocking for all that share them: that belongs to the socket.",
    ),
];

const ACCEPT: &[Part] = &[Text(
    "foo.socket with Accept=yes starts foo@.service for each connection. %i, %I, %n, %N and %f are filled in when the connection comes, in Exec lines and in Environment=; elsewhere in such a unit they are an error. Two sockets with Accept=yes cannot share one template.",
)];

const OURS: &[Part] = &[
    Text("In [Service]; systemd ignores keys that begin with X-."),
    Term("X-Prebind-Number=N|auto", "So many copies; auto: one for each CPU that prebind may use. Default 1."),
    Term(
        "X-Prebind-Slots=yes",
        "Each copy has a socket of its own for each TCP or UDP address, as by -b ADDR,slots: see prebind(1).",
    ),
    Term("X-Prebind-Strategy=rolling|fleet|canary", "How an upgrade replaces the copies; --strategy comes before it."),
];

const CONDITIONS: &[Part] = &[Text(
    "Condition and Assert settings are looked at once, when the units are read; when prebind replaces itself, only those of units that do not run yet. A unit whose condition is not met is left out, and that is said; an assertion that is not met is an error. The Path, File and Directory ones, User, Group, Host, Environment, Architecture, KernelCommandLine and Virtualization=container are told; the others are taken as met, with a warning.",
)];

const SAID: &[Part] = &[
    Term(
        "honoured",
        "The key does what systemd.socket(5), systemd.service(5), systemd.exec(5) and systemd.kill(5) say. A value of it that is not honoured is said.",
    ),
    Term("harmless", "Nothing is lost. Named once for each unit, with -v and by --check."),
    Term("needs systemd", "It is left out, with a warning that names file and line."),
    Term(
        "protection",
        "It takes rights away from the service. Such a unit is refused, with all these keys, unless --allow-unprotected is given; then each is a warning. A value that asks for nothing (no, or an empty one) is no matter.",
    ),
    Text(
        "prebind --check --unit PATH shows what would be run and everything that is said, and opens nothing. Unknown keys are warned of with what was meant.",
    ),
];

const OPTIONS: &[Part] = &[
    Term("--start", "Services start at once, not on the first traffic."),
    Term("--inherit-env", "Their environment begins with prebind's own (in a container: the container's), not empty."),
    Term("--allow-unprotected", "See above."),
    Term("-n N", "Takes the place of X-Prebind-Number= where there is one service."),
    Text(
        "-c, -d, -e, -f, --no-control, -k, -q, -v, --log-format, --check, --json and those for upgrades go together with --unit. What a unit says itself (such as --user, -b, -t) does not, nor does a COMMAND: change the unit, or add a drop-in. The control socket has the name of the first service without .service; prebindctl takes the services' full names.",
    ),
];

const DIFFERS: &[Part] = &[
    Text(
        "%t, %S, %C, %L, %E and %h are those of the user that runs prebind; system units are looked for whoever it is. Type=dbus is taken as simple. A Listen address that is asked for twice without ReusePort=yes, a missing service, a masked unit and a second socket for StandardInput=socket are errors before anything is bound. Port numbers are decimal.",
    ),
    Text(
        "The journal, the kernel's log, syslog and terminals as StandardOutput= and StandardError= are prebind's own descriptors. ExecStopPost= runs once nothing is left of the worker; systemd does not wait for what a stopped main process leaves behind. GuessMainPID=no and ExitType=cgroup are not honoured, which is said.",
    ),
];

/// The whole page.
pub(super) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH prebind.units 5 \"\" \"prebind {version}\"\n");
    for (title, parts) in CHAPTERS {
        out += &chapter(title, parts);
    }
    out += &table();
    out + &chapter(
        "SEE ALSO",
        &[Text("prebind(1), prebindctl(1), systemd.unit(5), systemd.socket(5), systemd.service(5), systemd.exec(5)")],
    )
}

/// Every key, by section and by what becomes of it.
fn table() -> String {
    let mut out = chapter("KEYS", &[]);
    for section in ["Unit", "Socket", "Service", "Install"] {
        let _ = writeln!(out, ".SS \"[{section}]\"");
        for (class, word) in [
            (Class::Honoured, "honoured"),
            (Class::Harmless, "harmless"),
            (Class::NeedsSystemd, "needs systemd"),
            (Class::Protection, "protection"),
        ] {
            let keys = rows().filter(|(own, of, _)| *own == section && *of == class);
            let keys: BTreeSet<&str> = keys.flat_map(|(_, _, keys)| keys.split(' ')).collect();
            if !keys.is_empty() {
                let keys: Vec<&str> = keys.into_iter().collect();
                let _ = writeln!(out, ".TP\n\\fB{word}\\fR\n{}", escape(&keys.join(", ")));
            }
        }
    }
    out.push_str(".PP\n");
    out += &escape(
        "[Socket] also has the keys of systemd.exec(5), systemd.kill(5) and systemd.resource-control(5). The first two are about its commands, ExecStartPre= and its siblings: where there are any they are as in [Service], else harmless, but PrivateNetwork and NetworkNamespacePath are protection. The last are as in [Service].",
    );
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_key_is_in_the_page() {
        let page = super::page();
        for key in
            ["ListenStream", "X\\-Prebind\\-Number", "ProtectSystem", "ConditionPathExists", "WantedBy", "MemoryMax"]
        {
            assert!(page.contains(key), "{key}");
        }
    }
}
