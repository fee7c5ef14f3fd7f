//! How many connections wait on a listening unix socket: one question to NETLINK_SOCK_DIAG (sock_diag(7)). `None` where
//! the kernel does not tell. Nothing is kept open between questions.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::AsRawFd;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
/// struct nlmsghdr, struct unix_diag_msg.
const HEADER_BYTES: usize = 16;
const ANSWER_BYTES: usize = 16;

/// The queue of the unix socket with that inode.
pub(super) fn of_unix(inode: u64) -> Option<u32> {
    let inode = u32::try_from(inode).ok()?;
    let asked = SockProtocol::NetlinkSockDiag;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(asked)).ok()?;
    send(netlink.as_raw_fd(), &question(inode), MsgFlags::empty()).ok()?;
    let mut answer = [0u8; 512];
    // The kernel has answered before send returns.
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
    queue_length(answer.get(..length)?)
}

/// struct nlmsghdr and struct unix_diag_req: family, protocol, states, inode, what to show, no cookie.
fn question(inode: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, UDIAG_SHOW_RQLEN, u32::MAX, u32::MAX] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Of a listening socket the receive queue is what waits, the send queue what may wait.
fn queue_length(answer: &[u8]) -> Option<u32> {
    let word16 = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if word16(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = HEADER_BYTES + ANSWER_BYTES;
    loop {
        let length = usize::from(word16(at)?);
        if word16(at + 2)? == UNIX_DIAG_RQLEN {
            return Some(u32::from_ne_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?));
        }
        // An attribute counts its own four bytes and is padded to four.
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_give_nothing() {
        assert_eq!(queue_length(&[]), None);
        assert_eq!(queue_length(&[0; 40]), None);
        let mut short = question(1);
        short.truncate(34);
        assert_eq!(queue_length(&short), None);
        assert_eq!(of_unix(0), None);
    }
}
