//! The control client, a thin entry.

fn main() {}
