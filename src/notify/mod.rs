//! sd_notify both ways: what workers say to prebind, and what prebind says to the manager above it.
//! [`note`] is pure; [`socket`] is the workers' socket; [`upward`] speaks through sd-notify.

pub mod note;

pub use note::Note;
