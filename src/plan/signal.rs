//! A signal by number, with its names: the one table is signal-hook's.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A signal. Written without SIG in messages and on the wire: `TERM`, `USR2`, `RTMIN+1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    /// Ends a process that handles nothing; the default stop signal.
    pub const TERM: Signal = Signal(signal_hook::consts::SIGTERM);
    /// Cannot be handled.
    pub const KILL: Signal = Signal(9);
    /// What a missed watchdog gets, as systemd does.
    pub const ABRT: Signal = Signal(signal_hook::consts::SIGABRT);
    /// What a program makes of it.
    pub const USR1: Signal = Signal(signal_hook::consts::SIGUSR1);
    /// einhorn's stop signal.
    pub const USR2: Signal = Signal(signal_hook::consts::SIGUSR2);
    /// Interrupt from the terminal.
    pub const INT: Signal = Signal(signal_hook::consts::SIGINT);
    /// Hang-up: what asks most daemons to read their configuration again.
    pub const HUP: Signal = Signal(signal_hook::consts::SIGHUP);
    /// Go on.
    pub const CONT: Signal = Signal(signal_hook::consts::SIGCONT);
    /// Quit.
    pub const QUIT: Signal = Signal(signal_hook::consts::SIGQUIT);
    /// The first and last real-time signals that programs may use.
    const REALTIME: (i32, i32) = (34, 64);

    /// Every standard signal that has a name.
    pub fn named() -> impl Iterator<Item = (&'static str, Signal)> {
        (1..32).filter_map(|number| {
            let name = signal_hook::low_level::signal_name(number)?;
            Some((name.strip_prefix("SIG").unwrap_or(name), Signal(number)))
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = Signal::named().find(|(_, signal)| signal == self) {
            return f.write_str(name);
        }
        match self.0 {
            9 => f.write_str("KILL"),
            19 => f.write_str("STOP"),
            n if n >= Signal::REALTIME.0 => write!(f, "RTMIN+{}", n - Signal::REALTIME.0),
            n => write!(f, "{n}"),
        }
    }
}

impl FromStr for Signal {
    type Err = String;

    /// A name with or without SIG in either case, RTMIN+N, RTMAX-N, or a number from 1 to 64.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let word = upper.strip_prefix("SIG").unwrap_or(&upper);
        let (first, last) = Signal::REALTIME;
        let number = match word {
            "KILL" => Some(9),
            "STOP" => Some(19),
            "RTMIN" => Some(first),
            "RTMAX" => Some(last),
            _ => None,
        }
        .or_else(|| Signal::named().find(|(name, _)| *name == word).map(|(_, signal)| signal.0))
        .or_else(|| word.strip_prefix("RTMIN+")?.parse::<i32>().ok().map(|n| first.saturating_add(n)))
        .or_else(|| word.strip_prefix("RTMAX-")?.parse::<i32>().ok().map(|n| last.saturating_sub(n)))
        .or_else(|| word.parse::<i32>().ok());
        match number {
            Some(number) if (1..=last).contains(&number) && !(32..first).contains(&number) => Ok(Signal(number)),
            _ => Err(match super::nearest(word, Signal::named().map(|(name, _)| name)) {
                Some(name) => format!("unknown signal '{text}', did you mean {name}?"),
                None => format!("unknown signal '{text}'"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigusr2", 12), ("KILL", 9), ("15", 15), ("RTMIN+1", 35), ("RTMAX-1", 63)]
        {
            assert_eq!(text.parse::<Signal>(), Ok(Signal(number)), "{text}");
        }
        for (number, text) in [(15, "TERM"), (9, "KILL"), (12, "USR2"), (35, "RTMIN+1"), (1, "HUP")] {
            assert_eq!(Signal(number).to_string(), text);
        }
        for text in ["", "TERN", "0", "65", "32", "RTMIN+99", "-1"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
        assert_eq!("TREM".parse::<Signal>().unwrap_err(), "unknown signal 'TREM', did you mean TERM?");
    }
}
