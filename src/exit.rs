//! Every exit code of prebind and prebindctl, once. Nothing else in the project writes a number for one.

use serde::{Deserialize, Serialize};
/// How a prebind process ends. The numbers follow s6 and daemontools: 100, the caller is wrong and trying
/// again is useless; 111, the system refused and trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Stopped as asked, or answered yes.
    Done,
    /// The service failed for good; prebindctl: the answer is no.
    Failed,
    /// circusctl: the answer is no.
    Refused,
    /// The command line cannot be understood.
    Usage,
    /// The plan is wrong: every problem was listed and nothing was bound.
    Plan,
    /// The system refused: a bind, the first spawn, a permission; prebindctl: nobody there.
    System,
    /// With `--restart no`: the command's own exit code.
    Code(u8),
    /// With `--restart no`: the command died by this signal.
    Signal(u8),
}

impl Exit {
    /// The number that the operating system is given.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Plan => 100,
            Exit::System => 111,
            Exit::Code(code) => code,
            Exit::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn numbers_are_the_documented_ones() {
        for (exit, number) in [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Refused, 3),
            (Exit::Plan, 100),
            (Exit::System, 111),
            (Exit::Code(7), 7),
            (Exit::Signal(9), 137),
            (Exit::Signal(255), 255),
        ] {
            assert_eq!(exit.code(), number, "{exit:?}");
        }
    }
}
