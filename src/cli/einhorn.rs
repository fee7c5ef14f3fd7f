//! What is printed under einhorn's name.

use super::{Asked, print};
use crate::control::einhorn::VERSION;
use crate::exit::Exit;
use crate::front::argv;

const USAGE: &str = "## Usage\n\neinhorn [options] [--] program [arg]...\n";

/// The version whose habits are kept, then our own.
pub(super) fn version() -> String {
    format!("{VERSION} (prebind {})\n", env!("CARGO_PKG_VERSION"))
}

/// einhorn's help ends with 1.
pub(super) fn help() -> Asked {
    print(&format!("{USAGE}\nSee prebind.einhorn(7). All options:\n\n{}", argv::table().render_help()));
    Asked::Answered(Exit::Failed)
}

/// `--upgrade-check` says what would run; anything else needs a program.
pub(super) fn without_program(run: &argv::Run) -> Asked {
    if run.upgrade_check && run.state_fd.is_none() {
        let path = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        return print(&format!("{}{path}\n", version()));
    }
    print(USAGE);
    Asked::Answered(Exit::Failed)
}
