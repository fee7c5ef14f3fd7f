//! NotifyAccess=: whose words on the notify socket count.

use crate::notify::Access;
use crate::plan::NotifyAccess;

/// What the sender of a word is to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Its main process.
    Main,
    /// A command that runs around it.
    Step,
    /// Any other process of it.
    Other,
}

/// Whether that sender is heard.
pub(super) fn hears(access: NotifyAccess, sender: Sender) -> bool {
    match access {
        NotifyAccess::None => false,
        NotifyAccess::Main => sender == Sender::Main,
        NotifyAccess::Exec => matches!(sender, Sender::Main | Sender::Step),
        NotifyAccess::All => true,
    }
}

/// NOTIFYACCESS= as the plan has it.
pub(super) fn asked(access: Access) -> NotifyAccess {
    match access {
        Access::None => NotifyAccess::None,
        Access::Main => NotifyAccess::Main,
        Access::Exec => NotifyAccess::Exec,
        Access::All => NotifyAccess::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_access_hears_its_own() {
        let senders = [Sender::Main, Sender::Step, Sender::Other];
        for (word, heard) in [
            (Access::None, [false, false, false]),
            (Access::Main, [true, false, false]),
            (Access::Exec, [true, true, false]),
            (Access::All, [true, true, true]),
        ] {
            assert_eq!(senders.map(|sender| hears(asked(word), sender)), heard, "{word:?}");
        }
        assert_eq!(NotifyAccess::default(), NotifyAccess::All, "of a plain command everybody is heard");
    }
}
