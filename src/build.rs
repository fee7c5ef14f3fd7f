//! How the programs are linked.

use std::env;

/// At a fixed address: what is linked as position independent is relocated at every start, page by page, which is a
/// fifth of the time from prebind's exec to the first answer. Only where the C compiler's own start files are used.
fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found.split(',').any(|one| one == value));
    if is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
