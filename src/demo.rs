//! The embedded worker: what prebind runs when it is given sockets but no COMMAND. It takes the passed sockets as any
//! worker does ([`crate::worker`]) and answers which process served, so that one command shows the whole thing at
//! work. It knows nothing of the launcher. Connections are served on one tokio thread; each listening socket has a
//! thread that blocks in accept, because the socket is shared and its O_NONBLOCK is not ours to change.

mod accept;
mod http;
mod stream;

use crate::exit::Exit;
use crate::worker::{Error, Worker};
use accept::Acceptor;
use http::Shared;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// The only argument of the process that is to call [`main`].
pub const ARGUMENT: &str = "--demo-worker";

/// The longest that open connections keep a worker that was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Between two tries to wake an acceptor.
const WAKE_EVERY: Duration = Duration::from_millis(2);

/// Serves until TERM, INT or QUIT.
pub fn main() -> Exit {
    let mut worker = Worker::from_env();
    match start(&mut worker) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("prebind: the demonstration worker: {error}");
            Exit::System
        }
    }
}

fn start(worker: &mut Worker) -> Result<(), Box<dyn std::error::Error>> {
    let (listeners, datagrams) = sockets(worker)?;
    if listeners.is_empty() && datagrams.is_empty() {
        return Err("none of the passed sockets is tcp, unix or udp (-b web=8080)".into());
    }
    let (told, telling) = std::os::unix::net::UnixStream::pair()?;
    told.set_nonblocking(true)?;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        signal_hook::low_level::pipe::register(signal, telling.try_clone()?)?;
    }
    // Once, not once per worker; a later generation is no news either.
    if worker.slot().unwrap_or(0) == 0 && worker.generation().unwrap_or(1) == 1 {
        eprintln!(
            "prebind: no COMMAND, so this is the demonstration: it answers on / which worker served (to run your own: \
             prebind -b ... -- COMMAND)"
        );
    }
    let line = line(worker);
    for socket in datagrams {
        echo(socket, line.clone())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let told = UnixStream::from_std(told)?;
        serve(listeners, line, told, || worker.ready()).await
    })?;
    // A thread of a UDP socket may sit in its read for ever.
    runtime.shutdown_background();
    Ok(())
}

/// All the passed sockets that can be served: listening ones, and UDP.
fn sockets(worker: &mut Worker) -> Result<(Vec<OwnedFd>, Vec<UdpSocket>), Error> {
    let mut listeners = Vec::new();
    let mut datagrams = Vec::new();
    if worker.is_empty() {
        // Says why there is none.
        worker.fd(0)?;
    }
    for position in 0..worker.len() {
        if let Ok(listener) = worker.tcp_listener(position) {
            listeners.push(listener.into());
        } else if let Ok(listener) = worker.unix_listener(position) {
            listeners.push(listener.into());
        } else if let Ok(socket) = worker.udp_socket(position) {
            datagrams.push(socket);
        }
    }
    Ok((listeners, datagrams))
}

/// `{"service":"web","slot":0,"pid":10,"generation":1}`
fn line(worker: &Worker) -> String {
    let service = serde_json::Value::from(worker.service().unwrap_or("demo"));
    let (slot, generation) = (worker.slot().unwrap_or(0), worker.generation().unwrap_or(1));
    let pid = std::process::id();
    format!("{{\"service\":{service},\"slot\":{slot},\"pid\":{pid},\"generation\":{generation}}}\n")
}

/// Answers each datagram with the same line, on a thread of its own: the socket blocks as the others do.
fn echo(socket: UdpSocket, line: String) -> io::Result<()> {
    let answer = move || {
        loop {
            match socket.recv_from(&mut [0; 1]) {
                // A peer that is gone is no concern of the next one.
                Ok((_, peer)) => drop(socket.send_to(line.as_bytes(), peer)),
                // An ICMP error of an earlier answer, or O_NONBLOCK asked for.
                Err(_) => accept::wait_readable(&socket),
            }
        }
    };
    std::thread::Builder::new().name("udp".into()).stack_size(accept::STACK_BYTES).spawn(answer)?;
    Ok(())
}

/// Serves the listeners until a byte arrives on `told`, or its end; then drains: what is queued is accepted, each
/// connection is answered once more or closed after a short grace.
async fn serve(
    listeners: Vec<OwnedFd>,
    line: String,
    told: UnixStream,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // Both pairs carry no byte. Dropping `draining` wakes every connection; `all_gone` ends when the last one is.
    let (draining, drain) = UnixStream::pair()?;
    let (all_gone, alive) = std::os::unix::net::UnixStream::pair().and_then(|(gone, alive)| {
        gone.set_nonblocking(true)?;
        Ok((UnixStream::from_std(gone)?, alive))
    })?;
    let shared = Arc::new(Shared::new(line, drain, alive));
    let acceptors = listeners
        .into_iter()
        .map(|listener| Acceptor::start(listener, shared.clone(), tokio::runtime::Handle::current()))
        .collect::<io::Result<Vec<_>>>()?;
    drop(shared);
    if let Err(error) = ready() {
        eprintln!("prebind: the demonstration worker cannot say that it is ready: {error}");
    }

    heard(&told).await;

    acceptors.iter().for_each(Acceptor::stop);
    while !acceptors.iter().all(Acceptor::wake) {
        sleep(WAKE_EVERY).await;
    }
    drop(acceptors);
    drop(draining);
    if timeout(DRAIN_MAX, heard(&all_gone)).await.is_err() {
        eprintln!("prebind: the demonstration worker closes connections that did not end in time");
    }
    Ok(())
}

/// Waits for a byte or the end. An error can only mean the same: nobody will tell any more.
async fn heard(stream: &UnixStream) {
    while let Ok(()) = stream.readable().await {
        match stream.try_read(&mut [0; 16]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::serve;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    const LINE: &str = "{\"service\":\"web\",\"slot\":0,\"pid\":10,\"generation\":1}\n";

    struct Server {
        address: SocketAddr,
        /// What the workers share, kept open as prebind keeps it.
        listener: TcpListener,
        tell: Option<UnixStream>,
        /// Hears of its good end.
        ended: mpsc::Receiver<()>,
    }

    impl Server {
        fn start() -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            Server::on(listener)
        }

        fn on(listener: TcpListener) -> Server {
            let (told, tell) = UnixStream::pair().unwrap();
            told.set_nonblocking(true).unwrap();
            let shared = listener.try_clone().unwrap();
            let (is_ready, ready) = mpsc::channel();
            let (has_ended, ended) = mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
                let run = async {
                    let told = tokio::net::UnixStream::from_std(told).unwrap();
                    serve(vec![shared.into()], LINE.to_owned(), told, || {
                        is_ready.send(()).unwrap();
                        Ok(())
                    })
                    .await
                };
                runtime.block_on(run).unwrap();
                let _ = has_ended.send(());
            });
            ready.recv_timeout(Duration::from_secs(10)).unwrap();
            let address = listener.local_addr().unwrap();
            Server { address, listener, tell: Some(tell), ended }
        }

        fn client(&self) -> Client {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Client { reader: BufReader::new(stream) }
        }

        fn tell(&mut self) {
            self.tell = None;
        }

        /// Waits for the end; how long it took.
        fn join(mut self) -> Duration {
            let start = Instant::now();
            self.tell();
            self.ended.recv_timeout(Duration::from_secs(20)).unwrap();
            start.elapsed()
        }
    }

    struct Client {
        reader: BufReader<TcpStream>,
    }

    impl Client {
        fn send(&mut self, text: &str) {
            self.reader.get_mut().write_all(text.as_bytes()).unwrap();
        }

        /// Status, whether the connection stays, body.
        fn answer(&mut self) -> (u16, bool, String) {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                assert!(self.reader.read_line(&mut line).unwrap() > 0, "closed after {head:?}");
                if line == "\r\n" {
                    break;
                }
                head.push(line.trim_end().to_ascii_lowercase());
            }
            let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut body).unwrap();
            (status, !head.contains(&"connection: close".to_owned()), String::from_utf8(body).unwrap())
        }

        fn get(&mut self) -> (u16, bool, String) {
            self.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            self.answer()
        }

        fn assert_closed(&mut self) {
            let mut rest = Vec::new();
            self.reader.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
    }

    #[test]
    fn answers_and_keeps_alive() {
        let server = Server::start();
        let mut client = server.client();
        assert_eq!(client.get(), (200, true, LINE.to_owned()));
        assert_eq!(client.get(), (200, true, LINE.to_owned()));
        client.send("GET /?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().0, 200);
        client.send("GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n");
        let (status, stays, _) = client.answer();
        assert_eq!((status, stays), (404, true));
        // A body is read over; two requests in one piece are answered in turn.
        client.send("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n");
        assert_eq!([client.answer().0, client.answer().0, client.answer().0], [200, 200, 404]);
        client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer(), (200, false, LINE.to_owned()));
        client.assert_closed();
        let mut old = server.client();
        old.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(old.answer(), (200, false, LINE.to_owned()));
        old.assert_closed();
        server.join();
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let server = Server::start();
        let mut client = server.client();
        client.send("HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n");
        let mut all = String::new();
        client.reader.read_to_string(&mut all).unwrap();
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n"), "{all}");
        assert!(all.contains(&format!("Content-Length: {}\r\n", LINE.len())), "{all}");
        server.join();
    }

    #[test]
    fn bad_requests_are_refused_and_harm_nobody() {
        let server = Server::start();
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000));
        for (request, status) in [
            ("\u{16}\u{3}\u{1}", 400),
            ("hello\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET  HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (&long, 431),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\nabc", 200),
        ] {
            let mut client = server.client();
            client.send(request);
            let (answered, stays, _) = client.answer();
            assert_eq!((answered, stays), (status, false), "{request}");
            client.assert_closed();
        }
        // Those who leave early or say nothing cost nothing.
        let silent: Vec<Client> = (0..50).map(|_| server.client()).collect();
        server.client().send("GET / HT");
        assert_eq!(server.client().get().0, 200);
        drop(silent);
        server.join();
    }

    #[test]
    fn draining_answers_once_more_and_ends() {
        let mut server = Server::start();
        let (mut idle, mut busy, mut half) = (server.client(), server.client(), server.client());
        for client in [&mut idle, &mut busy, &mut half] {
            assert!(client.get().1);
        }
        half.send("GET / HT");
        // In the queue when it is told to stop, or served before: answered in either case.
        let mut queued = server.client();
        queued.send("GET / HTTP/1.1\r\n\r\n");
        server.tell();
        // It is told, but may not have heard yet.
        assert!((0..100_000).any(|_| busy.get() == (200, false, LINE.to_owned())));
        busy.assert_closed();
        half.send("TP/1.1\r\n\r\n");
        assert_eq!(half.answer(), (200, false, LINE.to_owned()));
        assert_eq!(queued.answer().0, 200);
        idle.assert_closed();
        drop(queued);
        let rest = server.listener.try_clone().unwrap();
        assert!(server.join() < Duration::from_secs(5));
        // The socket is as it was: blocking, listening, its queue there for the next worker.
        let flags = nix::fcntl::fcntl(&rest, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & nix::fcntl::OFlag::O_NONBLOCK.bits(), 0);
        let next = Server::on(rest);
        assert_eq!(next.client().get().0, 200);
        next.join();
    }

    #[test]
    fn two_share_one_socket_and_lose_nothing_when_one_ends() {
        let first = Server::start();
        let second = Server::on(first.listener.try_clone().unwrap());
        let address = first.address;
        let clients = std::thread::spawn(move || {
            for _ in 0..300 {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                assert_eq!(Client { reader: BufReader::new(stream) }.get().0, 200);
            }
        });
        assert!(first.join() < Duration::from_secs(5));
        clients.join().unwrap();
        second.join();
    }

    #[test]
    fn a_socket_with_o_nonblock_is_served_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Server::on(listener);
        assert_eq!(server.client().get().0, 200);
        server.join();
    }
}
