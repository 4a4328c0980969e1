//! Which title and which transport a session gets, by weight.
//!
//! ```text
//! weights 3, 1 --> 0 0 1 0 | 0 0 1 0 | ...      each round of 4 sessions has exactly 3 and 1
//! ```
//! Smooth weighted round robin: everyone's credit grows by its weight, the richest is picked and
//! pays the sum. Nothing is drawn, so that a mix is exact in small runs and the same every time.
//! Invariant: after every whole round each item was picked as often as its weight says.
//! Bound: weights up to [`WEIGHT_MAX`]; a pick looks at every item once.

/// Largest weight of one item.
pub const WEIGHT_MAX: u32 = 10_000;

/// Picks items by their weights.
#[derive(Debug, Clone, Default)]
pub struct Mix {
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    weight: i64,
    credit: i64,
}

impl Mix {
    /// A mix of as many items as there are weights; those without weight are never picked.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights = weights.into_iter().map(|weight| i64::from(weight.min(WEIGHT_MAX)));
        Self { items: weights.map(|weight| Item { weight, credit: 0 }).collect() }
    }

    /// Each of `first` with each of `second`, as pairs in the order of `first`; a pair weighs what
    /// its parts weigh together, so that no title always comes with the same transport.
    #[must_use]
    pub fn of_pairs(first: &[u32], second: &[u32]) -> Self {
        let limited = |weight: u32| i64::from(weight.min(WEIGHT_MAX));
        let pairs = first.iter().flat_map(|&a| second.iter().map(move |&b| (a, b)));
        let weights = pairs.map(|(a, b)| limited(a) * limited(b));
        Self { items: weights.map(|weight| Item { weight, credit: 0 }).collect() }
    }

    /// The next item; `None` when none has a weight.
    pub fn pick(&mut self) -> Option<usize> {
        let sum: i64 = self.items.iter().map(|item| item.weight).sum();
        self.items.iter_mut().for_each(|item| item.credit += item.weight);
        let candidates = self.items.iter().enumerate().filter(|(_, item)| item.weight > 0);
        // The first of equals, so that equal weights take turns in order.
        let (index, _) = candidates.rev().max_by_key(|(_, item)| item.credit)?;
        if let Some(item) = self.items.get_mut(index) {
            item.credit -= sum;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picks(mix: &mut Mix, count: usize) -> Vec<usize> {
        (0..count).map_while(|_| mix.pick()).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(picks(&mut Mix::new([1, 1, 1]), 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn weights_are_kept_within_each_round() {
        assert_eq!(picks(&mut Mix::new([3, 1]), 8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(picks(&mut Mix::new([0, 2]), 2), [1, 1]);
        assert_eq!(Mix::new([0, 0]).pick(), None);
    }

    #[test]
    fn every_title_meets_every_transport() {
        let mut mix = Mix::of_pairs(&[1, 1], &[1, 1]);
        let mut seen = picks(&mut mix, 4);
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
    }

    proptest! {
        #[test]
        fn each_item_is_picked_as_often_as_it_weighs(
            weights in prop::collection::vec(0u32..20, 1..8),
        ) {
            let sum: u32 = weights.iter().sum();
            let mut mix = Mix::new(weights.iter().copied());
            let round = picks(&mut mix, sum as usize);
            for (index, &weight) in weights.iter().enumerate() {
                let count = round.iter().filter(|&&picked| picked == index).count();
                prop_assert_eq!(count, weight as usize);
            }
        }
    }
}
