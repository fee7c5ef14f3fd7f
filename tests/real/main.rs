//! The real thing: prebind as users run it, on a real kernel, with real servers. One file per chapter of the manual.
//! Each test has its own directory, its own control socket and its own ports, so that all run at once.
//! PREBIND and PREBINDCTL name the binaries to test; without them it is the build beside this test.
#![allow(unsafe_code)]

mod harness;

mod activate;
mod badinput;
mod circus;
mod circus_files;
mod circusctl;
mod container;
mod control;
mod daemons;
mod docker;
mod einhorn;
mod einhornsh;
mod inherit;
mod kept;
mod logs;
mod notify;
mod readme;
mod reexec;
mod reread;
mod servers;
mod servers_load;
mod slots;
mod sockets;
mod spawn;
mod stop;
mod storm;
mod strays;
mod supervise;
mod terminal;
mod under_systemd;
mod units;
mod units_check;
mod units_lives;
mod units_notify;
mod upgrade;
