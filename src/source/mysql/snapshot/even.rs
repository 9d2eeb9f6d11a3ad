//! Keys that lie evenly: where a chunk ends is then computed, and no key is walked over.
//!
//! Of a key that is one integer, chunks that were read say how far apart its values lie. Where that has been about the same a few times, the next chunk is as wide as
//! so many rows have been. A wrong guess is a chunk of another size, no other chunk's rows: too small a one costs a statement, too large a one is cut smaller and read
//! again ([`LARGEST`](super::chunk::LARGEST)); after it, keys are walked over until they lie evenly again. Up to the table's last key alone, as it was
//! when the table was described: behind that nothing says how many there are.

/// How often in a row values have lain alike before it is relied on.
const ENOUGH: u32 = 3;

/// How far apart the values of a key lie.
#[derive(Debug, Default)]
pub struct Spacing {
    /// The key's highest value at the beginning; `None`: it is not one integer, or not known.
    last: Option<i128>,
    /// From one value to the next, on average, in the chunk that was read last.
    gap: f64,
    alike: u32,
}

impl Spacing {
    #[must_use]
    pub fn up_to(last: Option<i128>) -> Spacing {
        Spacing { last, ..Spacing::default() }
    }

    /// A chunk with values above `after`, up to and with `upto`, had so many rows.
    pub fn saw(&mut self, after: i128, upto: i128, rows: usize) {
        let gap = (upto - after) as f64 / rows as f64;
        // Without rows, and where there was none before, it is like nothing.
        let is_alike = gap.is_finite() && (0.5..2.0).contains(&(gap / self.gap));
        self.alike = if is_alike { self.alike.saturating_add(1) } else { 0 };
        self.gap = gap;
    }

    /// A chunk was too large, or the way goes on somewhere else.
    pub fn forget(&mut self) {
        self.alike = 0;
    }

    /// Where a chunk of about `rows` rows ends that begins behind `after`, if that can be told.
    #[must_use]
    pub fn end_behind(&self, after: i128, rows: usize) -> Option<i128> {
        let width = (self.gap * rows as f64).max(1.0);
        // Of what an integer column holds.
        if self.alike < ENOUGH || width > u64::MAX as f64 {
            return None;
        }
        Some(after + width as i128).filter(|upto| self.last.is_some_and(|last| *upto < last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_computed_while_values_lie_evenly_and_the_last_key_is_not_reached() {
        let mut spacing = Spacing::up_to(Some(100_000));
        for chunk in 0..4 {
            assert_eq!(spacing.end_behind(chunk * 1_000, 500), None, "{chunk}");
            spacing.saw(chunk * 1_000, (chunk + 1) * 1_000, 500);
        }
        assert_eq!(spacing.end_behind(4_000, 500), Some(5_000));
        assert_eq!(spacing.end_behind(99_000, 500), None);
        // A bit closer together: the next is as wide as that.
        spacing.saw(4_000, 5_000, 800);
        assert_eq!(spacing.end_behind(5_000, 800), Some(6_000));
        spacing.forget();
        assert_eq!(spacing.end_behind(6_000, 800), None);
    }

    #[test]
    fn after_a_wrong_guess_keys_are_walked_over() {
        for rows in [0, 3, 20_000] {
            let mut spacing = Spacing::up_to(Some(i128::from(u64::MAX)));
            for chunk in 0..10 {
                spacing.saw(chunk * 1_000, (chunk + 1) * 1_000, 500);
            }
            assert!(spacing.end_behind(10_000, 500).is_some());
            spacing.saw(10_000, 11_000, rows);
            assert_eq!(spacing.end_behind(11_000, 500), None, "{rows}");
        }
    }

    #[test]
    fn the_ends_of_what_an_integer_can_be_are_no_surprise() {
        let (lowest, highest) = (i128::from(i64::MIN), i128::from(u64::MAX));
        let mut spacing = Spacing::up_to(Some(highest));
        for _ in 0..5 {
            spacing.saw(lowest, highest, 1);
        }
        assert_eq!(spacing.end_behind(lowest, 1), None);
        assert_eq!(spacing.end_behind(highest, usize::MAX), None);
        assert_eq!(Spacing::up_to(None).end_behind(0, 1), None);
    }
}
