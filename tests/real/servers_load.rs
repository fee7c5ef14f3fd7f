//! Chapter "Servers", under load: two copies of each share one socket while eight clients ask without a pause, one
//! connection and one request at a time, each answered after a moment. One copy is killed, then all are upgraded by HUP.
//! What may fail is what the killed copy itself had taken: at most one request of each client, or as many as it takes at a
//! time. An upgrade loses nothing with the signal that drains; a server that no signal drains loses what it had taken.

use crate::harness::load::while_asked;
use crate::harness::{DEADLINE, Prebind, Setup, TempDir, free_port, get, proc, wait_for};
use crate::servers::{WORKERS, each_answers, example, python};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

type Ask = fn(SocketAddr) -> io::Result<String>;

/// How long an answer takes, so that there are always some in flight.
const ANSWER_SECONDS: &str = "0.03";

/// A server that takes all clients at once: one request of each.
const CLIENTS: usize = 8;

/// So many may be lost by an upgrade of a server that closes, when told to stop, what it has accepted and not read from
/// yet, for a moment much shorter than an answer takes: one for each copy, where one in all was seen. (Two copies that cut
/// what is in flight lose four and more.)
const UNREAD: usize = 2;

struct Case {
    dir: TempDir,
    bind: String,
    options: Vec<String>,
    command: Vec<String>,
    ask: Ask,
    /// It makes the socket it is given nonblocking, or waits for nothing but the next connection.
    blocking: bool,
    /// So many requests a copy takes at a time.
    takes: usize,
    /// So many of them may be lost by an upgrade.
    upgrade_loses: usize,
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Case {
    fn new(options: &[&str], command: &[&str]) -> Case {
        let (bind, ask): (_, Ask) = ("web=127.0.0.1:0".into(), |address| get(address, "/"));
        let (options, command) = (owned(options), owned(command));
        Case { dir: TempDir::new(), bind, options, command, ask, blocking: false, takes: CLIENTS, upgrade_loses: 0 }
    }

    /// For a server whose configuration names the address: text and words with DIR and PORT.
    fn configured(options: &[&str], command: &[&str], file: &str, text: &str) -> Case {
        let mut case = Case::new(options, &[]);
        let (port, dir) = (free_port().to_string(), case.dir.join(""));
        let filled = |text: &str| text.replace("PORT", &port).replace("DIR/", &dir);
        std::fs::write(case.dir.join(file), filled(text)).expect("write");
        case.bind = format!("web=127.0.0.1:{port}");
        case.command = command.iter().map(|word| filled(word)).collect();
        case
    }

    /// It takes the socket as it is, and has more to wait for than the next connection: the socket's option n.
    fn nonblocking(mut self) -> Case {
        self.bind.push_str(",n");
        self
    }

    fn takes(mut self, takes: usize) -> Case {
        self.takes = takes;
        self
    }

    fn lives(self) {
        let name = Path::new(&self.command[0]).file_name().expect("a program").to_string_lossy().into_owned();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut prebind = Setup::in_dir(self.dir, &["-b", &self.bind, "-n", "2", "-t", "20", "--chdir", WORKERS])
            .and(&options)
            .and(&["--"])
            .and(&command)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("ANSWER_SECONDS", ANSWER_SECONDS)
            .start();
        prebind.wait_ready();
        let address = prebind.inet("web");
        let ask = || (self.ask)(address);
        wait_for("an answer", || ask().ok());
        each_answers(&mut prebind, self.ask);
        assert!(self.blocking || nonblocking(&prebind, address), "{name} waits in accept() and needs the option n");

        let first = prebind.worker_pids()[0];
        let ((), killed) = while_asked(
            || (),
            ask,
            || {
                proc::kill(first, libc::SIGKILL);
                succeeded(&mut prebind, &[first]);
                wait_for("what the killed one left", || proc::members(first).is_empty().then_some(()));
            },
        );
        eprintln!("{name}: killed: {} of {} lost", killed.errors.len(), killed.answers);
        lost_at_most(&prebind, &killed.errors, self.takes, "killed");
        each_answers(&mut prebind, self.ask);

        let before = prebind.worker_pids();
        let ((), upgraded) = while_asked(
            || (),
            ask,
            || {
                prebind.signal(libc::SIGHUP);
                succeeded(&mut prebind, &before);
            },
        );
        eprintln!("{name}: upgraded: {} of {} lost", upgraded.errors.len(), upgraded.answers);
        lost_at_most(&prebind, &upgraded.errors, self.upgrade_loses, "upgraded");
        each_answers(&mut prebind, self.ask);
        // nginx writes its title over the environment by which others are found.
        let last = prebind.worker_pids();
        prebind.stop();
        assert!(last.iter().all(|group| proc::members(*group).is_empty()), "{name} is left behind");
    }
}

/// The socket that listens there has O_NONBLOCK, which belongs to all who hold it.
fn nonblocking(prebind: &Prebind, address: SocketAddr) -> bool {
    let listening = format!(":{:04X} 00000000:0000 0A", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let line = table.lines().find(|line| line.contains(&listening)).expect("it listens");
    let inode = format!("socket:[{}]", line.split_whitespace().nth(9).expect("an inode"));
    let mut held = proc::fds(prebind.pid()).into_iter();
    let (fd, _) = held.find(|(_, target)| *target == inode).expect("prebind holds it");
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", prebind.pid())).expect("fdinfo");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    i32::from_str_radix(flags, 8).expect("octal") & libc::O_NONBLOCK != 0
}

/// Two are ready, none of these among them, and nobody else is there.
fn succeeded(prebind: &mut Prebind, before: &[i32]) {
    prebind.wait_status("the successors", |status| {
        let workers = status["services"][0]["workers"].as_array()?;
        let new = |pid: i32| !before.contains(&pid);
        let ready =
            workers.iter().all(|one| one["state"] == "ready" && one["pid"].as_i64().is_some_and(|p| new(p as i32)));
        (ready && workers.len() == 2).then_some(())
    });
}

/// And nobody was refused: the socket is prebind's.
fn lost_at_most(prebind: &Prebind, errors: &[String], most: usize, what: &str) {
    let refused = errors.iter().any(|why| why.contains("refused"));
    assert!(!refused && errors.len() <= most, "{what}: {most} at most: {errors:?}\n{}", prebind.lines.all());
}

#[test]
fn nginx() {
    let text = "load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;\nerror_log stderr;\n\
        events {}\nhttp { access_log off; server { listen 127.0.0.1:PORT; location / { echo_sleep 0.03; echo \"pid $pid\"; } } }\n";
    let words = ["/usr/sbin/nginx", "-c", "DIR/nginx.conf", "-g", "daemon off; pid DIR/pid.{SLOT};"];
    let options = ["--stop-signal", "QUIT", "--env", "NGINX={SOCKET:web};"];
    Case::configured(&options, &words, "nginx.conf", text).nonblocking().lives();
}

#[test]
fn haproxy() {
    let text = "global\n  stats timeout 9s\ndefaults\n  mode http\n  timeout client 9s\n  timeout connect 9s\n  timeout server 9s\n\
        frontend web\n  bind fd@${FD}\n  tcp-request inspect-delay 30ms\n  tcp-request content accept if WAIT_END\n\
        \x20 http-request return status 200 content-type text/plain lf-string \"pid %pid\"\n";
    let words = ["/usr/sbin/haproxy", "-Ws", "-f", "DIR/haproxy.cfg"];
    Case::configured(&["--stop-signal", "USR1", "--env", "FD={SOCKET:web}"], &words, "haproxy.cfg", text).lives();
}

#[test]
fn lighttpd() {
    let text = "server.systemd-socket-activation = \"enable\"\nserver.bind = \"127.0.0.1\"\nserver.port = PORT\n\
        server.document-root = \"DIR/\"\nserver.modules = (\"mod_cgi\")\ncgi.assign = (\".sh\" => \"/bin/sh\")\n\
        index-file.names = (\"index.sh\")\n";
    let case = Case::configured(
        &["--stop-signal", "INT"],
        &["/usr/sbin/lighttpd", "-D", "-f", "DIR/lighttpd.conf"],
        "lighttpd.conf",
        text,
    );
    let script = "sleep 0.03\nprintf 'Content-Type: text/plain\\r\\n\\r\\npid %d\\n' $PPID\n";
    std::fs::write(case.dir.join("index.sh"), script).expect("write");
    case.lives();
}

/// It closes what it has accepted and not read from yet, as uvicorn does.
#[test]
fn hypercorn() {
    let mut case = Case::new(&[], &[&python("hypercorn"), "--bind", "fd://{SOCKET:web}", "app:asgi"]);
    case.upgrade_loses = UNREAD;
    case.lives();
}

#[test]
fn uvicorn() {
    let mut case = Case::new(&[], &[&python("uvicorn"), "--fd", "{SOCKET:web}", "app:asgi"]);
    case.upgrade_loses = UNREAD;
    case.lives();
}

/// Its one process takes one connection at a time; a sync worker of a killed master ends by itself.
#[test]
fn gunicorn() {
    let words = [&python("gunicorn"), "--no-control-socket", "--bind", "fd://{SOCKET:web}", "app:app"];
    Case::new(&["--min-ready", "2"], &words).takes(1).lives();
}

/// One at a time.
#[test]
fn uwsgi() {
    let hook = "unix_signal:15 gracefully_kill_them_all";
    let words = ["uwsgi", "--plugin", "python3", "--http-socket", "fd://{SOCKET:web}", "--master", "--need-app"];
    let mut case = Case::new(&["--min-ready", "2"], &words).takes(1);
    case.command.extend(owned(&["--hook-master-start", hook, "--module", "app:app"]));
    case.lives();
}

/// wsgiref takes one at a time, and no signal lets it finish: one for each copy. At its limit it never waits on the socket:
/// what it accepts says that it is ready.
#[test]
fn chaussette() {
    let mut case = Case::new(&[], &[&python("chaussette"), "--fd", "{SOCKET:web}", "app.app"]).takes(1);
    case.blocking = true;
    case.upgrade_loses = 2;
    case.lives();
}

/// Waitress accepts all that come.
#[test]
fn chaussette_with_waitress() {
    let words = [&python("chaussette"), "--backend", "waitress", "--fd", "{SOCKET:web}", "app.app"];
    let mut case = Case::new(&[], &words);
    case.upgrade_loses = 2 * CLIENTS;
    case.lives();
}

const RACK: &str =
    "run ->(env) { sleep 0.03; [200, { 'Content-Type' => 'text/plain' }, [\"pid #{Process.pid}\\n\"]] }\n";

#[test]
fn puma() {
    let words = ["puma", "--bind-to-activated-sockets", "only", "--environment", "none", "DIR/config.ru"];
    Case::configured(&[], &words, "config.ru", RACK).lives();
}

/// Its one worker takes one at a time. Ready as Chaussette.
#[test]
fn unicorn() {
    let words = ["unicorn", "-E", "none", "DIR/config.ru"];
    Case::configured(&["--stop-signal", "QUIT"], &words, "config.ru", RACK).takes(1).lives();
}

/// server.close() closes idle connections, also those without a first request.
#[test]
fn node() {
    let mut case = Case::new(&[], &["node", "server.js"]);
    case.upgrade_loses = UNREAD;
    case.lives();
}

/// hyper closes what it has accepted and not read from yet, and this one answers at once, so that any request may be there
/// just then: all that two copies can hold; 9 were seen. Nobody is refused.
#[test]
fn axum() {
    let mut case = Case::new(&[], &[&example("axum")]);
    case.upgrade_loses = 2 * CLIENTS;
    case.lives();
}

/// Two processes of each copy take one request each.
#[test]
fn php_fpm() {
    let found = std::fs::read_dir("/usr/sbin").expect("/usr/sbin").flatten().map(|entry| entry.path());
    let program =
        found.into_iter().find(|path| path.to_string_lossy().contains("/php-fpm")).expect("php-fpm (run tests/setup)");
    let text = "[global]\ndaemonize = no\nerror_log = /dev/stderr\nprocess_control_timeout = 15s\n\
        [www]\nuser = nobody\ngroup = nogroup\nlisten = 127.0.0.1:PORT\npm = static\npm.max_children = 2\n";
    let words = [program.to_str().expect("UTF-8"), "-F", "-n", "-y", "DIR/fpm.conf"];
    let options = ["--stop-signal", "QUIT", "--env", "FPM_SOCKETS={ADDR:web}={SOCKET:web}"];
    let mut case = Case::configured(&options, &words, "fpm.conf", text).takes(2);
    case.blocking = true;
    case.ask = fastcgi;
    case.lives();
}

/// One request of FastCGI for tests/real/workers/pid.php: the body.
fn fastcgi(address: SocketAddr) -> io::Result<String> {
    let record = |kind: u8, body: &[u8]| {
        let length = (body.len() as u16).to_be_bytes();
        [&[1, kind, 0, 1, length[0], length[1], 0, 0], body].concat()
    };
    let script = format!("{WORKERS}/pid.php");
    let pairs = [("SCRIPT_FILENAME", script.as_str()), ("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/pid.php")];
    let pair = |(name, value): &(&str, &str)| {
        [&[name.len() as u8, value.len() as u8], name.as_bytes(), value.as_bytes()].concat()
    };
    let parameters: Vec<u8> = pairs.iter().flat_map(pair).collect();
    let begin = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(&[begin, record(4, &parameters), record(4, &[]), record(5, &[])].concat())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let (mut rest, mut text, mut ended) = (&reply[..], Vec::new(), false);
    while let [_, kind, _, _, high, low, padding, _, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let short = || io::Error::other("a record is cut");
        let content = body.get(..length).ok_or_else(short)?;
        match kind {
            6 => text.extend_from_slice(content),
            _ => ended |= *kind == 3,
        }
        rest = body.get(length + usize::from(*padding)..).ok_or_else(short)?;
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    if ended && text.contains("pid ") { Ok(text) } else { Err(io::Error::other(format!("no answer: {text:?}"))) }
}
