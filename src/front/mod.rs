//! The front doors: strings in, [`crate::plan::Plan`] out. They read nothing themselves: no file, environment or clock.

pub mod activate;
pub mod argv;
pub mod circus;
pub mod pattern;
pub mod remark;
pub mod units;

#[cfg(test)]
mod mutation;
