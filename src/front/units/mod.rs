//! systemd's unit files, read without systemd: `find` tells which files a unit is made of, `lex` reads their lines, `name`
//! fills specifiers, `values`, `words` and `address` read what stands behind the `=`, `socket` and `service` make plain data of
//! it, `judge` says what becomes of the rest. `door` gathers the units that were asked for, `plan` puts them together.
//! Receives words and bytes, hands on sockets, services, [`Remark`]s and problems; it opens nothing itself.

pub mod address;
mod bits;
pub mod condition;
mod directories;
mod door;
mod environment;
pub mod find;
pub mod judge;
pub mod keys;
mod kill;
pub mod lex;
mod limits;
#[cfg(test)]
mod memory;
pub mod name;
mod plan;
mod process;
mod relations;
pub mod service;
pub mod socket;
mod statuses;
mod stdio;
pub mod values;
pub mod words;

pub use door::{Machine, Request};
pub use plan::{Read, read};

pub use crate::front::remark::Remark;

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
