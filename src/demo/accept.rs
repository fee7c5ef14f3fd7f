//! One thread per listening socket, blocked in accept: whoever waited longest gets the next connection, so the load
//! is even, and nobody's O_NONBLOCK changes. A blocked thread is woken by a signal, because everything else that
//! could end its accept (shutdown, a receive timeout) belongs to the shared socket.

#![allow(unsafe_code)]

use super::http::{Shared, connection};
use super::stream::Stream;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{SockFlag, accept4};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Ignored by default, so that one too many does no harm.
const WAKE: Signal = Signal::SIGURG;
/// Threads that only wait need little.
pub(super) const STACK_BYTES: usize = 128 << 10;
/// For how long a worker that was told to stop goes on taking what is queued: the queue is shared with the others,
/// and under load it never ends.
const QUEUE_MAX: Duration = Duration::from_secs(1);
/// After a failure that will not be gone at once (no descriptor left).
const PAUSE: Duration = Duration::from_millis(50);

/// A running acceptor.
pub(super) struct Acceptor {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
}

impl Acceptor {
    /// Starts the thread; it holds `shared` until it ends.
    pub(super) fn start(listener: OwnedFd, shared: Arc<Shared>, runtime: Handle) -> io::Result<Acceptor> {
        // No SA_RESTART: accept is to be interrupted.
        let action = SigAction::new(SigHandler::Handler(woken), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(WAKE, &action) }?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let work = move || accept_all(&listener, &stop, |stream| spawn(stream, &shared, &runtime));
        let thread = Builder::new().name("accept".into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Acceptor { thread, stopping })
    }

    /// From now on only what is queued is accepted.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether it has ended; if not it is woken, to be asked again: it may have been just before its accept.
    pub(super) fn wake(&self) -> bool {
        let ended = self.thread.is_finished();
        if !ended {
            // SAFETY: the thread is neither joined nor detached while `self` is there, so its id is its own.
            unsafe { libc::pthread_kill(self.thread.as_pthread_t() as _, WAKE as libc::c_int) };
        }
        ended
    }
}

extern "C" fn woken(_: libc::c_int) {}

/// Accepts until told to stop, then what is queued.
fn accept_all(listener: &OwnedFd, stop: &AtomicBool, mut hand_on: impl FnMut(OwnedFd)) {
    let mut until = None;
    loop {
        if stop.load(Ordering::SeqCst) {
            let until = *until.get_or_insert_with(|| Instant::now() + QUEUE_MAX);
            if Instant::now() > until || !readable(listener, PollTimeout::ZERO) {
                return;
            }
        }
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            // SAFETY: accept4 just made it.
            Ok(stream) => hand_on(unsafe { OwnedFd::from_raw_fd(stream) }),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(Errno::EAGAIN) => wait_readable(listener),
            // Somebody shut the shared socket down, or it never was one: that does not mend.
            Err(errno @ (Errno::EINVAL | Errno::EBADF | Errno::ENOTSOCK | Errno::EOPNOTSUPP)) => {
                eprintln!("prebind: the demonstration worker cannot accept: {}", errno.desc().to_lowercase());
                return;
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn readable(socket: &impl AsFd, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

/// Blocks until there is something, or a signal came.
pub(super) fn wait_readable(socket: &impl AsFd) {
    readable(socket, PollTimeout::NONE);
}

/// Hands a connection to the runtime's thread.
fn spawn(stream: OwnedFd, shared: &Arc<Shared>, runtime: &Handle) {
    let _entered = runtime.enter();
    match Stream::new(stream) {
        Ok(stream) => drop(runtime.spawn(connection(stream, shared.clone()))),
        Err(error) => eprintln!("prebind: the demonstration worker cannot serve a connection: {error}"),
    }
}
