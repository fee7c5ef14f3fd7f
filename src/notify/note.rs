//! One datagram of sd_notify(3), text <-> [`Note`]. Pure.

/// What a datagram says, after systemd's rules: of a repeated key the first counts; unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Note {
    /// READY=1.
    pub ready: bool,
    /// STOPPING=1.
    pub stopping: bool,
    /// RELOADING=1.
    pub reloading: bool,
    /// STATUS=, cut to [`Note::STATUS_BYTES_MAX`] bytes; an empty text clears.
    pub status: Option<String>,
    /// WATCHDOG=1: re-arm.
    pub watchdog: bool,
    /// WATCHDOG=trigger: fail now.
    pub watchdog_trigger: bool,
    /// WATCHDOG_USEC=, microseconds; 0 disables.
    pub watchdog_usec: Option<u64>,
    /// EXTEND_TIMEOUT_USEC=, microseconds from now.
    pub extend_timeout_usec: Option<u64>,
    /// MAINPID=. The supervisor never sees it: pids stay in linux/.
    pub main_pid: Option<i32>,
    /// BARRIER=1: the descriptor that came with it is closed once everything before it is handled.
    pub barrier: bool,
}

impl Note {
    /// How much of a STATUS text is kept: it costs memory for as long as its worker lives.
    pub const STATUS_BYTES_MAX: usize = 256;
}
