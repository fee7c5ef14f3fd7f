//! Condition*= and Assert*= of `[Unit]`: what must hold when a unit is loaded. They are only data here; whether they hold is
//! asked of somebody else, and what nobody can tell without systemd counts as true.

use super::Remark;
use super::lex::Assignment;
use super::process::Context;
use crate::plan::Origin;

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The unit must not be run rather than skipped.
    pub assert: bool,
    /// `PathExists`.
    pub kind: String,
    /// `|`: one of these is enough.
    pub triggering: bool,
    /// `!`.
    pub negated: bool,
    /// What is asked about.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// What became of a unit's conditions.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It runs.
    Holds,
    /// It is skipped: which line failed, and as what it is written.
    Skipped(Origin, String),
    /// It must not be loaded.
    Refused(Origin, String),
}

/// Whether something of that kind holds; `None`: nobody can tell.
pub type Holds<'a> = &'a dyn Fn(&str, &str) -> Option<bool>;

/// Reads a unit's, taking specifiers as they come. An empty one forgets those before it.
pub(super) fn read(assignments: &[Assignment], context: Context<'_>, remarks: &mut Vec<Remark>) -> Vec<Condition> {
    let mut found: Vec<Condition> = Vec::new();
    for one in assignments.iter().filter(|one| is_condition(&one.section, &one.key)) {
        let (assert, kind) = match one.key.strip_prefix("Assert") {
            Some(kind) => (true, kind),
            None => (false, one.key.strip_prefix("Condition").unwrap_or_default()),
        };
        if one.value.is_empty() {
            found.retain(|other| other.assert != assert);
            continue;
        }
        let rest = one.value.as_str();
        let (triggering, rest) = rest.strip_prefix('|').map_or((false, rest), |rest| (true, rest.trim_start()));
        let (negated, rest) = rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest));
        let needs_path =
            kind.starts_with("Path") || matches!(kind, "DirectoryNotEmpty" | "FileNotEmpty" | "FileIsExecutable");
        let value = context.expand(rest.trim()).and_then(|value| match needs_path && !value.starts_with('/') {
            true => Err(format!("'{value}' is no absolute path")),
            false => Ok(value),
        });
        match value {
            Ok(value) => {
                let origin = one.origin.clone();
                found.push(Condition { assert, kind: kind.into(), triggering, negated, value, origin });
            }
            Err(why) => remarks.push(Remark::warn(one.origin.clone(), format!("{}: {why}: ignored", one.key))),
        }
    }
    found
}

/// Whether a key is read here.
pub(super) fn is_condition(section: &str, key: &str) -> bool {
    let named = key.starts_with("Condition") || key.starts_with("Assert");
    section == "Unit" && named && super::keys::class("Unit", key).is_some()
}

/// All that must hold, and of those that trigger one. Asserts come first: they stop everything.
pub(super) fn judge(conditions: &[Condition], holds: Holds<'_>, remarks: &mut Vec<Remark>) -> Verdict {
    for assert in [true, false] {
        let mut waiting: Option<&Condition> = None;
        let mut triggered = false;
        for one in conditions.iter().filter(|one| one.assert == assert) {
            let told = holds(&one.kind, &one.value);
            if told.is_none() {
                let message = format!("{} cannot be told without systemd: taken as met", one.written());
                remarks.push(Remark::warn(one.origin.clone(), message));
            }
            let met = told.is_none_or(|told| told != one.negated);
            match (one.triggering, met) {
                (false, false) => return one.verdict(),
                (false, true) => {}
                (true, _) => {
                    triggered |= met;
                    waiting = Some(one);
                }
            }
        }
        if let Some(one) = waiting.filter(|_| !triggered) {
            return one.verdict();
        }
    }
    Verdict::Holds
}

impl Condition {
    fn verdict(&self) -> Verdict {
        let make = if self.assert { Verdict::Refused } else { Verdict::Skipped };
        make(self.origin.clone(), self.written())
    }

    /// As it stands in the unit.
    fn written(&self) -> String {
        let verb = if self.assert { "Assert" } else { "Condition" };
        let marks = [(self.triggering, "|"), (self.negated, "!")];
        let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
        format!("{verb}{}={marks}{}", self.kind, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::super::name::UnitName;
    use super::*;

    fn verdict(text: &str) -> (Verdict, Vec<String>) {
        let mut remarks = Vec::new();
        let name = UnitName::parse("web.service").unwrap();
        let context = Context { name: &name, outside: &|_| None };
        let assignments = lex("web.service", format!("[Unit]\n{text}").as_bytes(), &mut remarks);
        let conditions = read(&assignments, context, &mut remarks);
        let holds = |kind: &str, value: &str| match kind {
            "PathExists" => Some(value.starts_with("/there")),
            _ => None,
        };
        let verdict = judge(&conditions, &holds, &mut remarks);
        (verdict, remarks.iter().map(Remark::to_string).collect())
    }

    #[test]
    fn conditions_are_joined_as_in_systemd() {
        let line = |line| Origin::File { name: "web.service".into(), line };
        let skipped = |at, text: &str| Verdict::Skipped(line(at), format!("ConditionPathExists={text}"));
        for (text, expected) in [
            ("", Verdict::Holds),
            ("ConditionPathExists=/there", Verdict::Holds),
            ("ConditionPathExists=/there\nConditionPathExists=/gone/%p", skipped(3, "/gone/web")),
            ("ConditionPathExists=!/gone", Verdict::Holds),
            ("ConditionPathExists=! /there", skipped(2, "!/there")),
            ("ConditionPathExists=|/gone\nConditionPathExists=| !/gone", Verdict::Holds),
            (
                "ConditionPathExists=|/gone\nConditionPathExists=|/gone2\nConditionPathExists=/there",
                skipped(3, "|/gone2"),
            ),
            ("ConditionPathExists=/gone\nConditionPathExists=", Verdict::Holds),
            (
                "ConditionPathExists=/gone\nAssertPathExists=/lost",
                Verdict::Refused(line(3), "AssertPathExists=/lost".into()),
            ),
        ] {
            assert_eq!(verdict(text), (expected, vec![]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_counts_as_met_and_is_said() {
        let (met, remarks) = verdict("ConditionFirmware=!uefi\nConditionPathExists=relative\nAssertPathExists=%Z");
        assert_eq!(met, Verdict::Holds);
        assert_eq!(
            remarks,
            [
                "web.service:3: ConditionPathExists: 'relative' is no absolute path: ignored",
                "web.service:4: AssertPathExists: unknown specifier %Z (%% is a percent sign): ignored",
                "web.service:2: ConditionFirmware=!uefi cannot be told without systemd: taken as met",
            ]
        );
        assert!(!is_condition("Unit", "ConditionPathExist") && !is_condition("Service", "ConditionPathExists"));
    }
}
