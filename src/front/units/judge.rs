//! What is said of the settings that no reader took: unknown ones, those that need systemd, and those whose absence would
//! take protection away. Receives assignments, hands on remarks and at most one problem for a unit.

use super::Remark;
use super::keys::{Class, class, meant, of_socket_commands};
use super::lex::Assignment;
use super::name::UnitName;
use super::values::boolean;
use crate::plan::{Origin, Problem};
use std::collections::BTreeSet;

/// Judges what is left of a unit. `runs`: it runs something; a .socket without commands does not. `unprotected`: it is run
/// without its protection.
pub fn judge(
    name: &UnitName,
    left: &[&Assignment],
    runs: bool,
    unprotected: bool,
    remarks: &mut Vec<Remark>,
) -> Option<Problem> {
    let own = if name.kind == "socket" { "Socket" } else { "Service" };
    let mut unknown_sections = BTreeSet::new();
    let mut harmless: Vec<&Assignment> = Vec::new();
    let mut protection: Vec<&Assignment> = Vec::new();
    for one in left {
        let (section, key) = (one.section.as_str(), one.key.as_str());
        if section.starts_with("X-") || section == "Install" {
            continue;
        }
        if section != own && section != "Unit" {
            if unknown_sections.insert(section) {
                let message = format!("section [{section}] means nothing in a .{}: ignored", name.kind);
                remarks.push(Remark::warn(one.origin.clone(), message));
            }
            continue;
        }
        let idle = section == "Socket" && !runs && of_socket_commands(key);
        match class(section, key) {
            Some(_) if idle => harmless.push(one),
            Some(Class::Harmless | Class::Honoured) => harmless.push(one),
            Some(Class::NeedsSystemd) if is_off(key, &one.value) => {}
            Some(Class::NeedsSystemd) => {
                let message = format!("{key}= is not done without systemd: left out");
                remarks.push(Remark::warn(one.origin.clone(), message));
            }
            Some(Class::Protection) => {
                if is_off(key, &one.value) {
                    protection.retain(|before| before.key != *key);
                } else {
                    protection.push(one);
                }
            }
            // Other programs' keys, unless they look like ours.
            None if key.starts_with("X-") && !key.starts_with("X-Prebind") => {}
            None => {
                let hint = meant(section, key).map(|hint| format!(", {hint}")).unwrap_or_default();
                remarks.push(Remark::warn(one.origin.clone(), format!("unknown key {key}{hint}: ignored")));
            }
        }
    }
    remarks.extend(noted(&harmless));
    unprotected_or_problem(name, &protection, unprotected, remarks)
}

/// A value that asks for nothing.
fn is_off(key: &str, value: &str) -> bool {
    let default = match key {
        "ProtectProc" => "default",
        "ProcSubset" => "all",
        "DevicePolicy" => "auto",
        "KeyringMode" => "inherit",
        "OOMPolicy" => "continue",
        _ if key.ends_with("Action") => "none",
        _ => "",
    };
    value.is_empty() || value == default || boolean(value) == Ok(false)
}

/// One line for all of a unit's that are not missed.
fn noted(harmless: &[&Assignment]) -> Option<Remark> {
    let first = harmless.first()?;
    let keys: BTreeSet<&str> = harmless.iter().map(|one| one.key.as_str()).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    Some(Remark::note(first.origin.clone(), format!("means nothing here: {}", keys.join(", "))))
}

fn unprotected_or_problem(
    name: &UnitName,
    protection: &[&Assignment],
    unprotected: bool,
    remarks: &mut Vec<Remark>,
) -> Option<Problem> {
    if unprotected {
        remarks.extend(
            protection
                .iter()
                .map(|one| Remark::warn(one.origin.clone(), format!("{name} runs without {}={}", one.key, one.value))),
        );
        return None;
    }
    let first = protection.first()?;
    let keys: Vec<String> = protection.iter().map(|one| format!("{} ({})", one.key, place(one, first))).collect();
    let message = format!("{name} asks for protection that only systemd gives: {}", keys.join(", "));
    Some(Problem::new(first.origin.clone(), message).remedy("--allow-unprotected runs it without"))
}

/// The line alone where it is in the same file.
fn place(one: &Assignment, first: &Assignment) -> String {
    match (&one.origin, &first.origin) {
        (Origin::File { name, line }, Origin::File { name: other, .. }) if name == other => format!("line {line}"),
        (origin, _) => origin.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;

    fn judged(name: &str, text: &str, unprotected: bool) -> (Vec<String>, Option<String>) {
        let mut remarks = Vec::new();
        let assignments = lex(name, text.as_bytes(), &mut remarks);
        let left: Vec<&Assignment> = assignments.iter().collect();
        let runs = text.contains("Exec");
        let problem = judge(&UnitName::parse(name).unwrap(), &left, runs, unprotected, &mut remarks);
        let said = remarks.iter().map(|one| format!("{}{one}", if one.warning { "" } else { "note: " }));
        (said.collect(), problem.map(|problem| problem.to_string()))
    }

    #[test]
    fn each_class_has_its_word() {
        let text = "[Unit]\nDescription=x\nStartLimitAction=none\n[Service]\nMemoryMax=1G\nMemoryMax=\nPrivatTmp=yes\nX-Other=1\n\
                    X-Prebind-Nubmer=3\nListenStream=1\n[Socket]\nA=1\nB=2\n[X-Ours]\nZ=1\n[Install]\nAlias=z\n";
        let (said, problem) = judged("web.service", text, false);
        assert_eq!(
            said,
            [
                "web.service:5: MemoryMax= is not done without systemd: left out",
                "web.service:7: unknown key PrivatTmp, did you mean PrivateTmp?: ignored",
                "web.service:9: unknown key X-Prebind-Nubmer, did you mean X-Prebind-Number?: ignored",
                "web.service:10: unknown key ListenStream, it belongs to [Socket]: ignored",
                "web.service:12: section [Socket] means nothing in a .service: ignored",
                "note: web.service:2: means nothing here: Description",
            ]
        );
        assert_eq!(problem, None);
    }

    #[test]
    fn protection_is_refused_unless_allowed() {
        let text = "[Service]\nPrivateTmp=yes\nProtectSystem=full\nSystemCallFilter=a\nSystemCallFilter=\n\
                    PrivateDevices=no\nPrivateTmp=no\nProtectHome=tmpfs\nProcSubset=all\n";
        let (said, problem) = judged("web.service", text, false);
        let expected = "web.service:3: web.service asks for protection that only systemd gives: ProtectSystem (line 3), \
                        ProtectHome (line 8) (--allow-unprotected runs it without)";
        assert_eq!((said.len(), problem.as_deref()), (0, Some(expected)));
        let (said, problem) = judged("web.service", text, true);
        let warned = [
            "web.service:3: web.service runs without ProtectSystem=full",
            "web.service:8: web.service runs without ProtectHome=tmpfs",
        ];
        assert_eq!((said, problem), (warned.map(String::from).to_vec(), None));
        let (said, problem) = judged("web.socket", "[Socket]\nPrivateTmp=yes\nUser=x\nPrivateNetwork=yes\n", false);
        assert_eq!(said, ["note: web.socket:2: means nothing here: PrivateTmp, User"]);
        assert!(problem.unwrap().contains("PrivateNetwork (line 4)"));
        let (said, problem) = judged("web.socket", "[Socket]\nExecStartPre=/x\nPrivateTmp=yes\n", false);
        assert!(problem.unwrap().contains("PrivateTmp (line 3)"), "{said:?}");
    }
}
