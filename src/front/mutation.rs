//! Files that are spoilt at random, for the tests of readers: the same ones each time, from a seed.

use crate::plan::Origin;

/// Files by their names.
pub(super) type Files = Vec<(&'static str, Vec<u8>)>;

/// A small generator of random numbers (xorshift64), and what it makes of files.
pub(super) struct Mutator(pub(super) u64);

impl Mutator {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    /// One to `most` bytes of them are changed, left out or added (of `bytes`), or their ends written twice.
    pub(super) fn spoilt(&mut self, files: &[(&'static str, &str)], most: usize, bytes: &[u8]) -> Files {
        let mut files: Files = files.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
        for _ in 0..=self.next(most) {
            let count = files.len();
            let file = &mut files[self.next(count)].1;
            let at = self.next(file.len());
            match self.next(4) {
                _ if file.is_empty() => {}
                0 => file[at] = self.next(256) as u8,
                1 => drop(file.remove(at)),
                2 => file.insert(at, bytes[self.next(bytes.len())]),
                _ => file.extend_from_within(at..),
            }
        }
        files
    }
}

/// Whether it names a line that is there; `None`: it is of no file.
pub(super) fn names_a_line(files: &Files, origin: &Origin) -> Option<bool> {
    let Origin::File { name, line } = origin else { return None };
    let (_, bytes) = files.iter().find(|(path, _)| path == name).expect("a file that there is");
    Some((1..=bytes.split(|byte| *byte == b'\n').count()).contains(line))
}
