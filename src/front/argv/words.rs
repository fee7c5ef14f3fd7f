//! Where the options end, and which word is which: clap tells values, not the places that messages name.

use super::table::{Opt, options};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The command line taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Words {
    /// The options with their values, for clap.
    pub(super) options: Vec<OsString>,
    /// COMMAND and its arguments.
    pub(super) command: Vec<OsString>,
    /// Where COMMAND stands, from 1.
    pub(super) command_at: usize,
    /// Whether `--` stood before it.
    pub(super) dashes: bool,
    /// Where each option's values stand, by the option's id, from 1.
    places: BTreeMap<&'static str, Vec<usize>>,
}

impl Words {
    /// Splits at the first word that is neither an option nor an option's value, or after `--`.
    pub(super) fn split(args: Vec<OsString>) -> Words {
        let mut words = Words::default();
        let mut at = 0;
        while at < args.len() {
            let word = args[at].as_bytes();
            if word == b"--" {
                words.dashes = true;
                at += 1;
                break;
            }
            if word.len() < 2 || word[0] != b'-' {
                break;
            }
            let (option, inline) = find(word);
            let follows = option.is_some_and(Opt::takes_value) && !inline && at + 1 < args.len();
            let end = at + 1 + usize::from(follows);
            if let Some(option) = option {
                words.places.entry(option.id).or_default().push(end);
            }
            words.options.extend_from_slice(&args[at..end]);
            at = end;
        }
        words.command_at = at + 1;
        words.command = args.into_iter().skip(at).collect();
        words
    }

    /// Where the n-th value of an option stands, from 1.
    pub(super) fn place(&self, id: &str, n: usize) -> usize {
        self.places.get(id).and_then(|places| places.get(n)).copied().unwrap_or(0)
    }
}

/// How many words an option takes: 2 where its value stands in the next one.
pub(super) fn reach(word: &OsStr) -> usize {
    let (option, inline) = find(word.as_bytes());
    1 + usize::from(option.is_some_and(Opt::takes_value) && !inline)
}

/// The option that decides how many words this one takes, and whether its value is in the word itself.
fn find(word: &[u8]) -> (Option<&'static Opt>, bool) {
    if let Some(long) = word.strip_prefix(b"--") {
        let end = long.iter().position(|byte| *byte == b'=');
        let name = OsStr::from_bytes(&long[..end.unwrap_or(long.len())]);
        let option = options().find(|option| name == option.id);
        return (option, end.is_some());
    }
    let mut last = None;
    for (n, byte) in word.iter().enumerate().skip(1) {
        let short = char::from(*byte);
        last = options().find(|option| option.short == Some(short));
        if last.is_none_or(Opt::takes_value) {
            return (last, n + 1 < word.len());
        }
    }
    (last, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Words {
        Words::split(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn options_end_at_the_first_word_that_is_none() {
        for (line, options, command, at) in [
            ("-b 80 app -n 4", 2, "app -n 4", 3),
            ("-n4 -qq --bind=80 -- app", 3, "app", 5),
            ("-vn 4 app", 2, "app", 3),
            ("--unknown x", 1, "x", 2),
            ("- x", 0, "- x", 1),
            ("-b", 1, "", 2),
            ("--nice -5 app", 2, "app", 3),
        ] {
            let words = split(line);
            assert_eq!(words.options.len(), options, "{line}");
            assert_eq!(words.command.join(OsStr::new(" ")), command, "{line}");
            assert_eq!(words.command_at, at, "{line}");
        }
        let words = split("-q -b 80 --bind=81 -- x");
        assert!(words.dashes);
        assert_eq!((words.place("bind", 0), words.place("bind", 1)), (3, 4));
    }
}
