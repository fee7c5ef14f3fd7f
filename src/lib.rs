//! prebind binds the sockets first, then launches the program: it pre-binds named sockets, passes them to N
//! supervised copies of a command, and keeps the service answering through crashes, rescaling and restarts.
//!
//! For programs written in Rust, [`worker`] is the public API: the sockets that prebind passed, by name, and the
//! words that a worker says. It is all there is with `default-features = false`. The other modules are the rooms of
//! the launcher, in the order that data flows; they are public for `main.rs` and the simulation only.

pub mod worker;

#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod control;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod demo;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod exit;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod front;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod linux;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod logs;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod notify;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod plan;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod run;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod sockets;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod spawn;
#[cfg(feature = "launcher")]
#[doc(hidden)]
pub mod supervise;
