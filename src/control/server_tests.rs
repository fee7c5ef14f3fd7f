//! The server over real sockets on a real runtime. Every wait has a deadline.

use super::*;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::sync::atomic::{AtomicU32, Ordering};

const LIMIT: Duration = Duration::from_secs(10);
const STATUS: &[u8] = b"{\"command\":\"status\",\"id\":1}\n";

/// Knows one worker, [`WORKER`], of the pid given.
struct FakeJudge {
    uid: u32,
    worker_pid: i32,
}

const WORKER: ChildId = ChildId(3);
/// No process has it.
const NO_PID: i32 = 1 << 30;

impl Judge for FakeJudge {
    fn own_uid(&self) -> u32 {
        self.uid
    }
    fn worker_of_pid(&self, pid: i32) -> Option<ChildId> {
        match pid {
            _ if pid == self.worker_pid => Some(WORKER),
            4711 => Some(ChildId(4)),
            _ => None,
        }
    }
    fn child_of_pid(&self, pid: i32) -> Option<ChildId> {
        self.worker_of_pid(pid)
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    server: Server,
    judge: FakeJudge,
    path: std::path::PathBuf,
    asked: Vec<Command>,
    acked: Vec<Incoming>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Left behind it would only be one file in the temporary directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl World {
    fn new() -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prebind-server-{}-{count}.sock", std::process::id()));
        let listener = StdListener::bind(&path).expect("bind");
        let server = {
            let _inside = runtime.enter();
            Server::new(listener).expect("server")
        };
        let judge = FakeJudge { uid: nix::unistd::geteuid().as_raw(), worker_pid: NO_PID };
        World { runtime, server, judge, path, asked: Vec::new(), acked: Vec::new() }
    }

    fn client(&self) -> StdStream {
        let stream = StdStream::connect(&self.path).expect("connect");
        stream.set_nonblocking(true).expect("nonblocking");
        stream
    }

    /// Turns the server, which answers every request with its number of workers, until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < LIMIT, "{what}: too late");
            self.turn();
        }
    }

    /// As linux/ does it: polls, answers, polls again; waits a millisecond at most.
    fn turn(&mut self) {
        let (server, judge) = (&mut self.server, &self.judge);
        let polled = self.runtime.block_on(async {
            let poll = std::future::poll_fn(|cx| server.poll(cx, judge));
            tokio::time::timeout(Duration::from_millis(1), poll).await
        });
        for incoming in polled.unwrap_or_default() {
            match incoming {
                Incoming::Ask(ask, command) => {
                    self.asked.push(command);
                    self.server.answer(ask, true, "fine", Some(json!({"n": self.asked.len()})));
                }
                other => self.acked.push(other),
            }
        }
    }

    /// The lines that the client gets until the server closes or `count` have come; and whether it closed.
    fn lines(&mut self, client: &mut StdStream, count: usize) -> (Vec<Value>, bool) {
        let (mut bytes, mut closed) = (Vec::new(), false);
        self.until("lines", |_| {
            let mut chunk = [0; 65536];
            match client.read(&mut chunk) {
                Ok(0) => closed = true,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => closed = true,
                Err(error) => panic!("{error}"),
            }
            closed || bytes.iter().filter(|byte| **byte == b'\n').count() >= count
        });
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (lines.map(|line| wire::parse_reply(line).expect("JSON")).collect(), closed)
    }

    fn status_works(&mut self) {
        let mut client = self.client();
        client.write_all(STATUS).expect("write");
        let (lines, _) = self.lines(&mut client, 1);
        assert_eq!((&lines[0]["message"], &lines[0]["request_id"]), (&json!("fine"), &json!(1)));
    }
}

#[test]
fn requests_are_pipelined_and_outlive_the_end_of_input() {
    let mut world = World::new();
    let mut client = world.client();
    let text: String = (0..100).map(|id| format!("{{\"command\":\"status\",\"id\":{id}}}\n")).collect();
    client.write_all(text.as_bytes()).expect("write");
    client.write_all(b"{\"command\":\"sto").expect("write");
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    let (lines, closed) = world.lines(&mut client, 1000);
    assert!(closed);
    assert_eq!(lines.len(), 101);
    for (id, line) in lines[..100].iter().enumerate() {
        assert_eq!((&line["request_id"], &line["data"]["n"], &line["ok"]), (&json!(id), &json!(id + 1), &json!(true)));
    }
    assert_eq!(lines[100]["ok"], false);
    assert_eq!(world.asked.len(), 100);
    world.until("closed", |world| world.server.connections.is_empty());
    assert_eq!(world.server.next_deadline(), None);
}

#[test]
fn garbage_is_refused_line_by_line() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(b"\n\xff\xfe\nGET / HTTP/1.1\n").expect("write");
    client.write_all(STATUS).expect("write");
    let (lines, closed) = world.lines(&mut client, 4);
    assert!(!closed);
    for line in &lines[..3] {
        assert_eq!(line["message"], "Could not parse command");
    }
    assert_eq!(lines[3]["message"], "fine");
}

#[test]
fn a_long_line_is_refused_and_never_buffered() {
    let mut world = World::new();
    let mut client = world.client();
    let chunk = [b'x'; 65536];
    let mut sent = 0;
    let mut longest = 0;
    let mut refused = false;
    while sent < 10_000_000 && !refused {
        match client.write(&chunk) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => refused = true,
        }
        world.turn();
        longest = longest.max(world.server.connections.iter().map(Connection::held).max().unwrap_or(0));
    }
    assert!(refused && longest <= wire::LINE_BYTES_MAX + 8192, "{sent} bytes sent, {longest} held");
    let (lines, closed) = world.lines(&mut client, 2);
    assert!(closed);
    assert_eq!(lines[0]["message"], "refused: the line is longer than 65536 bytes");
    world.status_works();
}

#[test]
fn half_open_clients_keep_nobody_out() {
    let mut world = World::new();
    let mut clients = Vec::new();
    for number in 0..500 {
        let mut client = world.client();
        if number % 2 == 0 {
            client.write_all(b"{\"command\":").expect("write");
        }
        clients.push(client);
        if number % 50 == 0 {
            world.turn();
        }
    }
    world.until("full", |world| world.server.connections.len() == CLIENTS_MAX);
    assert!(world.server.next_deadline().is_some(), "half lines have a deadline");
    for _ in 0..10 {
        world.status_works();
    }
    assert!(world.server.connections.len() <= CLIENTS_MAX);
    // One that works stays, whoever else comes.
    let mut subscriber = world.client();
    subscriber.write_all(b"{\"command\":\"events\"}\n").expect("write");
    world.lines(&mut subscriber, 1);
    let more: Vec<StdStream> = (0..600)
        .map(|_| {
            world.turn();
            world.client()
        })
        .collect();
    world.turn();
    world.server.publish(&json!({"message": "x"}));
    assert_eq!(world.lines(&mut subscriber, 1).0[0]["message"], "x");
    drop((clients, more));
    world.until("one left", |world| world.server.connections.len() == 1);
}

#[test]
fn half_a_line_has_a_deadline() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(b"{").expect("write");
    world.until("half", |world| world.server.next_deadline().is_some());
    let deadline = world.server.next_deadline().expect("deadline");
    // Dripping does not move it.
    client.write_all(b"\"").expect("write");
    world.until("read", |world| world.server.connections[0].held() == 2);
    assert_eq!(world.server.next_deadline(), Some(deadline));
    world.server.connections[0].age(Duration::from_secs(11));
    world.until("closed", |world| world.server.connections.is_empty());
    assert_eq!(world.server.next_deadline(), None);
    assert_eq!(world.lines(&mut client, 1).0[0]["message"], "closed: half a line, or an unread reply, for 10 s");
}

#[test]
fn events_reach_subscribers_and_slow_ones_are_dropped() {
    let mut world = World::new();
    let (mut quick, mut slow) = (world.client(), world.client());
    for client in [&mut quick, &mut slow] {
        client.write_all(b"{\"command\":\"events\",\"id\":\"e\"}\n").expect("write");
    }
    let (lines, _) = world.lines(&mut quick, 1);
    assert_eq!(lines[0], json!({"message": "subscribed", "ok": true, "wait": true, "request_id": "e"}));
    world.until("both", |world| world.server.connections.iter().filter(|c| c.subscribed.is_some()).count() == 2);
    assert!(world.server.has_subscribers());
    let event = json!({"event": "x", "message": "y".repeat(1000)});
    let mut published = 0;
    while world.server.connections.iter().filter(|c| c.subscribed.is_some()).count() == 2 {
        assert!(published < 10_000, "the slow one is never dropped");
        world.server.publish(&event);
        published += 1;
        let (lines, _) = world.lines(&mut quick, 1);
        assert_eq!(lines[0]["data"], event);
        assert_eq!((&lines[0]["wait"], &lines[0]["request_id"]), (&json!(true), &json!("e")));
        let held = world.server.connections.iter().map(Connection::held).max().unwrap_or(0);
        assert!(held <= UNSENT_BYTES_MAX + 1024, "{held}");
    }
    let (lines, closed) = world.lines(&mut slow, 1_000_000);
    assert!(closed && lines.len() > 2);
    let last = lines.last().expect("a last line");
    assert_eq!(last["message"], "unsubscribed: events are not read as fast as they happen");
    assert_eq!(last.get("wait"), None);
    drop(quick);
    world.until("gone", |world| world.server.connections.is_empty());
    assert!(!world.server.has_subscribers());
}

#[test]
fn strangers_are_refused_and_workers_may_ack() {
    let me = nix::unistd::getpid().as_raw();
    let ack = format!("---%0Acommand: worker:ack%0Apid: {me}%0A\n");
    let others_ack = "{\"command\":\"worker:ack\",\"pid\":4711}\n";
    let namespaced = "{\"command\":\"worker:ping\",\"pid\":2,\"request_id\":\"r\"}\n";
    let status = std::str::from_utf8(STATUS).expect("text");
    let (neither, only) = ("is neither uid", "a worker may send worker:ack and worker:ping only");
    let no_worker = "is no worker that you may speak for";
    let (acked, pinged) = (Some(Incoming::Acked(WORKER)), Some(Incoming::Pinged(WORKER)));
    let acked_other = Some(Incoming::Acked(ChildId(4)));
    // Whether the peer is trusted, whether it is a worker, what it sends; what it is told, what comes of it.
    for (trusted, worker, line, told, came) in [
        (false, false, status, Some(neither), None),
        (false, false, &ack, Some(neither), None),
        (false, true, status, Some(only), None),
        (false, true, "{\"command\":\"events\"}\n", Some(only), None),
        (false, true, &ack, None, acked.clone()),
        (false, true, namespaced, None, pinged),
        (false, true, others_ack, Some(no_worker), None),
        (true, true, others_ack, None, acked_other.clone()),
        (true, true, &ack, None, acked),
        (true, false, others_ack, None, acked_other),
        (true, false, namespaced, Some(no_worker), None),
    ] {
        let mut world = World::new();
        world.judge.worker_pid = if worker { me } else { NO_PID };
        let mut client = world.client();
        client.write_all(line.as_bytes()).expect("write");
        if !trusted {
            // The tests may run as root, whom every server trusts: the welcome is played with another's uid.
            let stranger = Peer::Process { pid: me, uid: 12345, trusted: false };
            let (stream, _) = world.runtime.block_on(world.server.listener.accept()).expect("accept");
            world.server.admit(stream, stranger, &world.judge);
        }
        let (lines, closed) = world.lines(&mut client, 1);
        match told {
            Some(told) => assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains(told)), "{lines:?}"),
            None => assert!(closed && lines.is_empty(), "{line}: {lines:?}"),
        }
        assert_eq!(world.acked.pop(), came, "{line}");
        assert!(world.asked.is_empty());
    }
}

#[test]
fn the_connection_of_a_worker_is_its_own() {
    let mut world = World::new();
    let (mut theirs, ours) = StdStream::pair().expect("pair");
    theirs.set_nonblocking(true).expect("nonblocking");
    {
        let _inside = world.runtime.enter();
        world.server.adopt_worker(WORKER, ours).expect("adopt");
    }
    theirs.write_all(STATUS).expect("write");
    let (lines, _) = world.lines(&mut theirs, 1);
    assert_eq!(lines[0]["ok"], false);
    theirs.write_all(b"{\"command\":\"worker:ack\",\"pid\":4711}\n").expect("write");
    let (lines, closed) = world.lines(&mut theirs, 2);
    assert!(closed && lines[0]["message"].as_str().is_some_and(|text| text.contains("no worker")), "{lines:?}");
    assert!(world.acked.is_empty());
    // It sees the end, as from einhorn, and may go on pinging.
    theirs
        .write_all(b"{\"command\":\"worker:ack\",\"pid\":1}\n{\"command\":\"worker:ping\",\"pid\":1}\n")
        .expect("write");
    world.until("acked", |world| world.acked.len() == 2);
    assert_eq!(world.acked, [Incoming::Acked(WORKER), Incoming::Pinged(WORKER)]);
    world.server.forget_worker(WORKER);
    assert!(world.server.connections.is_empty());
    assert!(theirs.write_all(STATUS).is_err());
}

#[test]
fn replies_get_out_at_the_end() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(STATUS).expect("write");
    let (server, judge) = (&mut world.server, &world.judge);
    let incoming = world.runtime.block_on(async {
        let poll = std::future::poll_fn(|cx| server.poll(cx, judge));
        tokio::time::timeout(LIMIT, poll).await.expect("in time")
    });
    let [Incoming::Ask(ask, Command::Status)] = incoming[..] else { panic!("{incoming:?}") };
    let big = "x".repeat(1_000_000);
    world.server.answer(ask, true, &big, None);
    world.server.answer(ask, true, "answered twice: nothing", None);
    let reader = std::thread::spawn(move || {
        client.set_nonblocking(false).expect("blocking");
        client.set_read_timeout(Some(LIMIT)).expect("timeout");
        let mut bytes = vec![0; 1_000_010];
        client.read_exact(&mut bytes).expect("the reply");
        bytes
    });
    let server = &mut world.server;
    world.runtime.block_on(server.flush_for(LIMIT));
    assert_eq!(world.server.connections[0].unsent(), 0);
    assert!(reader.join().expect("reader").ends_with(b"xxx"));
    // A client that does not read delays the end by the limit only.
    let mut client = world.client();
    client.write_all(b"{\"command\":\"events\"}\n").expect("write");
    world.until("subscribed", |world| world.server.has_subscribers());
    for _ in 0..1000 {
        world.server.publish(&json!({"message": "x".repeat(1000)}));
    }
    let server = &mut world.server;
    world.runtime.block_on(server.flush_for(Duration::from_millis(10)));
}

/// Lines that try to cost more than their length: each is refused, and all together within a bound that a parser
/// of quadratic cost misses by far.
#[test]
fn greedy_lines_are_cheap() {
    let size = wire::LINE_BYTES_MAX - 64;
    let aliases = format!("---%0Aa: &a [x]%0A{}", "b: [*a,*a,*a,*a]%0A".repeat(size / 20));
    let started = Instant::now();
    for line in [
        "[".repeat(size),
        format!("---%0A{}", "[".repeat(size)),
        format!("---%0A{}", "{a: ".repeat(size / 4)),
        format!("---%0A{}", "- ".repeat(size / 2)),
        format!("---%0A{}", "? ".repeat(size / 2)),
        format!("---%0A{}", "a: b%0A".repeat(size / 8)),
        format!("---%0A{}", "%0A".repeat(size / 3)),
        format!("---%0A\"{}", "\\".repeat(size)),
        format!("---%0A{}", "!".repeat(size)),
        format!("---%0A&{}", "x".repeat(size)),
        format!("---%0A|{}", "%0A x".repeat(size / 5)),
        format!("---%0A{}", "#".repeat(size)),
        aliases,
    ] {
        assert!(wire::parse(line.as_bytes(), false).is_err(), "{}", &line[..20]);
    }
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
