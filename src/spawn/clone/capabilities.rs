//! Capabilities of the child, capabilities(7): bounding set, then the inheritable ones, the uid, the ambient ones,
//! securebits, no_new_privs. All of it belongs to the child's own credentials; prebind's are not touched.

use super::steps::{Failure, Privileges};
use crate::spawn::error::Stage;
use libc::{c_int, c_long};
use nix::errno::Errno;

/// An argument that prctl(2) wants to be 0, in its full width.
const NONE: c_long = 0;
const SECURE_KEEP_CAPS: u32 = 1 << 4;
const VERSION_3: u32 = 0x2008_0522;

/// The kernel's struct __user_cap_header_struct.
#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// One half of the kernel's struct __user_cap_data_struct: the low 32 capabilities, or the high ones.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What needs the rights that a change of uid takes away.
pub(super) fn before_ids(privileges: &Privileges, changes_uid: bool) -> Result<(), Failure> {
    if let Some(keep) = privileges.bounding {
        drop_bounding(keep)?;
        change_inheritable(|inheritable| inheritable & keep)?;
    }
    if privileges.ambient != 0 {
        change_inheritable(|inheritable| inheritable | privileges.ambient)?;
    }
    // A change of uid empties the permitted set unless told otherwise; the exec clears that flag again.
    if changes_uid && (privileges.ambient != 0 || privileges.secure_bits != 0) {
        secure_bits(privileges.secure_bits | SECURE_KEEP_CAPS)?;
    }
    Ok(())
}

/// A change of uid clears the ambient set, whatever is kept.
pub(super) fn after_ids(privileges: &Privileges) -> Result<(), Failure> {
    for capability in bits(privileges.ambient) {
        let raise = libc::PR_CAP_AMBIENT_RAISE;
        must!(Stage::Capabilities, 0, libc::SYS_prctl, libc::PR_CAP_AMBIENT, raise, capability as c_long, NONE, NONE);
    }
    Ok(())
}

/// What must be the last.
pub(super) fn last(privileges: &Privileges, changes_uid: bool) -> Result<(), Failure> {
    if !changes_uid && privileges.secure_bits != 0 {
        secure_bits(privileges.secure_bits)?;
    }
    if privileges.no_new_privileges {
        let yes: c_long = 1;
        must!(Stage::NoNewPrivileges, 0, libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, yes, NONE, NONE, NONE);
    }
    Ok(())
}

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..64_u32).filter(move |bit| set & (1 << bit) != 0)
}

fn drop_bounding(keep: u64) -> Result<(), Failure> {
    for capability in bits(!keep).map(|bit| bit as c_long) {
        // SAFETY: prctl(PR_CAPBSET_READ) takes no pointers. -1: the kernel knows no capability of that number.
        if unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_READ, capability, NONE, NONE, NONE) } == 1 {
            must!(Stage::Capabilities, 0, libc::SYS_prctl, libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE);
        }
    }
    Ok(())
}

fn change_inheritable(change: impl Fn(u64) -> u64) -> Result<(), Failure> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    must!(Stage::Capabilities, 0, libc::SYS_capget, &raw mut header, halves.as_mut_ptr());
    let old = u64::from(halves[1].inheritable) << 32 | u64::from(halves[0].inheritable);
    let new = change(old);
    if new == old {
        return Ok(());
    }
    halves[0].inheritable = new as u32;
    halves[1].inheritable = (new >> 32) as u32;
    must!(Stage::Capabilities, 0, libc::SYS_capset, &raw mut header, halves.as_ptr());
    Ok(())
}

fn secure_bits(bits: u32) -> Result<(), Failure> {
    must!(Stage::SecureBits, 0, libc::SYS_prctl, libc::PR_SET_SECUREBITS, bits as c_long, NONE, NONE, NONE);
    Ok(())
}
