//! The table of contents: argv -> Plan -> open sockets -> run -> exit code.

fn main() {}
