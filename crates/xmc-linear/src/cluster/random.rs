//! Random draws as libpecos makes them: the 32-bit Mersenne twister, and bounded integers as in the C++ standard
//! library that its wheels are built with (libstdc++ up to version 10).

use rand_mt::Mt;

/// A stream of bounded integers.
pub(super) struct Draws(Mt);

impl Draws {
    pub(super) fn new(seed: u32) -> Self {
        Draws(Mt::new(seed))
    }

    /// Any 32-bit number.
    pub(super) fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number from 0 to `n - 1`: `raw / floor((2^32 - 1) / n)`, drawing again when that is out of range.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        let scaling = u32::MAX / n.max(1);
        loop {
            let drawn = self.next_u32() / scaling;
            if drawn < n.max(1) {
                return drawn;
            }
        }
    }
}
