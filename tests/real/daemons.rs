//! Chapter "Units", the proof: daemons of Debian with the units that their packages ship, unchanged, each answering its
//! own client. Every one runs twice, in a machine of its own with its fixed ports and paths: started by the real
//! systemd, which shows that daemon, client and test are right, then by `prebind --unit`.

use crate::harness::{First, Lines, Namespaces, proc, wait_child, wait_for};
use std::path::Path;
use std::process::{Child, Stdio};

/// A daemon, what to prepare for it, and what its client must hear.
struct Daemon {
    /// The command that must be there.
    program: &'static str,
    /// Where its units are shipped.
    shipped: &'static str,
    sockets: &'static [&'static str],
    services: &'static [&'static str],
    /// For prebind.
    options: &'static [&'static str],
    prepare: fn(&Namespaces),
    ask: fn(&Namespaces),
}

const SYSTEM: &str = "/usr/lib/systemd/system";

/// Both starters, one after the other.
fn serves(test: &str, daemon: &Daemon) {
    if !Path::new(daemon.program).exists() && Path::new("/run/systemd/system").exists() {
        // There it would be running from the next boot on.
        eprintln!("{test}: skipped, tests/setup installs no daemons on a machine that runs systemd");
        return;
    }
    assert!(Path::new(daemon.program).exists(), "{} is not there (tests/setup installs it)", daemon.program);
    by_systemd(test, daemon);
    by_prebind(test, daemon);
}

fn by_systemd(test: &str, daemon: &Daemon) {
    let copy = |dir: &Path| {
        for unit in daemon.sockets.iter().chain(daemon.services) {
            let shipped = Path::new(daemon.shipped).join(unit);
            std::fs::copy(&shipped, dir.join("units").join(unit)).unwrap_or_else(|why| panic!("{shipped:?}: {why}"));
        }
    };
    let Some(machine) = Namespaces::new(test, First::Systemd, copy) else { return };
    (daemon.prepare)(&machine);
    machine.done(&[&["systemctl", "start"], daemon.sockets].concat());
    assert_eq!(machine.processes(), [], "nobody before the first client");
    (daemon.ask)(&machine);
    // A template is stopped by what it became.
    let services = daemon.services.iter().map(|name| name.replace("@.", "@*."));
    let units: Vec<String> = daemon.sockets.iter().map(|name| (*name).to_owned()).chain(services).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    machine.done(&[&["systemctl", "stop"], &units[..]].concat());
    nobody_is_left(&machine);
}

/// A prebind inside. Should the test fail, the machine ends it with all that it started.
struct Started {
    entered: Child,
    lines: Lines,
    pid: i32,
}

impl Drop for Started {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- prebind said:\n{}---", self.lines.all());
        }
    }
}

fn by_prebind(test: &str, daemon: &Daemon) {
    let Some(machine) = Namespaces::new(test, First::Idle, |_| ()) else { return };
    (daemon.prepare)(&machine);
    let mut started = started(&machine, daemon);
    let others = |machine: &Namespaces| -> Vec<(i32, String)> {
        machine.processes().into_iter().filter(|(_, name)| name.trim() != "prebind").collect()
    };
    assert_eq!(others(&machine), [], "nobody before the first client");
    (daemon.ask)(&machine);
    proc::kill(started.pid, libc::SIGTERM);
    let status = wait_child(&mut started.entered).expect("its end");
    assert_eq!(status.code(), Some(0), "after TERM: {status}");
    nobody_is_left(&machine);
}

/// With KillMode=process a session that its client has left may end a moment after its daemon.
fn nobody_is_left(machine: &Namespaces) {
    wait_for("nobody to be left", || machine.processes().is_empty().then_some(()));
}

/// `prebind --unit` of its sockets, which are open.
fn started(machine: &Namespaces, daemon: &Daemon) -> Started {
    let paths: Vec<String> = daemon.sockets.iter().map(|name| format!("{}/{name}", daemon.shipped)).collect();
    let units = paths.iter().flat_map(|path| ["--unit", path]);
    let words: Vec<&str> = ["prebind", "-d", "/run/ctl"].into_iter().chain(daemon.options.iter().copied()).collect();
    let words: Vec<&str> = words.into_iter().chain(units).collect();
    let mut command = machine.command(&words);
    let mut entered = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("nsenter");
    let lines = Lines::of(entered.stderr.take().expect("piped"));
    wait_for("prebind to answer", || {
        let over = entered.try_wait().expect("wait");
        assert!(over.is_none(), "it ended: {over:?}\n{}", lines.all());
        machine.run(&["prebindctl", "-d", "/run/ctl", "status"]).status.success().then_some(())
    });
    let pid = machine.processes().iter().find(|(_, name)| name.trim() == "prebind").expect("prebind").0;
    Started { entered, lines, pid }
}

/// What a shell line prints; it must succeed.
fn sh(machine: &Namespaces, line: &str) -> String {
    machine.done(&["sh", "-ec", line])
}

fn contains(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said:?}");
    }
}

/// Type=notify, a privileged port, RuntimeDirectory, ExecStartPre, EnvironmentFile, KillMode=process.
#[test]
fn openssh() {
    let daemon = Daemon {
        program: "/usr/sbin/sshd",
        shipped: SYSTEM,
        sockets: &["ssh.socket"],
        services: &["ssh.service"],
        options: &[],
        prepare: |machine| {
            sh(
                machine,
                "ssh-keygen -q -t ed25519 -N '' -f /tmp/key; mkdir -m 700 -p ~root/.ssh; cp /tmp/key.pub ~root/.ssh/authorized_keys",
            );
            sh(machine, "[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -A");
        },
        ask: |machine| {
            for word in ["first", "second"] {
                let options = "-i /tmp/key -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR";
                let line = format!("ssh {options} root@127.0.0.1 'echo {word} by $(id -un); echo $SSH_CONNECTION'");
                contains(&sh(machine, &line), &[&format!("{word} by root"), "127.0.0.1 22"]);
            }
        },
    };
    serves("openssh", &daemon);
}

/// Accept=yes on a privileged port, with User= and the connection as standard input and output.
#[test]
fn tang() {
    let daemon = Daemon {
        program: "/usr/libexec/tangd",
        shipped: SYSTEM,
        sockets: &["tangd.socket"],
        services: &["tangd@.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            for _ in 0..3 {
                // It would wait for more on the same connection.
                let client =
                    "import urllib.request as r; print(r.urlopen('http://127.0.0.1/adv', None, 30).read().decode())";
                let keys = machine.done(&["python3", "-c", client]);
                contains(&keys, &["payload", "signature"]);
            }
            let owners = sh(machine, "stat -c %U /var/lib/tang/*.jwk | sort -u");
            assert_eq!(owners, "_tang\n", "it made its keys as User= says");
        },
    };
    serves("tang", &daemon);
}

/// Accept=yes, a command line with every kind of quote, and a variable of the manager's in it.
#[test]
fn oidentd() {
    let daemon = Daemon {
        program: "/usr/sbin/oidentd",
        shipped: SYSTEM,
        sockets: &["oidentd.socket"],
        services: &["oidentd@.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            let client = "import socket
ident = socket.create_connection(('127.0.0.1', 113), 30)
ours = ident.getsockname()[1]
ident.sendall(b'%d, 113\\r\\n' % ours)
print(ident.recv(200).decode().replace(str(ours), 'OURS'))";
            contains(&machine.done(&["python3", "-c", client]), &["OURS,113:USERID:UNIX:root"]);
        },
    };
    serves("oidentd", &daemon);
}

/// Five Listen lines, datagrams among them, on a privileged port of both families; the first client is a datagram.
#[test]
fn rpcbind() {
    let daemon = Daemon {
        program: "/sbin/rpcbind",
        shipped: SYSTEM,
        sockets: &["rpcbind.socket"],
        services: &["rpcbind.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            for (kind, address) in [("udp", "127.0.0.1"), ("tcp", "127.0.0.1"), ("udp6", "::1"), ("tcp6", "::1")] {
                let said = machine.done(&["rpcinfo", "-T", kind, address, "100000", "3"]);
                contains(&said, &["program 100000 version 3 ready and waiting"]);
            }
            // Over its unix socket: all that is registered, and by whom.
            contains(&machine.done(&["rpcinfo"]), &["/run/rpcbind.sock", "0.0.0.0.0.111", "::.0.111", "superuser"]);
        },
    };
    serves("rpcbind", &daemon);
}

/// User=, and a sandbox that prebind cannot make.
#[test]
fn uuidd() {
    let daemon = Daemon {
        program: "/usr/sbin/uuidd",
        shipped: SYSTEM,
        sockets: &["uuidd.socket"],
        services: &["uuidd.service"],
        options: &["--allow-unprotected"],
        prepare: |_| (),
        ask: |machine| {
            let random = machine.done(&["uuidd", "--random"]);
            assert_eq!(random.trim().len(), 36, "{random}");
            contains(&machine.done(&["uuidd", "--time", "-n", "3"]), &["and 2 subsequent UUIDs"]);
            assert_eq!(sh(machine, "ps -o user= -C uuidd").trim(), "uuidd");
        },
    };
    serves("uuidd", &daemon);
}

/// FileDescriptorName: four .socket units for one service, which tells its sockets apart by their names alone.
#[test]
fn gpg_agent() {
    let daemon = Daemon {
        program: "/usr/bin/gpg-agent",
        shipped: "/usr/lib/systemd/user",
        sockets: &["gpg-agent.socket", "gpg-agent-ssh.socket", "gpg-agent-extra.socket", "gpg-agent-browser.socket"],
        services: &["gpg-agent.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            let ask = |name: &str| {
                let path = format!("/run/gnupg/S.gpg-agent{name}");
                machine.done(&["gpg-connect-agent", "-S", &path, "GETINFO restricted", "GETINFO version", "/bye"])
            };
            // The first answer is OK where only harmless commands are allowed.
            for (name, restricted) in [("", "ERR"), (".extra", "OK"), (".browser", "OK")] {
                let said = ask(name);
                assert!(said.starts_with(restricted), "{name}: {said}");
                contains(&said, &["D 2."]);
            }
            let keys = machine.run(&["env", "SSH_AUTH_SOCK=/run/gnupg/S.gpg-agent.ssh", "ssh-add", "-l"]);
            contains(&(keys.stdout + &keys.stderr), &["The agent has no identities."]);
            assert_eq!(sh(machine, "stat -c %a /run/gnupg /run/gnupg/S.gpg-agent"), "700\n600\n");
        },
    };
    serves("gpg_agent", &daemon);
}

/// Type=notify with NotifyAccess=main.
#[test]
fn dbus() {
    let daemon = Daemon {
        program: "/usr/bin/dbus-daemon",
        shipped: SYSTEM,
        sockets: &["dbus.socket"],
        services: &["dbus.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            let bus = "org.freedesktop.DBus";
            let call = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/"];
            let said = machine.done(&[&call[..], &["org.freedesktop.DBus.ListNames"]].concat());
            contains(&said, &["method return", bus, "string \":1."]);
            machine.done(&[&call[..], &["org.freedesktop.DBus.ReloadConfig"]].concat());
        },
    };
    serves("dbus", &daemon);
}

/// SocketUser=, SocketGroup=, SocketMode=, User=, and `${...}` from Environment= in the command line.
#[test]
fn fcgiwrap() {
    let daemon = Daemon {
        program: "/usr/sbin/fcgiwrap",
        shipped: SYSTEM,
        sockets: &["fcgiwrap.socket"],
        services: &["fcgiwrap.service"],
        options: &[],
        prepare: |machine| {
            machine.write("/tmp/cgi", "#!/bin/sh\necho 'Content-Type: text/plain'\necho\necho $QUERY_STRING; id -un\n");
            sh(machine, "chmod 755 /tmp/cgi");
        },
        ask: |machine| {
            let path = "/run/fcgiwrap.socket";
            assert_eq!(sh(machine, &format!("stat -c '%a %U %G' {path}")), "660 www-data www-data\n");
            let client = format!(
                "env -i SCRIPT_FILENAME=/tmp/cgi REQUEST_METHOD=GET QUERY_STRING=asked cgi-fcgi -bind -connect {path}"
            );
            contains(&sh(machine, &client), &["text/plain", "asked\nwww-data\n"]);
        },
    };
    serves("fcgiwrap", &daemon);
}

/// Type=notify; RemoveOnStop; a daemon that looks for the sockets it was given.
#[test]
fn cups() {
    let daemon = Daemon {
        program: "/usr/sbin/cupsd",
        shipped: SYSTEM,
        sockets: &["cups.socket"],
        services: &["cups.service"],
        options: &[],
        prepare: |_| (),
        ask: |machine| {
            contains(&machine.done(&["lpstat", "-h", "/run/cups/cups.sock", "-r"]), &["scheduler is running"]);
        },
    };
    serves("cups", &daemon);
}
