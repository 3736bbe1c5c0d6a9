//! How many rows make one batch? As many as have a given number of tokens together.
//!
//! A batch of a fixed number of rows is large when its texts are long; a batch of a fixed number of tokens always costs
//! the same. Rows of like length go together, which keeps sequences of a chunk alike for attention.

use super::Tokens;

/// Cuts `rows` into groups with at most `budget` tokens each, at least one row in each: the longest rows first, equally
/// long ones in the given order.
pub fn by_budget(tokens: &Tokens, rows: &[u32], budget: usize) -> Vec<Vec<u32>> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|&i| std::cmp::Reverse(tokens.row_len(i as usize)));
    let mut groups: Vec<Vec<u32>> = Vec::new();
    // None: the last group is full, even for rows without tokens.
    let mut room: Option<usize> = None;
    for i in sorted {
        let needed = tokens.row_len(i as usize);
        let left = room.and_then(|room| room.checked_sub(needed));
        if let Some(group) = groups.last_mut().filter(|_| left.is_some()) {
            group.push(i);
            room = left;
        } else {
            groups.push(vec![i]);
            room = budget.checked_sub(needed);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_is_in_one_group_and_no_group_is_too_large(
            lengths in proptest::collection::vec(0usize..12, 0..40),
            budget in 0usize..30,
        ) {
            let tokens = Tokens::new(lengths.iter().map(|&n| vec![7; n]));
            let rows: Vec<u32> = (0..lengths.len() as u32).rev().collect();
            let groups = by_budget(&tokens, &rows, budget);
            let mut seen = groups.concat();
            prop_assert!(seen.is_sorted_by_key(|&i| std::cmp::Reverse(lengths[i as usize])));
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            for group in &groups {
                let total: usize = group.iter().map(|&i| lengths[i as usize]).sum();
                prop_assert!(group.len() == 1 || total <= budget, "{group:?} has {total} tokens");
            }
            // No group could have taken the first row of the next.
            for pair in groups.windows(2) {
                let total: usize = pair[0].iter().map(|&i| lengths[i as usize]).sum();
                prop_assert!(total + lengths[pair[1][0] as usize] > budget);
            }
        }
    }

    #[test]
    fn equally_long_rows_keep_their_order() {
        let tokens = Tokens::new([vec![1; 2], vec![1; 3], vec![1; 2], vec![1; 3]]);
        assert_eq!(by_budget(&tokens, &[2, 3, 0, 1], 6), [vec![3, 1], vec![2, 0]]);
        assert_eq!(by_budget(&tokens, &[0, 1], 1), [vec![1], vec![0]]);
    }
}
