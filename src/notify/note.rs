//! One datagram of sd_notify(3): text -> [`Note`]. Pure. The rules are those of systemd's manager side: at most
//! 4096 bytes of lines KEY=VALUE, a last newline and one last NUL do no harm, of a repeated key the first counts,
//! what is unknown or unreadable is ignored (also ERRNO=, BUSERROR= and EXIT_STATUS=, which are recorded nowhere). Only
//! a datagram that is no such text at all is [`Garbage`]. What of STOPPING, READY and RELOADING counts where several come
//! together is the supervisor's affair.

/// What a datagram says, after systemd's rules: of a repeated key the first counts; unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Note {
    /// READY=1.
    pub ready: bool,
    /// STOPPING=1.
    pub stopping: bool,
    /// RELOADING=1.
    pub reloading: bool,
    /// MONOTONIC_USEC=, CLOCK_MONOTONIC in microseconds: when RELOADING=1 was said.
    pub monotonic_usec: Option<u64>,
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
    /// MAINPIDFD=1: the descriptor that came with it is a pidfd of the main process. It never sees that either.
    pub main_pid_by_fd: bool,
    /// NOTIFYACCESS=. Nor that: who is heard is settled before.
    pub notify_access: Option<Access>,
    /// FDSTORE=1 and FDSTOREREMOVE=1. Nor that: descriptors stay in linux/.
    pub store: StoreWords,
    /// BARRIER=1, alone: the descriptor that came with it is closed once everything before it is handled.
    pub barrier: bool,
}

/// NOTIFYACCESS=: whose words count from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `none`.
    None,
    /// `main`.
    Main,
    /// `exec`.
    Exec,
    /// `all`.
    All,
}

/// What is to become of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StoreWords {
    /// FDSTORE=1: keep those that came with it.
    pub keep: bool,
    /// FDSTOREREMOVE=1: drop those of that name; then nothing is kept.
    pub remove: bool,
    /// FDNAME=, where it is one: at most 255 printable ASCII characters, no colon.
    pub name: Option<String>,
    /// FDPOLL=0: keep them also when their other end is closed.
    pub unwatched: bool,
}

impl StoreWords {
    /// What descriptors are called that were given no name.
    pub const NAME: &str = "stored";
    const NAME_BYTES_MAX: usize = 255;

    /// Whether anything is asked for.
    pub fn is_something(&self) -> bool {
        self.keep || self.remove
    }
}

/// Why a datagram says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// Longer than [`Note::BYTES_MAX`]; what arrived is cut.
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// A NUL before the last byte.
    #[error("it holds a NUL")]
    Nul,
    /// More descriptors came than the kernel hands over in one message.
    #[error("too many descriptors came with it")]
    Descriptors,
    /// The kernel names no sender that has a pid here.
    #[error("its sender is unknown")]
    Unsigned,
    /// BARRIER=1 beside other words.
    #[error("it says more than BARRIER=1")]
    CrowdedBarrier,
}

impl Note {
    /// How much of a STATUS text is kept: it costs memory for as long as its worker lives.
    pub const STATUS_BYTES_MAX: usize = 256;

    /// The longest datagram that is read, as systemd's (PIPE_BUF).
    pub const BYTES_MAX: usize = 4096;

    /// Reads one datagram. One without any known key is an empty note.
    pub fn parse(bytes: &[u8]) -> Result<Note, Garbage> {
        if bytes.len() > Note::BYTES_MAX {
            return Err(Garbage::TooLong);
        }
        let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        if text.contains(&0) {
            return Err(Garbage::Nul);
        }
        let mut note = Note::default();
        let mut seen = [false; KEYS.len()];
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let alone = lines.clone().count() == 1;
        if !alone && lines.clone().any(|line| line == b"BARRIER=1") {
            return Err(Garbage::CrowdedBarrier);
        }
        for line in lines {
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&line[..equals], &line[equals + 1..]);
            let Some(known) = KEYS.iter().position(|(name, _)| name.as_bytes() == key) else { continue };
            if !std::mem::replace(&mut seen[known], true) {
                (KEYS[known].1)(&mut note, value);
            }
        }
        Ok(note)
    }
}

/// What a key's value does to the note.
type Take = fn(&mut Note, &[u8]);

/// Every key that is understood.
const KEYS: [(&str, Take); 16] = [
    ("READY", |note, value| note.ready = value == b"1"),
    ("STOPPING", |note, value| note.stopping = value == b"1"),
    ("RELOADING", |note, value| note.reloading = value == b"1"),
    ("MONOTONIC_USEC", |note, value| note.monotonic_usec = number(value)),
    ("STATUS", |note, value| note.status = status(value)),
    ("WATCHDOG", |note, value| {
        note.watchdog = value == b"1";
        note.watchdog_trigger = value == b"trigger";
    }),
    ("WATCHDOG_USEC", |note, value| note.watchdog_usec = number(value)),
    ("EXTEND_TIMEOUT_USEC", |note, value| note.extend_timeout_usec = number(value)),
    ("MAINPID", |note, value| note.main_pid = number(value).and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0)),
    ("MAINPIDFD", |note, value| note.main_pid_by_fd = value == b"1"),
    ("NOTIFYACCESS", |note, value| note.notify_access = access(value)),
    ("FDSTORE", |note, value| note.store.keep = value == b"1"),
    ("FDSTOREREMOVE", |note, value| note.store.remove = value == b"1"),
    ("FDNAME", |note, value| note.store.name = name(value)),
    ("FDPOLL", |note, value| note.store.unwatched = value == b"0"),
    ("BARRIER", |note, value| note.barrier = value == b"1"),
];

/// Decimal digits and nothing else (`parse` alone would take a plus sign).
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn access(value: &[u8]) -> Option<Access> {
    match value {
        b"none" => Some(Access::None),
        b"main" => Some(Access::Main),
        b"exec" => Some(Access::Exec),
        b"all" => Some(Access::All),
        _ => None,
    }
}

/// The name of a descriptor, as LISTEN_FDNAMES can carry it.
fn name(value: &[u8]) -> Option<String> {
    let fits =
        value.len() <= StoreWords::NAME_BYTES_MAX && value.iter().all(|b| matches!(b, b' '..=b'~') && *b != b':');
    fits.then(|| String::from_utf8_lossy(value).into_owned())
}

/// The text as it is kept. It is shown on terminals, so no control character survives.
fn status(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let mut kept = String::new();
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        if kept.len() + char.len_utf8() > Note::STATUS_BYTES_MAX {
            break;
        }
        kept.push(char);
    }
    kept.shrink_to_fit();
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::{Access, Garbage, Note, StoreWords};

    fn note(change: impl FnOnce(&mut Note)) -> Result<Note, Garbage> {
        let mut note = Note::default();
        change(&mut note);
        Ok(note)
    }

    fn said(text: &str) -> impl FnOnce(&mut Note) {
        let text = text.to_owned();
        |note| note.status = Some(text)
    }

    #[test]
    fn datagrams_are_read_by_systemds_rules() {
        let long = [b"STATUS=".as_slice(), &[b'x'; 4096]].concat();
        let full = [b"READY=1\nX=".as_slice(), &[b'x'; 4096 - 10]].concat();
        let cases: Vec<(&[u8], Result<Note, Garbage>)> = vec![
            (b"", note(|_| {})),
            (b"\n\n", note(|_| {})),
            (b"\0", note(|_| {})),
            (b"READY=1", note(|n| n.ready = true)),
            (b"READY=1\n", note(|n| n.ready = true)),
            (b"READY=1\n\0", note(|n| n.ready = true)),
            (b"READY=0", note(|_| {})),
            (b"READY=10", note(|_| {})),
            (b" READY=1", note(|_| {})),
            (b"ready=1", note(|_| {})),
            (b"READY=0\nREADY=1", note(|_| {})),
            (b"X_MINE=1\nnonsense\n=\nSTOPPING=1", note(|n| n.stopping = true)),
            (
                b"RELOADING=1\nMONOTONIC_USEC=7",
                note(|n| {
                    n.reloading = true;
                    n.monotonic_usec = Some(7);
                }),
            ),
            (b"STATUS=a\nSTATUS=b", note(said("a"))),
            (b"STATUS=", note(said(""))),
            (b"STATUS=a=b", note(said("a=b"))),
            (b"STATUS=\xff\nREADY=1", note(|n| n.ready = true)),
            (b"STATUS=\xff\nSTATUS=b", note(|_| {})),
            (b"STATUS=\x1b[31mred\r\x7f\xc2\x9b", note(said(" [31mred   "))),
            (b"WATCHDOG=1", note(|n| n.watchdog = true)),
            (b"WATCHDOG=trigger\nWATCHDOG=1", note(|n| n.watchdog_trigger = true)),
            (b"WATCHDOG_USEC=0", note(|n| n.watchdog_usec = Some(0))),
            (b"WATCHDOG_USEC=18446744073709551615", note(|n| n.watchdog_usec = Some(u64::MAX))),
            (b"WATCHDOG_USEC=18446744073709551616", note(|_| {})),
            (b"WATCHDOG_USEC=+1\nEXTEND_TIMEOUT_USEC=-1", note(|_| {})),
            (b"EXTEND_TIMEOUT_USEC=5000000", note(|n| n.extend_timeout_usec = Some(5_000_000))),
            (b"EXTEND_TIMEOUT_USEC=", note(|_| {})),
            (b"MAINPID=4711", note(|n| n.main_pid = Some(4711))),
            (b"MAINPID=0", note(|_| {})),
            (b"MAINPID=2147483648", note(|_| {})),
            (b"MAINPIDFD=1", note(|n| n.main_pid_by_fd = true)),
            (b"ERRNO=2\nBUSERROR=a.b\nEXIT_STATUS=3", note(|_| {})),
            (b"NOTIFYACCESS=exec", note(|n| n.notify_access = Some(Access::Exec))),
            (b"NOTIFYACCESS=main\nNOTIFYACCESS=all", note(|n| n.notify_access = Some(Access::Main))),
            (b"NOTIFYACCESS=everyone", note(|_| {})),
            (b"BARRIER=1", note(|n| n.barrier = true)),
            (b"BARRIER=1\n\0", note(|n| n.barrier = true)),
            (b"BARRIER=0\nREADY=1", note(|n| n.ready = true)),
            (b"READY=1\nBARRIER=1", Err(Garbage::CrowdedBarrier)),
            (b"BARRIER=1\nBARRIER=1", Err(Garbage::CrowdedBarrier)),
            (b"READY=1\0\0", Err(Garbage::Nul)),
            (b"READY=1\0STATUS=x", Err(Garbage::Nul)),
            (&full, note(|n| n.ready = true)),
            (&long, Err(Garbage::TooLong)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Note::parse(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn descriptors_are_kept_and_dropped_by_name() {
        let words = |keep, remove, name: Option<&str>, unwatched| {
            let name = name.map(String::from);
            note(|note| note.store = StoreWords { keep, remove, name, unwatched })
        };
        let long = "x".repeat(256);
        let (named, too_long) = (format!("FDSTORE=1\nFDNAME={}", &long[1..]), format!("FDSTORE=1\nFDNAME={long}"));
        for (text, expected) in [
            ("FDSTORE=1", words(true, false, None, false)),
            ("FDSTORE=1\nFDNAME=a b/c%\nFDPOLL=0", words(true, false, Some("a b/c%"), true)),
            ("FDSTORE=1\nFDNAME=\nFDPOLL=1", words(true, false, Some(""), false)),
            ("FDSTORE=1\nFDNAME=a:b", words(true, false, None, false)),
            ("FDSTORE=1\nFDNAME=\u{e9}", words(true, false, None, false)),
            ("FDSTORE=1\nFDNAME=\t", words(true, false, None, false)),
            (&named, words(true, false, Some(&long[1..]), false)),
            (&too_long, words(true, false, None, false)),
            ("FDSTOREREMOVE=1\nFDNAME=x\nFDNAME=y", words(false, true, Some("x"), false)),
            ("FDSTORE=yes\nFDSTOREREMOVE=0", words(false, false, None, false)),
        ] {
            assert_eq!(Note::parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        for (char, kept) in [("x", 256), ("é", 256), ("€", 255), ("🦀", 256)] {
            let note = Note::parse(format!("STATUS={}", char.repeat(300)).as_bytes()).unwrap();
            assert_eq!(note.status.unwrap(), char.repeat(kept / char.len()));
        }
    }

    #[test]
    fn no_bytes_break_it() {
        let seeds: [&[u8]; 4] = [
            b"FDSTORE=1\nFDNAME=web\nFDPOLL=0\nNOTIFYACCESS=exec\nMAINPIDFD=1\nFDSTOREREMOVE=1\n",
            b"READY=1\nSTATUS=warm \xe2\x82\xac\nWATCHDOG_USEC=300000\nMAINPID=12\n",
            b"STOPPING=1\nBARRIER=0\nWATCHDOG=trigger\0",
            b"STATUS=\xf0\x9f\xa6\x80\nEXTEND_TIMEOUT_USEC=18446744073709551615",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut garbage = 0;
        for round in 0..50_000 {
            let mut bytes = seeds[round % seeds.len()].to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes[at] ^= 1 << random(8),
                    2 => bytes.truncate(at + 1),
                    _ => bytes.extend_from_within(at..),
                }
            }
            match Note::parse(&bytes) {
                Ok(note) => {
                    let status = note.status.unwrap_or_default();
                    assert!(status.len() <= Note::STATUS_BYTES_MAX && !status.chars().any(char::is_control));
                }
                Err(_) => garbage += 1,
            }
        }
        assert!((100..25_000).contains(&garbage), "{garbage}");
    }
}
