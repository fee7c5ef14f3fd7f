//! Commands of a unit as plain data: what is run beside the workers' own command, and with what rights.

use super::{Origin, Template};
use serde::{Deserialize, Serialize};

/// One command line of a unit, `ExecStart=` or a sibling of it: words without a shell, variables filled in at the spawn
/// (systemd.service(5), COMMAND LINES).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// The program: an absolute path, or a bare name that is looked for in systemd's fixed folders.
    pub path: Template,
    /// All words; the first is what the program is told to be called.
    pub words: Vec<Template>,
    /// `-`: a failure counts as success.
    pub may_fail: bool,
    /// `:`: `$` is not special.
    pub literal: bool,
    /// `+`, `!`, `!!`.
    pub privilege: Privilege,
    /// Where it was asked for.
    pub origin: Origin,
}

/// With whose rights a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Privilege {
    /// Those of the unit.
    #[default]
    Unit,
    /// `!`: user and group are not changed, the rest is.
    KeepIds,
    /// `+`: prebind's own; user, group, limits, capabilities and NoNewPrivileges are left alone.
    Full,
}

/// When a command that is not the worker's own runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// `ExecCondition=`: exit 1 to 254 skips the start without a failure.
    Condition,
    /// `ExecStartPre=`.
    StartPre,
    /// `ExecStartPost=`: once the worker is ready.
    StartPost,
    /// `ExecReload=`.
    Reload,
    /// `ExecStop=`: before the stop signal, while the worker lives.
    Stop,
    /// `ExecStopPost=`: when nothing is left of the worker.
    StopPost,
}

impl Step {
    /// Every step with its key in a unit.
    pub const ALL: [(&'static str, Step); 6] = [
        ("ExecCondition", Step::Condition),
        ("ExecStartPre", Step::StartPre),
        ("ExecStartPost", Step::StartPost),
        ("ExecReload", Step::Reload),
        ("ExecStop", Step::Stop),
        ("ExecStopPost", Step::StopPost),
    ];

    /// The key in a unit.
    pub fn key(self) -> &'static str {
        Step::ALL.iter().find(|(_, one)| *one == self).map_or("", |(key, _)| key)
    }
}

/// A command and when it runs. Those of one step run one after the other, in the order of the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// When.
    pub step: Step,
    /// What.
    pub exec: Exec,
}
