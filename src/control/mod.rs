//! How a running prebind is spoken to. Receives lines on one UNIX stream socket, hands on what the supervisor is asked
//! ([`server::Incoming`]), and turns its answers and happenings into text. [`wire`], [`mod@status`], [`options`] and [`mod@event`] are pure:
//! text <-> values; [`place`] finds and holds the socket's path; [`server`] and [`client`] are its two ends.
//! It never decides anything about a worker, and no client, however slow or hostile, costs the service anything.

pub mod client;
mod connection;
pub mod einhorn;
pub mod event;
pub mod options;
pub mod place;
pub mod server;
pub mod status;
pub mod wire;

pub use event::{EventLine, Level, Names, event};
pub use place::{Claim, PlaceError, claim};
pub use server::{Incoming, Judge, Server};
pub use status::{Facts, SocketLine, reply_to, status_json};
