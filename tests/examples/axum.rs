//! An axum server whose socket comes from the launcher, by LISTEN_FDS through the listenfd crate:
//!
//!     cargo build --example axum
//!     prebind -b web=127.0.0.1:8080,n -n 4 -- target/debug/examples/axum
//!
//! Without a launcher it binds 127.0.0.1:3000 itself. It says READY=1 once it serves, and at TERM answers what it has
//! begun before it ends (hyper closes a connection that it accepted but has not read from yet, so under load a client
//! may have to try again).

use axum::Router;
use axum::routing::get;
use listenfd::ListenFd;
use std::error::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(listener) => listener,
        None => std::net::TcpListener::bind("127.0.0.1:3000")?,
    };
    // tokio needs it. The flag is shared by all workers; they are all of this program, so they agree. `,n` in the
    // address has it set before the first one starts.
    listener.set_nonblocking(true)?;
    let app = Router::new().route("/", get(|| async { format!("answered by {}\n", std::process::id()) }));
    let mut term = signal(SignalKind::terminate())?;
    let server = axum::serve(TcpListener::from_std(listener)?, app).with_graceful_shutdown(async move {
        term.recv().await;
    });
    // The socket was bound before this process began, so from here on nothing can fail but the server itself.
    prebind::worker::ready()?;
    Ok(server.await?)
}
