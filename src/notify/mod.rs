//! sd_notify both ways: what workers say to prebind, and what prebind says to the manager above it.
//! [`note`] is pure; [`socket`] is the workers' socket: it hands on who sent what, and decides nothing; [`upward`]
//! speaks with sd-notify, under the names of [`kept`] where descriptors go. Workers never see the outer socket, and no bytes of theirs can stop the loop.

pub mod kept;
pub mod note;
pub mod socket;
pub mod upward;

pub use kept::Stored;
pub use note::{Access, Garbage, Note, StoreWords};
pub use socket::{Datagram, NotifyError, WorkersSocket};
pub use upward::{NotifyState, Upward};
