//! Lists whose pages lead round in a circle: they would never end.

/// Notices when the cursors of one list come back, with the memory of a single one of them
/// (Brent's algorithm): within three times the pages that differ.
#[derive(Default)]
pub(super) struct Circle {
    kept: Option<String>,
    /// The cursors since the one that is kept.
    steps: u64,
    /// The steps after which a later one is kept.
    steps_max: u64,
}

impl Circle {
    /// Returns true if `cursor` came before.
    pub(super) fn closes(&mut self, cursor: &str) -> bool {
        if self.kept.as_deref() == Some(cursor) {
            return true;
        }
        if self.steps >= self.steps_max {
            self.kept = Some(cursor.to_owned());
            self.steps_max = (self.steps_max * 2).max(1);
            self.steps = 0;
        }
        self.steps += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of pages that are read of a list that leads into a circle; `None` if it ends.
    fn pages(before: usize, round: usize) -> Option<usize> {
        let mut circle = Circle::default();
        let cursor = |page: usize| match page.checked_sub(before) {
            Some(behind) if round > 0 => format!("c{}", before + behind % round),
            _ => format!("c{page}"),
        };
        (0..10_000).find(|page| circle.closes(&cursor(*page)))
    }

    #[test]
    fn every_circle_is_noticed_and_no_list_that_ends() {
        assert_eq!(pages(10_000, 0), None);
        for before in [0, 1, 2, 7, 100] {
            for round in [1, 2, 3, 8, 100] {
                let read = pages(before, round).unwrap();
                assert!(read >= round && read <= 3 * (before + round), "{before} {round}: {read}");
            }
        }
    }
}
