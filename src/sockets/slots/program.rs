//! The classic-BPF program that says which member of a SO_REUSEPORT group gets a new connection or a datagram.
//!
//! It mixes the packet's source address and port by itself: the kernel's own hash of the packet (SKF_AD_RXHASH) is 0 for
//! datagrams from unconnected sockets and on interfaces that compute none, and 0 for all would mean one slot for all.
//! A flow belongs to slot (hash % members); where that slot is not wanted, a second choice is made among the wanted ones:
//! so the flows of a slot stay where they are while another slot is steered around.

use libc::sock_filter;

/// Runs of wanted slots that a program names at most: 7 instructions each, so that the whole, translated, stays within
/// the 20480 bytes that older kernels allow (net.core.optmem_max). Later runs get nothing new until there are fewer.
const RUNS_MAX: usize = 250;

/// Offsets from here on count from the network header.
const NET: u32 = -0x10_0000_i32 as u32;

// The instructions, as BPF_LD | BPF_H | BPF_ABS and so on make them.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_HEADER_BYTES_X: u16 = 0xb1;
const RECALL: u16 = 0x60;
const KEEP: u16 = 0x02;
const ADD: u16 = 0x04;
const MULTIPLY: u16 = 0x24;
const DIVIDE: u16 = 0x34;
const SHIFT_RIGHT: u16 = 0x74;
const MODULO: u16 = 0x94;
const XOR_X: u16 = 0xac;
const TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x16;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k }
}

/// The whole program for a group whose member of index i is wanted where `wanted[i]`; at least one is.
pub(super) fn program(wanted: &[bool]) -> Vec<sock_filter> {
    let mut steps = hash();
    steps.extend(choice(wanted));
    steps
}

/// Leaves the hash of source address and source port.
fn hash() -> Vec<sock_filter> {
    vec![
        step(LOAD_BYTE, NET),
        step(SHIFT_RIGHT, 4),
        branch(JUMP_EQUAL, 6, 6, 0),
        // IPv4: the port follows a header of variable length.
        step(LOAD_HEADER_BYTES_X, NET),
        step(LOAD_HALF_AT_X, NET),
        step(MULTIPLY, 0x9e37_79b1),
        step(TO_X, 0),
        step(LOAD_WORD, NET + 12),
        // With the address, to where IPv6 has folded its own.
        step(JUMP, 13),
        // IPv6: behind extension headers this is not the port, and the address alone decides.
        step(LOAD_HALF, NET + 40),
        step(MULTIPLY, 0x9e37_79b1),
        step(TO_X, 0),
        step(LOAD_WORD, NET + 8),
        step(XOR_X, 0),
        step(TO_X, 0),
        step(LOAD_WORD, NET + 12),
        step(XOR_X, 0),
        step(TO_X, 0),
        step(LOAD_WORD, NET + 16),
        step(XOR_X, 0),
        step(TO_X, 0),
        step(LOAD_WORD, NET + 20),
        step(XOR_X, 0),
        step(MULTIPLY, 0x85eb_ca6b),
        step(TO_X, 0),
        step(SHIFT_RIGHT, 15),
        step(XOR_X, 0),
        step(MULTIPLY, 0xc2b2_ae35),
        step(TO_X, 0),
        step(SHIFT_RIGHT, 16),
        step(XOR_X, 0),
    ]
}

/// From a hash to an index: the one that the flow belongs to, else the k-th wanted one.
fn choice(wanted: &[bool]) -> Vec<sock_filter> {
    let runs = runs(wanted);
    let count: u32 = runs.iter().map(|(from, to)| to - from).sum();
    let mut steps = vec![step(KEEP, 0), step(MODULO, wanted.len() as u32)];
    if count as usize == wanted.len() {
        steps.push(step(RETURN, 0));
        return steps;
    }
    for (n, (from, to)) in runs.iter().enumerate() {
        // To the next run; to the second choice; this one.
        let second_choice = (runs.len() - 1 - n) * 4;
        steps.push(branch(JUMP_NOT_LESS, *to, 3, 0));
        steps.push(branch(JUMP_NOT_LESS, *from, 0, 1));
        steps.push(step(RETURN, 0));
        steps.push(step(JUMP, second_choice as u32));
    }
    // What the first division left over has not been used for anything yet.
    steps.extend([step(RECALL, 0), step(DIVIDE, wanted.len() as u32), step(MODULO, count)]);
    let mut before = 0;
    for (from, to) in runs {
        before += to - from;
        steps.push(branch(JUMP_NOT_LESS, before, 2, 0));
        steps.push(step(ADD, to - before));
        steps.push(step(RETURN, 0));
    }
    // Never reached, but a program has to end with a return.
    steps.push(step(RETURN, 0));
    steps
}

/// The runs of wanted indexes, [from, to).
fn runs(wanted: &[bool]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for index in (0..wanted.len()).filter(|index| wanted[*index]).map(|index| index as u32) {
        let full = runs.len() == RUNS_MAX;
        match runs.last_mut() {
            Some((_, to)) if *to == index => *to += 1,
            _ if full => break,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the second half of a program makes of a hash.
    fn run(steps: &[sock_filter], hash: u32) -> u32 {
        let (mut a, mut kept, mut at) = (hash, 0, 0);
        loop {
            let step = &steps[at];
            at += 1;
            match step.code {
                KEEP => kept = a,
                RECALL => a = kept,
                ADD => a = a.wrapping_add(step.k),
                DIVIDE => a /= step.k,
                MODULO => a %= step.k,
                JUMP => at += step.k as usize,
                JUMP_NOT_LESS => at += usize::from(if a >= step.k { step.jt } else { step.jf }),
                RETURN => return a,
                code => panic!("unknown {code:#x}"),
            }
        }
    }

    #[test]
    fn every_wanted_slot_of_every_pattern_is_met_and_no_other() {
        for (members, pattern) in (1..=8usize).flat_map(|n| (1..1u32 << n).map(move |pattern| (n, pattern))) {
            let wanted: Vec<bool> = (0..members).map(|slot| pattern >> slot & 1 == 1).collect();
            let steps = choice(&wanted);
            let mut met = vec![0usize; members];
            for hash in 0..(members * members * 5) as u32 {
                let index = run(&steps, hash) as usize;
                let own = hash as usize % members;
                assert!(wanted[index] && (index == own || !wanted[own]), "{wanted:?} {hash} {index}");
                met[index] += 1;
            }
            assert!((0..members).all(|slot| wanted[slot] == (met[slot] > 0)), "{wanted:?} {met:?}");
        }
    }

    #[test]
    fn a_large_group_fits_into_a_program() {
        let alternate = |count: usize| (0..count).map(|slot| slot % 2 == 1).collect::<Vec<bool>>();
        for count in [300, 500, 60_000] {
            let wanted = alternate(count);
            let steps = choice(&wanted);
            let whole = program(&wanted);
            assert!(whole.len() < 2000 && whole.len() <= libc::BPF_MAXINSNS as usize, "{}", whole.len());
            for hash in (0..u32::MAX).step_by(65_521) {
                assert!(wanted[run(&steps, hash) as usize], "{count} {hash}");
            }
        }
        // Where not all can be named, the first ones are.
        let steps = choice(&alternate(600));
        let met: std::collections::BTreeSet<u32> = (0..600 * 300).map(|hash| run(&steps, hash)).collect();
        assert_eq!(met, (0..250).map(|n| 2 * n + 1).collect());
    }
}
