//! What units say of each other, and what an instance may say of itself. `door` follows it.

use super::find::Loaded;
use super::keys::{Class, class};
use super::lex::Assignment;
use super::name::{UnitName, names_instance};
use super::socket::SocketUnit;
use crate::plan::{Origin, Problem};

/// The service that a socket starts.
pub(super) fn service_of(name: &UnitName, unit: &SocketUnit) -> UnitName {
    if unit.accept {
        return UnitName { instance: Some(String::new()), ..name.with_kind("service") };
    }
    let said = unit.service.as_deref().and_then(|service| UnitName::parse(service).ok());
    said.unwrap_or_else(|| name.with_kind("service"))
}

/// The sockets in a unit's Requires=, Wants= and BindsTo=. An empty one forgets nothing, as in systemd.
pub(super) fn relies(loaded: &Loaded, outside: &dyn Fn(char) -> Option<String>) -> Vec<(String, Origin)> {
    let mut found = Vec::new();
    for one in &loaded.assignments {
        if one.section != "Unit" || !matches!(one.key.as_str(), "Requires" | "Wants" | "BindsTo") {
            continue;
        }
        let words = one.value.split_whitespace().filter_map(|word| loaded.name.expand(word, outside).ok());
        found.extend(words.filter(|word| word.ends_with(".socket")).map(|word| (word, one.origin.clone())));
    }
    found
}

/// In a unit that is started for each connection the instance is known when a command starts, not before.
pub(super) fn instance_misused(loaded: &Loaded) -> Vec<Problem> {
    let late = |key: &str| key == "Environment" || key.starts_with("Exec");
    let misused = loaded.assignments.iter().filter(|one| {
        let honoured = class("Service", &one.key) == Some(Class::Honoured);
        loaded.name.is_template()
            && one.section == "Service"
            && honoured
            && !late(&one.key)
            && names_instance(&one.value)
    });
    let problem = |one: &Assignment| {
        let message = format!("{}={}: the instance is known only when a connection comes", one.key, one.value);
        Problem::new(one.origin.clone(), message).remedy("%i, %I, %n, %N and %f stand in Exec lines and Environment=")
    };
    misused.map(problem).collect()
}
