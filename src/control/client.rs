//! The client's end of the control socket. Receives where to look and what to ask, hands on replies. Blocking, with
//! deadlines; it knows nothing of tables and exit codes.

use super::place::{answering_pid, directories, reason};
use super::wire;
use nix::errno::Errno;
use nix::unistd::geteuid;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the longest reply that is read: `status` of some 100 000 workers.
const REPLY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("nobody answers on {}: {reason} ({remedy})", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No socket that anybody answers on was found.
    #[error("no prebind runs here: nobody answers in {0} (is prebind running? -d PATH or -c NAME)")]
    NoneRuns(String),
    /// More than one was found.
    #[error("several prebinds run here: {} (choose one: -c NAME or -d PATH)", names(_0))]
    Several(Vec<PathBuf>),
    /// It listens but does not answer.
    #[error("no answer on {} within {seconds} s", path.display())]
    Late {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// It went away before it answered.
    #[error("the connection to {} ended without an answer: {reason}", path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// It said something else than a reply.
    #[error("no prebind answers on {}: its reply cannot be understood", .0.display())]
    Foreign(PathBuf),
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Whether it was done, or the answer is yes.
    pub ok: bool,
    /// For people.
    pub message: String,
    /// More follow.
    pub wait: bool,
    /// To which request, where that had a number.
    pub id: Option<u64>,
    /// For machines.
    pub data: Option<Value>,
}

/// Finds the socket: `path`, else `name` in a default directory, else the only one that anybody answers on.
pub fn find(
    path: Option<PathBuf>,
    name: Option<&str>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ClientError> {
    if let Some(path) = path {
        return Ok(path);
    }
    let directories: Vec<PathBuf> = directories(geteuid(), env).into_iter().map(|directory| directory.path).collect();
    find_among(&directories, name)
}

fn find_among(directories: &[PathBuf], name: Option<&str>) -> Result<PathBuf, ClientError> {
    if let Some(name) = name {
        let paths: Vec<PathBuf> = directories.iter().map(|path| path.join(format!("{name}.sock"))).collect();
        // One that exists says more, when nobody answers on it, than one that does not.
        let answering = paths.iter().find(|path| answering_pid(path).is_ok());
        let best = answering.or_else(|| paths.iter().find(|path| path.exists())).or(paths.first());
        return best.cloned().ok_or_else(|| ClientError::NoneRuns(names(directories)));
    }
    let mut found: Vec<PathBuf> = directories.iter().flat_map(|path| sockets_in(path)).collect();
    found.sort();
    match found.len() {
        0 => Err(ClientError::NoneRuns(names(directories))),
        1 => Ok(found.remove(0)),
        _ => Err(ClientError::Several(found)),
    }
}

/// The sockets that somebody answers on; one that we may not connect to counts, so that it is said.
fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sock"));
    paths.filter(|path| matches!(answering_pid(path), Ok(_) | Err(Errno::EACCES))).collect()
}

/// A connection to a running prebind.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    patience: Option<Duration>,
}

impl Client {
    /// Connects. `patience` bounds the wait for each reply; `None` waits for ever.
    pub fn connect(path: &Path, patience: Option<Duration>) -> Result<Client, ClientError> {
        let nobody = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "ask as the user that runs prebind, or as root",
                _ => "is prebind running? -d PATH or -c NAME",
            };
            ClientError::Nobody { path: path.into(), reason: reason(&error), remedy }
        };
        let stream = UnixStream::connect(path).map_err(nobody)?;
        stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).map_err(nobody)?;
        Ok(Client { path: path.into(), stream: BufReader::new(stream), patience })
    }

    /// Sends one request.
    pub fn ask(&mut self, request: &Value) -> Result<(), ClientError> {
        match self.stream.get_mut().write_all(wire::encode(request).as_bytes()) {
            // It may have refused us, and said why, before it read anything.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(self.failed(&error)),
            Ok(()) => Ok(()),
        }
    }

    /// The next reply; `None` when the server ended.
    pub fn next_reply(&mut self) -> Result<Option<Answered>, ClientError> {
        let mut line = Vec::new();
        let read = Read::take(&mut self.stream, REPLY_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) if line.last() == Some(&b'\n') => {}
            Ok(_) => return Err(self.lost("half a reply".into())),
            Err(error) => return Err(self.failed(&error)),
        }
        line.pop();
        let Some(Value::Object(mut reply)) = wire::parse_reply(&line) else {
            return Err(ClientError::Foreign(self.path.clone()));
        };
        let Some(Value::String(message)) = reply.remove("message") else {
            return Err(ClientError::Foreign(self.path.clone()));
        };
        let flag = |name: &str| reply.get(name).and_then(Value::as_bool).unwrap_or(false);
        let id = reply.get("request_id").and_then(Value::as_u64);
        Ok(Some(Answered { ok: flag("ok"), message, wait: flag("wait"), id, data: reply.remove("data") }))
    }

    /// The only reply to a request.
    pub fn reply(&mut self) -> Result<Answered, ClientError> {
        self.next_reply()?.ok_or_else(|| self.lost("closed".into()))
    }

    fn lost(&self, reason: String) -> ClientError {
        ClientError::Lost { path: self.path.clone(), reason }
    }

    fn failed(&self, error: &io::Error) -> ClientError {
        match (error.kind(), self.patience) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(patience)) => {
                ClientError::Late { path: self.path.clone(), seconds: patience.as_secs() }
            }
            _ => self.lost(reason(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A directory that goes with the test.
    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            // Left behind it would only lie in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn place(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("prebind-client-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("directory");
        Place(path)
    }

    #[test]
    fn the_only_one_that_answers_is_found() {
        let (first, second) = (place("first"), place("second"));
        let directories = [first.0.clone(), second.0.clone()];
        let missing = find_among(&directories, None).expect_err("none").to_string();
        assert!(missing.starts_with("no prebind runs here: nobody answers in "), "{missing}");
        drop(UnixListener::bind(first.0.join("stale.sock")).expect("stale"));
        let _web = UnixListener::bind(second.0.join("web.sock")).expect("web");
        assert_eq!(find_among(&directories, None).expect("one"), second.0.join("web.sock"));
        let _other = UnixListener::bind(first.0.join("other.sock")).expect("other");
        let several = find_among(&directories, None).expect_err("two").to_string();
        assert!(
            several.contains("first") && several.ends_with("web.sock (choose one: -c NAME or -d PATH)"),
            "{several}"
        );
        assert_eq!(find_among(&directories, Some("web")).expect("web"), second.0.join("web.sock"));
        assert_eq!(find_among(&directories, Some("stale")).expect("stale"), first.0.join("stale.sock"));
        assert_eq!(find_among(&directories, Some("none")).expect("none"), first.0.join("none.sock"));
    }

    #[test]
    fn whoever_does_not_answer_is_told_apart() {
        let place = place("silent");
        let path = place.0.join("x.sock");
        let nobody = |path: &Path| Client::connect(path, None).expect_err("nobody").to_string();
        let remedy = "(is prebind running? -d PATH or -c NAME)";
        assert_eq!(nobody(&path), format!("nobody answers on {}: no such file {remedy}", path.display()));
        let listener = UnixListener::bind(&path).expect("bind");
        let answer = |reply: &[u8]| {
            let mut client = Client::connect(&path, Some(Duration::from_millis(20))).expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            client.ask(&serde_json::json!({"command": "status"})).expect("ask");
            let silent = reply.is_empty();
            server.write_all(reply).expect("reply");
            let kept = silent.then_some(server);
            let answered = client.reply();
            drop(kept);
            answered
        };
        assert!(matches!(answer(b""), Err(ClientError::Late { .. })));
        assert!(matches!(answer(b"{\"mess"), Err(ClientError::Lost { .. })));
        assert!(matches!(answer(b"HTTP/1.1 200 OK\n"), Err(ClientError::Foreign(_))));
        assert!(matches!(answer(b"{}\n"), Err(ClientError::Foreign(_))));
        let good = answer(b"{\"message\":\"50 %25\",\"ok\":true,\"data\":{}}\n").expect("good");
        assert_eq!(
            (good.message.as_str(), good.ok, good.wait, good.data),
            ("50 %", true, false, Some(Value::Object(Default::default())))
        );
        drop(listener);
        assert_eq!(nobody(&path), format!("nobody answers on {}: connection refused {remedy}", path.display()));
    }
}
