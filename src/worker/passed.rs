//! Which descriptors were passed: LISTEN_FDS after sd_listen_fds(3), else EINHORN_FD_n. Reads through a closure, so
//! that tests need no process environment; owns nothing.

use std::ffi::OsString;
use std::os::fd::RawFd;

/// Where variables come from.
pub(super) type Get<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The first passed descriptor, SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// One passed descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) fd: RawFd,
    pub(super) name: Option<String>,
}

/// The passed descriptors in their order, all of them open, or why there are none. A LISTEN_PID that is absent is
/// accepted: prebind's `--listen-env no-pid` leaves it out for programs behind wrappers. A wrong one means that the
/// sockets are another process's.
pub(super) fn read(get: Get<'_>, pid: u32, open: &dyn Fn(RawFd) -> bool) -> Result<Vec<Passed>, String> {
    let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
    let Some(count) = text("LISTEN_FDS") else { return einhorn(&text, open) };
    if let Some(meant) = text("LISTEN_PID")
        && meant.parse() != Ok(pid)
    {
        return Err(format!(
            "LISTEN_PID is {meant}, but this is process {pid} (a wrapper stands between: let it exec, or use prebind \
             --listen-env no-pid)"
        ));
    }
    let Ok(number) = count.parse::<u32>() else { return Err(format!("LISTEN_FDS is no number: \"{count}\"")) };
    let names = text("LISTEN_FDNAMES");
    let mut names = names.iter().flat_map(|names| names.split(':')).map(str::to_owned);
    let mut passed = Vec::new();
    // Found closed at once, a count of two thousand million does no harm.
    for offset in 0..number {
        let fd = RawFd::try_from(offset).ok().and_then(|offset| FIRST.checked_add(offset));
        let Some(fd) = fd.filter(|fd| open(*fd)) else {
            let closed = u64::from(offset) + FIRST as u64;
            return Err(format!("LISTEN_FDS is {count}, but descriptor {closed} is not open"));
        };
        passed.push(Passed { fd, name: names.next().filter(|name| !name.is_empty()) });
    }
    Ok(passed)
}

/// The sockets of an einhorn: numbers in variables, no names.
fn einhorn(text: &dyn Fn(&str) -> Option<String>, open: &dyn Fn(RawFd) -> bool) -> Result<Vec<Passed>, String> {
    if text("EINHORN_FD_COUNT").is_none() {
        return Err("LISTEN_FDS is not set (prebind -b web=8080 -- COMMAND)".to_owned());
    }
    let mut passed: Vec<Passed> = Vec::new();
    for n in 0.. {
        let name = format!("EINHORN_FD_{n}");
        let Some(number) = text(&name) else { break };
        let new = |fd: &RawFd| *fd >= FIRST && passed.iter().all(|other| other.fd != *fd);
        let Some(fd) = number.parse().ok().filter(new) else {
            return Err(format!("{name} is no descriptor of its own: \"{number}\""));
        };
        if !open(fd) {
            return Err(format!("{name} is {fd}, but descriptor {fd} is not open"));
        }
        passed.push(Passed { fd, name: None });
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::{Passed, read};
    use std::ffi::OsString;

    /// Reads as process 7 with the descriptors 3 to 9 open.
    fn result(environment: &[(&str, &str)]) -> Result<Vec<Passed>, String> {
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        read(&get, 7, &|fd| (3..10).contains(&fd))
    }

    #[test]
    fn passed_descriptors_are_found() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(i32, Option<&'a str>)]);
        let cases: &[Case] = &[
            (&[("LISTEN_FDS", "2"), ("LISTEN_PID", "7")], &[(3, None), (4, None)]),
            (&[("LISTEN_FDS", "0")], &[]),
            (&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:api")], &[(3, Some("web")), (4, Some("api"))]),
            (&[("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web:")], &[(3, Some("web")), (4, None), (5, None)]),
            (&[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "a:b:c")], &[(3, Some("a"))]),
            (&[("LISTEN_FDS", "1"), ("EINHORN_FD_COUNT", "1"), ("EINHORN_FD_0", "5")], &[(3, None)]),
            (&[("EINHORN_FD_COUNT", "2"), ("EINHORN_FD_0", "6"), ("EINHORN_FD_1", "4")], &[(6, None), (4, None)]),
            (&[("EINHORN_FD_COUNT", "0")], &[]),
        ];
        for (environment, expected) in cases {
            let found = result(environment).unwrap();
            let found: Vec<_> = found.iter().map(|passed| (passed.fd, passed.name.as_deref())).collect();
            assert_eq!(found, *expected, "{environment:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case] = &[
            (&[], "LISTEN_FDS is not set (prebind -b web=8080 -- COMMAND)"),
            (&[("LISTEN_PID", "7")], "LISTEN_FDS is not set"),
            (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "8")], "LISTEN_PID is 8, but this is process 7"),
            (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "")], "LISTEN_PID is , but"),
            (&[("LISTEN_FDS", "-1")], "LISTEN_FDS is no number: \"-1\""),
            (&[("LISTEN_FDS", "8")], "LISTEN_FDS is 8, but descriptor 10 is not open"),
            (&[("LISTEN_FDS", "2000000000")], "descriptor 10 is not open"),
            (&[("EINHORN_FD_COUNT", "1"), ("EINHORN_FD_0", "2")], "EINHORN_FD_0 is no descriptor of its own: \"2\""),
            (
                &[("EINHORN_FD_COUNT", "2"), ("EINHORN_FD_0", "4"), ("EINHORN_FD_1", "4")],
                "EINHORN_FD_1 is no descriptor of its own",
            ),
            (&[("EINHORN_FD_COUNT", "1"), ("EINHORN_FD_0", "20")], "descriptor 20 is not open"),
        ];
        for (environment, expected) in cases {
            let error = result(environment).unwrap_err();
            assert!(error.contains(expected), "{environment:?}: {error}");
        }
    }
}
