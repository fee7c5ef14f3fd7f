//! (room)

pub mod ctl;
