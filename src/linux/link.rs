//! What is linked in rather than loaded at the start: each shared library costs a good part of the time from prebind's
//! exec to the first worker.

#![allow(unsafe_code)]

// The unwinder of the C compiler.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
unsafe extern "C" {}

/// The one function of the C library of mathematics that anything calls: a progress bar does. That library cannot be
/// linked in alone, its archive needs the C library's.
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
// SAFETY: the signature and the meaning are those of C's pow, which nothing else defines in this program.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
