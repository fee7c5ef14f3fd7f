//! Tables of command lines: what they mean, and what is said of the wrong ones.

use super::{Asked, Run, parse};
use crate::plan::{Address, Command, Host, Number, Restart, SocketKind, SocketSpec, Timestamp};
use std::ffi::OsString;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// What a line asks to run, or why it cannot be understood.
pub(super) fn parsed(line: &str) -> Result<Run, String> {
    match parse(words(line)) {
        Ok(Asked::Run(run)) => Ok(*run),
        Ok(other) => panic!("{line}: {other:?}"),
        Err(refusal) => Err(refusal.0),
    }
}

fn run(line: &str) -> Run {
    parsed(line).unwrap_or_else(|why| panic!("{line}: {why}"))
}

fn refused(line: &str) -> String {
    parsed(line).map(|run| panic!("{line}: {run:?}")).unwrap_err()
}

fn socket(word: &str) -> SocketSpec {
    let run = run(&format!("-b {word} app"));
    assert_eq!(run.problems, [], "{word}");
    run.plan.sockets[0].clone()
}

#[test]
fn addresses() {
    use SocketKind::{Datagram, Fifo, SeqPacket, Stream};
    for (word, kind, address) in [
        ("8080", Stream, "0.0.0.0:8080"),
        (":8080", Stream, "0.0.0.0:8080"),
        ("0", Stream, "0.0.0.0:0"),
        ("*:80", Stream, "*:80"),
        ("tcp://127.0.0.1:80", Stream, "127.0.0.1:80"),
        ("udp:127.0.0.1:53", Datagram, "127.0.0.1:53"),
        ("[::1]:80", Stream, "[::1]:80"),
        ("[fe80::1%eth0]:80", Stream, "[fe80::1%eth0]:80"),
        ("localhost:80", Stream, "localhost:80"),
        ("/run/a.sock", Stream, "/run/a.sock"),
        ("unix:///run/a.sock", Stream, "/run/a.sock"),
        ("unixgram:/run/a.sock", Datagram, "/run/a.sock"),
        ("seqpacket:@a", SeqPacket, "@a"),
        ("fifo:/run/a.fifo", Fifo, "/run/a.fifo"),
        ("@a", Stream, "@a"),
        ("vsock:2:80", Stream, "vsock:2:80"),
        ("vsock::80", Stream, "vsock::80"),
        ("fd:5", Stream, "fd:5"),
    ] {
        let spec = socket(word);
        assert_eq!((spec.kind, spec.address.to_string().as_str()), (kind, address), "{word}");
        assert_eq!((spec.name.as_str(), spec.named), ("0", false), "{word}");
    }
    assert_eq!(socket("web=*:80").address, Address::Inet { host: Host::Dual, port: 80 });
    assert_eq!((socket("web=80").name.as_str(), socket("web=80").named), ("web", true));
}

#[test]
fn wrong_addresses_are_problems_with_their_place() {
    for (word, message) in [
        ("65536", "port 65536 is above 65535"),
        ("080", "there is no port"),
        ("localhost", "there is no port"),
        ("1.2.3.4:x", "'x' is not a port"),
        ("::1:80", "an IPv6 address stands in brackets"),
        ("[::1]", "there is no port"),
        ("[::g]:80", "'::g' is not an IPv6 address"),
        ("1.2.3.456:80", "neither an address nor a host name"),
        ("./a.sock", "a path must be absolute"),
        ("a/b.sock", "a path must be absolute"),
        ("@", "the abstract name is empty"),
        ("fifo:@a", "a FIFO needs a path"),
        ("fd:x", "'x' is not a descriptor's number"),
        ("vsock:2", "there is no port"),
        ("web=", "there is no address"),
        ("80,nodealy", "unknown option 'nodealy', did you mean nodelay?"),
        ("80,backlog", "option backlog needs a value"),
        ("80,nodelay=1", "option nodelay takes no value"),
        ("80,rcvbuf=1X", "'1X' is not a size"),
        ("80,,n", "an option is empty"),
        ("/a,mode=9", "'9' is not an octal mode"),
    ] {
        let problems = run(&format!("-n 2 -b {word} app")).problems;
        assert_eq!(problems.len(), 1, "{word}: {problems:?}");
        let text = problems[0].to_string();
        assert!(text.starts_with("argument 4: socket ") && text.contains(message), "{word}: {text}");
    }
}

#[test]
fn socket_options_set_their_fields() {
    let options = socket("80,rn,backlog=5,reuseport,freebind,transparent,device=lo,nodelay,keepalive,defer=3").options;
    assert!(options.reuse_address && options.nonblock && options.reuse_port && options.freebind);
    assert!(options.transparent && options.nodelay && options.keepalive);
    assert_eq!((options.backlog, options.defer_accept_seconds), (Some(5), Some(3)));
    assert_eq!(options.device.as_deref(), Some("lo"));
    let options = socket("80,keepidle=1,keepintvl=2,keepcnt=3,rcvbuf=1K,sndbuf=2M,mark=4,tos=5,ttl=6").options;
    let keep = (options.keepalive_idle_seconds, options.keepalive_interval_seconds, options.keepalive_probes);
    assert_eq!(keep, (Some(1), Some(2), Some(3)));
    assert_eq!((options.receive_buffer_bytes, options.send_buffer_bytes), (Some(1024), Some(2 << 20)));
    assert_eq!((options.mark, options.tos, options.ttl), (Some(4), Some(5), Some(6)));
    let options = socket("unixgram:/a,mode=0660,user=u,group=g,dirmode=0700,passcred,passsec,timestamp=ns").options;
    assert_eq!((options.mode, options.directory_mode), (Some(0o660), Some(0o700)));
    assert_eq!((options.user.as_deref(), options.group.as_deref()), (Some("u"), Some("g")));
    assert!(options.pass_credentials && options.pass_security);
    assert_eq!(options.timestamp, Some(Timestamp::Nanoseconds));
    // -l is for the sockets that have a queue and did not say themselves.
    let plan = run("-l 7 -b 80 -b 81,backlog=9 -b udp:82 app").plan;
    let backlogs: Vec<_> = plan.sockets.iter().map(|spec| spec.options.backlog).collect();
    assert_eq!(backlogs, [Some(7), Some(9), None]);
}

#[test]
fn the_last_of_a_single_valued_option_wins() {
    let run = run("-n 2 --number=3 --restart no --restart on-failure -qqv app -n 9");
    let service = &run.plan.services[0];
    assert_eq!(service.number, Number::Fixed(3));
    assert_eq!((service.restart, service.restart_given), (Restart::OnFailure, true));
    assert_eq!(run.plan.log.verbosity, -1);
    let Command::Program(argv) = &service.command else { panic!("a program") };
    assert_eq!(argv.len(), 3);
}

#[test]
fn names() {
    for (line, name) in [
        ("/usr/bin/gunicorn x", "gunicorn"),
        ("-c api app", "api"),
        ("-b web=80", "web"),
        ("-b 80", "prebind"),
        ("./a+b", "a_b"),
    ] {
        assert_eq!(run(line).plan.services[0].name, name, "{line}");
    }
}

#[test]
fn what_cannot_be_understood_is_refused_with_a_hint() {
    for (line, hint) in [
        ("-b 80 --", "no command after --"),
        ("-e K=V -- app", "to set a variable: --env K=V"),
        ("-l 8080 -- app", "to listen: -b 8080"),
        ("-s 3000 -- app", "to listen: -b 3000"),
        ("--bnid 80 app", "did you mean '--bind'?"),
        ("--workers 3 app", "here it is -n N"),
        ("--listen 80 app", "here it is -b ADDR"),
        ("-w 3 app", "here it is -n N"),
        ("--reload app", "reserved, and not supported by this version"),
        ("-n abc app", "'abc': not a number of workers"),
        ("-n -1 app", "'-1': not a number of workers"),
        ("-t soon app", "'soon': not a number of seconds"),
        ("--stop-signal TREM app", "did you mean TERM?"),
        ("--restart sometimes app", "is none of always, on-failure, no"),
        ("--json app", "--json goes with --check"),
        ("-b", "needs a value"),
    ] {
        let text = refused(line);
        assert!(text.contains(hint) && !text.contains('\n'), "{line}: {text}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let problems = run("-b web=1,x -b 99999 --env novalue --limit nofiles=3 -- a {SOCKET:} ok").problems;
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let places: Vec<&str> = texts.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(places, ["argument 2", "argument 4", "argument 11", "argument 6", "argument 8"], "{texts:?}");
    assert!(texts[4].contains("did you mean nofile?"), "{texts:?}");
}

#[test]
fn any_bytes_are_parsed_or_refused() {
    use std::os::unix::ffi::OsStringExt;
    let lines = ["-b web=127.0.0.1:80,rn -n 4 --env A={SLOT} -- app {SOCKET:web}", "--limit nofile=1:2 -qv -m 1.5 x"];
    let mut seed = 0x1234_5678_9abc_def1_u64;
    for round in 0..20_000 {
        let mut bytes = lines[round % lines.len()].as_bytes().to_vec();
        for _ in 0..3 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = seed as usize % bytes.len();
            bytes[at] = (seed >> 32) as u8;
        }
        let words = bytes.split(|byte| *byte == b' ').map(|word| OsString::from_vec(word.to_vec()));
        let _ = parse(words);
    }
}
