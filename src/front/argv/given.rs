//! What stands on the command line, by the options' ids.

use super::table::{meant_by, options, table};
use clap::ArgMatches;
use clap::parser::{MatchesError, ValueSource};
use std::any::Any;
use std::ffi::OsString;

/// What clap found. An option whose row was not built is one that is not there.
#[derive(Debug)]
pub(super) struct Given(ArgMatches);

impl Given {
    /// Reads the options with their values.
    pub(super) fn read(words: &[OsString]) -> Result<Given, clap::Error> {
        let line = || std::iter::once(OsString::from("prebind")).chain(words.iter().cloned());
        let found = meant_by(words).try_get_matches_from(line());
        // Only the whole table knows what was meant instead.
        found.or_else(|_| table().try_get_matches_from(line())).map(Given)
    }

    /// The value of an option, the last one.
    pub(super) fn one<T: Any + Clone + Send + Sync>(&self, id: &str) -> Option<T> {
        known(id, self.0.try_get_one::<T>(id)).cloned()
    }

    /// All values of a repeatable option.
    pub(super) fn all<T: Any + Clone + Send + Sync>(&self, id: &str) -> Vec<T> {
        known(id, self.0.try_get_many::<T>(id)).unwrap_or_default().cloned().collect()
    }

    /// Whether a flag is there.
    pub(super) fn flag(&self, id: &str) -> bool {
        self.one(id).unwrap_or(false)
    }

    /// How often an option is there that counts.
    pub(super) fn times(&self, id: &str) -> u8 {
        self.one(id).unwrap_or(0)
    }

    /// Whether an option is there.
    pub(super) fn has(&self, id: &str) -> bool {
        let there = known(id, self.0.try_contains_id(id).map(Some)).unwrap_or(false);
        there && self.0.value_source(id) == Some(ValueSource::CommandLine)
    }
}

fn known<T>(id: &str, found: Result<Option<T>, MatchesError>) -> Option<T> {
    debug_assert!(options().any(|option| option.id == id), "no option {id}");
    match found {
        Ok(found) => found,
        Err(MatchesError::UnknownArgument { .. }) => None,
        Err(error) => panic!("--{id}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_few_rows_read_what_all_of_them_do() {
        for line in [
            "-b 80",
            "-b80 --bind=81 -qqv",
            "-vn 4 --nice -5",
            "--number 2 -n 3",
            "--env A=--check --json --check",
            "-kgq --generate man",
            "--rewrite TERM:QUIT --rewrite HUP:0",
        ] {
            let words = words(line);
            let few =
                Given(meant_by(&words).try_get_matches_from([OsString::from("prebind")].iter().chain(&words)).unwrap());
            let all = Given(table().try_get_matches_from([OsString::from("prebind")].iter().chain(&words)).unwrap());
            for option in options() {
                assert_eq!(few.has(option.id), all.has(option.id), "{line}: {}", option.id);
                let raw = |given: &Given| Some(given.0.try_get_raw(option.id).ok()??.map(OsString::from).collect());
                let values: Option<Vec<OsString>> = raw(&few);
                assert!(!few.has(option.id) || values == raw(&all), "{line}: {}", option.id);
            }
        }
    }

    #[test]
    fn only_what_may_be_meant_is_built() {
        for (line, built) in [("-b 80 -n 4", 2), ("--unit x", 1), ("--environment x", 1), ("app", 0), ("-bnc 80", 3)] {
            assert_eq!(meant_by(&words(line)).get_arguments().count(), built, "{line}");
        }
    }

    #[test]
    fn the_whole_table_says_what_is_wrong() {
        let error = Given::read(&words("-n 4 --min-redy 3")).unwrap_err();
        assert!(error.to_string().contains("--min-ready"), "{error}");
    }
}
