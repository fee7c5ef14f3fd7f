//! As much of HTTP/1.1 as the demonstration needs: keep-alive, HEAD, bodies read over, bounded heads and deadlines.
//! [`Request::parse`] is pure; [`connection`] serves one client until either side has enough.

use super::stream::Stream;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest request head.
const HEAD_MAX: usize = 8 << 10;
/// The longest body that is read over to keep the connection.
const BODY_MAX: u64 = 64 << 10;
/// From the first byte of a request to the last of its answer.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Between two requests.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// How long an idle connection may still ask once when the worker is to stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long a client may take to notice that it is closed, so that it is not reset with the answer unread.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Shared {
    line: String,
    /// Ends when the worker is to stop.
    drain: UnixStream,
    /// Held to be dropped by the last.
    _alive: std::os::unix::net::UnixStream,
}

impl Shared {
    pub(super) fn new(line: String, drain: UnixStream, alive: std::os::unix::net::UnixStream) -> Shared {
        Shared { line, drain, _alive: alive }
    }

    /// Whether the worker is to stop.
    fn draining(&self) -> bool {
        // Nothing is ever written to it, so the only thing to be read is its end.
        matches!(self.drain.try_read(&mut [0; 1]), Ok(0))
    }
}

/// One request's head.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// The path is `/`.
    root: bool,
    /// HEAD: no body in the answer.
    head: bool,
    /// The client can keep the connection, and there is no body but one of known, small length.
    keep: bool,
    /// Bytes that follow the head, when `keep`.
    body: u64,
}

impl Request {
    /// Reads a head without its last empty line. `None`: no HTTP/1 request.
    fn parse(head: &[u8]) -> Option<Request> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let token =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if words.next().is_some() || !token(method) || target.is_empty() {
            return None;
        }
        let mut keep = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return None,
        };
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "connection" => keep &= !value.to_ascii_lowercase().contains("close"),
                // Its end would have to be understood first; and who expects 100 gets the answer at once.
                "transfer-encoding" | "expect" | "upgrade" => keep = false,
                "content-length" => {
                    let number = value.parse::<u64>().ok().filter(|_| !value.starts_with('+'))?;
                    if length.replace(number).is_some_and(|other| other != number) {
                        return None;
                    }
                }
                _ => {}
            }
        }
        let body = length.unwrap_or(0);
        let path = target.split('?').next()?;
        Some(Request { root: path == "/", head: method == "HEAD", keep: keep && body <= BODY_MAX, body })
    }
}

/// Serves one connection to its end.
pub(super) async fn connection(stream: Stream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    let last = loop {
        match exchange(&stream, &shared, &mut buffer).await {
            Ok(After::Again) => {}
            last => break last,
        }
    };
    if matches!(last, Ok(After::Answered)) && stream.end().is_ok() {
        // Closing with unread bytes would reset the connection and take the last answer with it.
        let until = Instant::now() + LINGER_MAX;
        while let Ok(Ok(1..)) = timeout_at(until, stream.read(&mut buffer)).await {
            buffer.clear();
        }
    }
}

/// What follows a request.
enum After {
    /// Another one may.
    Again,
    /// This was the last.
    Answered,
    /// There was none.
    Idle,
}

/// One request and its answer.
async fn exchange(stream: &Stream, shared: &Shared, buffer: &mut Vec<u8>) -> io::Result<After> {
    if buffer.is_empty() && !first_byte(stream, shared, buffer).await? {
        return Ok(After::Idle);
    }
    let whole = async {
        let request = match head(stream, buffer).await? {
            Ok(request) => request,
            Err(status) => {
                answer(stream, status, &format!("{status}\n"), false, false).await?;
                return Ok(After::Answered);
            }
        };
        if request.keep {
            skip(stream, buffer, request.body).await?;
        }
        let keep = request.keep && !shared.draining();
        let (status, body) = if request.root { ("200 OK", shared.line.as_str()) } else { ("404 Not Found", "404\n") };
        answer(stream, status, body, request.head, keep).await?;
        Ok(if keep { After::Again } else { After::Answered })
    };
    timeout(REQUEST_MAX, whole).await?
}

/// Waits for a request to begin: as long as an idle connection may live, or, once the worker is to stop, a moment.
async fn first_byte(stream: &Stream, shared: &Shared, buffer: &mut Vec<u8>) -> io::Result<bool> {
    if !shared.draining() {
        let mut read = pin!(timeout(IDLE_MAX, stream.read(buffer)));
        let mut drained = pin!(shared.drain.readable());
        let came = poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => drained.as_mut().poll(context).map(|_| None),
        });
        if let Some(read) = came.await {
            return Ok(read?? > 0);
        }
    }
    Ok(timeout(GRACE, stream.read(buffer)).await?? > 0)
}

/// Reads a head and takes it out of the buffer. `Err`: the status line for what is no acceptable head.
async fn head(stream: &Stream, buffer: &mut Vec<u8>) -> io::Result<Result<Request, &'static str>> {
    const BAD: &str = "400 Bad Request";
    loop {
        // An empty line before a request is allowed (RFC 9112, 2.2).
        while buffer.starts_with(b"\r\n") {
            buffer.drain(..2);
        }
        if buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase() && *byte != b'\r') {
            return Ok(Err(BAD));
        }
        match buffer.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(end) if end <= HEAD_MAX => {
                let request = Request::parse(&buffer[..end]).ok_or(BAD);
                buffer.drain(..end + 4);
                return Ok(request);
            }
            None if buffer.len() <= HEAD_MAX => {}
            _ => return Ok(Err("431 Request Header Fields Too Large")),
        }
        if stream.read(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads over a body.
async fn skip(stream: &Stream, buffer: &mut Vec<u8>, mut body: u64) -> io::Result<()> {
    loop {
        let here = usize::try_from(body).unwrap_or(usize::MAX).min(buffer.len());
        buffer.drain(..here);
        body -= here as u64;
        if body == 0 {
            return Ok(());
        }
        if stream.read(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes an answer in one piece.
async fn answer(stream: &Stream, status: &str, body: &str, head: bool, keep: bool) -> io::Result<()> {
    let kind = if body.starts_with('{') { "application/json" } else { "text/plain" };
    let close = if keep { "" } else { "Connection: close\r\n" };
    let length = body.len();
    let body = if head { "" } else { body };
    let text = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{close}\r\n{body}");
    stream.write_all(text.as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn heads_are_read() {
        let request = |root, head, keep, body| Some(Request { root, head, keep, body });
        for (head, expected) in [
            ("GET / HTTP/1.1", request(true, false, true, 0)),
            ("GET /?x=/ HTTP/1.1\r\nHost: a:1", request(true, false, true, 0)),
            ("HEAD /x HTTP/1.1", request(false, true, true, 0)),
            ("GET / HTTP/1.0", request(true, false, false, 0)),
            ("GET / HTTP/1.1\r\ncOnnection: Close", request(true, false, false, 0)),
            ("POST / HTTP/1.1\r\nContent-Length: 65536", request(true, false, true, 65536)),
            ("POST / HTTP/1.1\r\nContent-Length: 65537", request(true, false, false, 65537)),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1", request(true, false, true, 1)),
            ("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1", request(true, false, false, 1)),
            ("POST / HTTP/1.1\r\nContent-Length: +1", None),
            ("POST / HTTP/1.1\r\nContent-Length: -1", None),
            ("GET / HTTP/1.1\r\nno colon", None),
            ("GET / HTTP/1.1 ", None),
            ("GET /", None),
            ("G\u{7f}T / HTTP/1.1", None),
            ("GET / HTTP/3", None),
            ("", None),
        ] {
            assert_eq!(Request::parse(head.as_bytes()), expected, "{head}");
        }
        assert_eq!(Request::parse(b"GET /\xff HTTP/1.1"), None);
    }
}
