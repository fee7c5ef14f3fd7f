//! The resource limits of a worker, as the child sets them.

use super::Base;
use crate::plan::{Limit, Resource, ServiceSpec};
use libc::c_int;

/// systemd's own limit of open files, where a unit asks for none; the hard one is often more than there is.
const UNIT_NOFILE: [u64; 2] = [1024, 524_288];

/// The limits asked for, and one of open files where none was: prebind's original one, or a unit's default. With
/// `privileged` (`+`) only prebind's.
pub(super) fn all(base: &Base, service: &ServiceSpec, privileged: bool) -> Vec<(c_int, [u64; 2])> {
    let asked = service.limits.iter().filter(|_| !privileged);
    let asked = asked.map(|Limit { resource, soft, hard }| {
        let value = |value: Option<u64>| value.unwrap_or(u64::MAX);
        (resource_number(*resource), [value(*soft), value(*hard)])
    });
    let default = match base.nofile {
        _ if service.process.unit && !privileged => Some(UNIT_NOFILE),
        own => own.map(|(soft, hard)| [soft, hard]),
    };
    let given = !privileged && service.limits.iter().any(|limit| limit.resource == Resource::Nofile);
    let default = default.filter(|_| !given).map(|limit| (resource_number(Resource::Nofile), limit));
    default.into_iter().chain(asked).collect()
}

/// Those that `skipped` has a bit for: they were lowered. A default that is more than there is is no news.
pub(super) fn lowered(limits: &[(c_int, [u64; 2])], skipped: u32) -> impl Iterator<Item = &(c_int, [u64; 2])> {
    let lowered = limits.iter().enumerate().filter(move |(index, _)| skipped & (1 << index) != 0);
    lowered.map(|(_, limit)| limit).filter(|limit| **limit != (resource_number(Resource::Nofile), UNIT_NOFILE))
}

/// `nofile=1024:524288`.
pub(super) fn text((number, [soft, hard]): &(c_int, [u64; 2])) -> String {
    let name = Resource::ALL.iter().find(|(_, resource)| resource_number(*resource) == *number);
    let value = |value: u64| if value == u64::MAX { "infinity".into() } else { value.to_string() };
    format!("{}={}:{}", name.map_or("?", |(name, _)| name), value(*soft), value(*hard))
}

fn resource_number(resource: Resource) -> c_int {
    let number = match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    number as c_int // unsigned in glibc, signed in musl
}
