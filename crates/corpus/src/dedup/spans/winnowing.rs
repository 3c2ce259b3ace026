//! Winnowing (Schleimer, Wilkerson and Aiken 2003): of all windows of a text, few places that equal windows
//! agree on.
//!
//! A window's anchor is the part of half its length that has the least hash, the last one of equal ones. It
//! depends on the window alone, so equal windows have equal anchors at the same distance; and neighbors
//! mostly share theirs: of random text one in a quarter of a window's bytes is an anchor.

use std::ops::Range;

use super::rolling::Rolling;
use crate::Result;

const BASE: u64 = 0x0b5a_7c1e_93d2_4f87;
/// Makes the order of hashes one of chance; odd, so that equal ones stay the only equal ones.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Windows that are neighbors and share their anchor.
pub struct Anchored {
    /// The anchor's.
    pub hash: u64,
    /// Where the anchor begins.
    pub at: usize,
    /// Where the windows begin.
    pub windows: Range<usize>,
}

/// Finds the anchors of windows.
pub struct Winnower {
    part_bytes: usize,
    parts_per_window: usize,
    rolling: Rolling,
    /// The order of recent parts, a window of them at least: a ring whose length is a power of two.
    recent: Vec<u64>,
}

impl Winnower {
    /// Of windows of so many bytes, one at least.
    pub fn new(window_bytes: usize) -> Winnower {
        let part_bytes = window_bytes.div_ceil(2);
        let parts_per_window = window_bytes - part_bytes + 1;
        let recent = vec![0; parts_per_window.next_power_of_two()];
        Winnower { part_bytes, parts_per_window, rolling: Rolling::new(BASE, part_bytes), recent }
    }

    /// Hands all windows of `text` to `take`, by their anchors and in order.
    pub fn each(&mut self, text: &[u8], mut take: impl FnMut(Anchored) -> Result<()>) -> Result<()> {
        let Some(first) = text.get(..self.part_bytes) else { return Ok(()) };
        let ring = self.recent.len() - 1;
        let mut least = (u64::MAX, 0);
        let mut hash = self.rolling.of(first);
        let mut current: Option<Anchored> = None;
        for at in 0..=text.len() - self.part_bytes {
            if at > 0 {
                hash = self.rolling.next(hash, text[at - 1], text[at + self.part_bytes - 1]);
            }
            let order = hash.wrapping_mul(SPREAD);
            self.recent[at & ring] = order;
            if order <= least.0 {
                least = (order, at);
            }
            let Some(window) = (at + 1).checked_sub(self.parts_per_window) else { continue };
            if least.1 < window {
                // Rare, since the least of many is mostly far ahead; a queue of candidates would cost more at
                // each step.
                least = (u64::MAX, window);
                for part in window..=at {
                    if self.recent[part & ring] <= least.0 {
                        least = (self.recent[part & ring], part);
                    }
                }
            }
            let (hash, at) = least;
            match &mut current {
                Some(anchored) if anchored.at == at => anchored.windows.end = window + 1,
                _ => {
                    if let Some(done) = current.replace(Anchored { hash, at, windows: window..window + 1 }) {
                        take(done)?;
                    }
                }
            }
        }
        current.map_or(Ok(()), take)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn each_window_has_one_anchor_and_equal_windows_the_same() {
        let mut state = 1u32;
        let mut text: Vec<u8> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + (state >> 30) as u8
            })
            .collect();
        text.extend_from_within(3000..9000);
        text.extend_from_slice(&[b'a'; 3000]);
        for bytes in [1usize, 2, 3, 50, 201] {
            let (mut next, mut anchors) = (0, 0);
            let mut known: HashMap<&[u8], (u64, usize)> = HashMap::new();
            let check = |anchored: Anchored| {
                assert_eq!(anchored.windows.start, next);
                next = anchored.windows.end;
                anchors += 1;
                for window in anchored.windows {
                    let distance = anchored.at - window;
                    assert!(distance + bytes.div_ceil(2) <= bytes);
                    let found =
                        *known.entry(&text[window..window + bytes]).or_insert((anchored.hash, distance));
                    assert_eq!(found, (anchored.hash, distance));
                }
                Ok(())
            };
            Winnower::new(bytes).each(&text, check).unwrap();
            assert_eq!(next, text.len() - bytes + 1);
            // But for the run of one letter, where each place is an anchor.
            assert!(bytes < 50 || anchors - 3000 < 26_000 / (bytes / 5), "{anchors} of {bytes} bytes");
        }
        Winnower::new(5).each(b"four", |_| panic!("there is no window")).unwrap();
        Winnower::new(5).each(b"", |_| panic!("there is no window")).unwrap();
    }
}
