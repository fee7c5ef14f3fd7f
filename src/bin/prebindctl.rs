//! The control client, a thin entry.

fn main() -> std::process::ExitCode {
    prebind::cli::ctl::main(std::env::args_os().collect()).into()
}
