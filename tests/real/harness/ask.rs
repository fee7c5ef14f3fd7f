//! The control socket as a client without prebindctl sees it: a line is one message.

use super::DEADLINE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub(crate) struct Control(PathBuf);

impl Control {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Control {
        Control(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn connect(&self) -> Result<UnixStream, String> {
        let stream = UnixStream::connect(&self.0).map_err(|e| format!("{}: {e}", self.0.display()))?;
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("timeout");
        Ok(stream)
    }

    /// One request; the first reply to it that `done` accepts.
    pub(crate) fn ask(&self, request: &Value, done: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let mut stream = self.connect()?;
        let line = request.to_string().replace('%', "%25") + "\n";
        stream.write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let mut said = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line.map_err(|e| format!("{e}, after {said}"))?;
            let reply: Value =
                serde_json::from_str(&line.replace("%25", "%")).map_err(|e| format!("{e} in reply {line:?}"))?;
            if done(&reply) {
                return Ok(reply);
            }
            said.push_str(&line);
        }
        Err(format!("the connection closed after {said:?}"))
    }

    /// The status, as `prebindctl status --json` prints it.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let reply =
            self.ask(&json!({"command": "status", "id": 1, "options": {}}), |reply| reply["data"].is_object())?;
        Ok(reply["data"].clone())
    }
}
