//! `[env]` and `[env:PATTERN,...]`: variables for all watchers, and for those whose name fits.

use super::Said;
use super::lex::Section;
use super::variables::Variables;
use crate::front::pattern::fits;

/// The environment that values are filled in from, with `[env]` in it.
pub(super) fn of_all(section: Option<&Section>, outside: &Variables, said: &mut Said) -> Variables {
    let mut all = outside.clone();
    section.into_iter().for_each(|section| add(section, outside, &mut all, said));
    all
}

/// The same with what is for this watcher: later sections come before earlier ones.
pub(super) fn of_watcher(name: &str, sections: &[Section], outside: &Variables, said: &mut Said) -> Variables {
    let everyone = sections.iter().find(|section| section.name == "env");
    // What is odd in it was said when it was read for all.
    let mut all = of_all(everyone, outside, &mut Said::default());
    let own = sections.iter().filter(|section| is_for(section, name));
    own.for_each(|section| add(section, outside, &mut all, said));
    all
}

/// The variables that a watcher sets, in their order, each with where it stands.
pub(super) fn entries<'a>(name: &str, sections: &'a [Section]) -> Vec<&'a super::lex::Entry> {
    let everyone = sections.iter().filter(|section| section.name == "env");
    let own = sections.iter().filter(|section| is_for(section, name));
    everyone.chain(own).flat_map(|section| &section.entries).collect()
}

fn is_for(section: &Section, name: &str) -> bool {
    let patterns = section.of_kind("env").unwrap_or_default();
    patterns.split(',').any(|pattern| fits(pattern.trim(), name))
}

fn add(section: &Section, outside: &Variables, all: &mut Variables, said: &mut Said) {
    for entry in &section.entries {
        // Sockets and options in it are the worker's affair.
        let value = match entry.value.contains("circus.env.") {
            true => outside.fill_environment(&entry.value, &entry.origin, said),
            false => entry.value.clone(),
        };
        all.set(&entry.key, &outside.fill_dollars(&value));
    }
}
