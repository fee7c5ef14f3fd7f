//! systemd's unit files, read without systemd: `find` tells which files a unit is made of, `lex` reads their lines, `name`
//! fills specifiers, `values`, `words` and `address` read what stands
//! behind the `=`, `socket` and `service` make plain data of it. Receives bytes, hands on assignments and
//! [`Remark`]s; it opens nothing itself.

pub mod address;
pub mod find;
pub mod keys;
pub mod lex;
pub mod name;
pub mod service;
pub mod socket;
pub mod values;
pub mod words;

use crate::plan::Origin;
use std::fmt;

/// Something in a unit that is not taken as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// Where.
    pub origin: Origin,
    /// Something that was asked for is not had; else it is only worth a note.
    pub warning: bool,
    /// What, and what is done instead.
    pub message: String,
}

impl Remark {
    /// What was asked for is not had.
    pub fn warn(origin: Origin, message: impl Into<String>) -> Remark {
        Remark { origin, warning: true, message: message.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"[Socket]\nListenStream=%t/%p/[::1]:80\nListenFIFO=/a\\\n b\nSymlinks=\"/x\" '/y\\x41'\n\
        KeepAliveTimeSec=1min 30s\nReceiveBuffer=1.5K\nMark=0x10\nFileDescriptorName=%j%I%%\nTriggerLimitIntervalSec=2M\n\
        [Service]\nExecStart=-@/bin/sh \"a b\" \\u00e9 ; :/bin/x $Y ${Z}\n";

    /// Bytes are exchanged, taken out and doubled: nothing panics, and what is lost is said or stands as it was.
    #[test]
    fn mutated_units_are_read_or_refused() {
        let rounds = option_env!("PREBIND_UNIT_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(20_000_u32);
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let name = name::UnitName::parse("a-b@c.socket").expect("a name");
        for _ in 0..rounds {
            let mut bytes = SEED.to_vec();
            for _ in 0..=next(6) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = next(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\\\"'%[]=\n;#$ 0-@"[next(15)]),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let mut remarks = Vec::new();
            let assignments = lex::lex("a.socket", &bytes, &mut remarks);
            let (unit, left) = socket::read(&name, &assignments, &|_| None, &mut remarks);
            let lines = bytes.split(|byte| *byte == b'\n').count();
            let inside = |origin: &Origin| matches!(origin, Origin::File { line, .. } if (1..=lines).contains(line));
            assert!(remarks.iter().all(|remark| inside(&remark.origin)), "a remark names its line");
            assert!(unit.sockets.iter().all(|one| inside(&one.origin)), "a socket names its line");
            for one in left {
                let _ = words::commands(&one.value);
            }
            let (_, _, problems) = service::read(&name, &assignments, &|_| None, &mut remarks);
            for problem in problems {
                assert!(!problem.message.is_empty());
            }
        }
    }
}
