//! One GET over a stream.

use super::DEADLINE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};

/// GET from an inet address: the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(stream, path)
}

/// GET from a unix path, or from an abstract name if it begins with `@`.
pub(crate) fn get_unix(address: &str, path: &str) -> io::Result<String> {
    let address = match address.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name)?,
        None => UnixAddr::from_pathname(address)?,
    };
    exchange_unix(UnixStream::connect_addr(&address)?, path)
}

/// GET over an open unix stream.
pub(crate) fn exchange_unix(stream: UnixStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(stream, path)
}

fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    // In one piece: on a seqpacket socket every write is a message.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut reply = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stream.read(&mut chunk)? {
            0 => break,
            length => reply.extend_from_slice(&chunk[..length]),
        }
    }
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {reply:?}")))?;
    if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
        return Err(io::Error::other(format!("{head}\n{body}")));
    }
    // A chunked body (node, uvicorn) still holds its text: the tests look for words in it.
    Ok(body.to_owned())
}
