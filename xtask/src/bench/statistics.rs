//! Medians, and how far they can be trusted.

/// The middle of some measurements, and the interval that has the true middle in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Middle {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Middle {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Option<Middle> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let median = (sorted.get(count.checked_sub(1)? / 2)? + sorted.get(count / 2)?) / 2.0;
        let rank = rank(count).max(1);
        Some(Middle { median, low: *sorted.get(rank - 1)?, high: *sorted.get(count - rank)? })
    }
}

/// The interval goes from the value with this rank to the one with the same rank from the top; 0 when
/// there are too few values for 95 %.
fn rank(count: usize) -> usize {
    (1..=count / 2).take_while(|rank| outside(count, *rank) <= 0.05).last().unwrap_or(0)
}

/// How likely the true median is outside of the interval of this rank: it is when fewer than `rank` of
/// the values are on one side of it, and each is on either side with the same chance, whatever their
/// distribution.
fn outside(count: usize, rank: usize) -> f64 {
    let (mut ways, mut sum) = (1.0, 0.0);
    for below in 0..rank {
        sum += ways;
        ways *= (count - below) as f64 / (below + 1) as f64;
    }
    2.0 * sum / 2_f64.powi(count as i32)
}

/// What the intervals of a table are.
pub(super) fn explanation(pairs: usize) -> String {
    let rank = rank(pairs);
    if rank == 0 {
        return format!(
            "intervals are least and greatest: {pairs} pairs are too few for 95 % (6 are enough)"
        );
    }
    let sure = 100.0 * (1.0 - outside(pairs, rank));
    format!(
        "a ratio is the median over {pairs} alternating pairs; its interval is by order statistics, from value {rank} \
         to value {} of {pairs}: {sure:.1} % sure. Of fewer \
         than 6 values (over, deflate, large) it is least and greatest. A goal is missed when the whole interval is over it.",
        pairs + 1 - rank
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_values_are_trusted_from_the_second_to_the_ninth() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!(Middle::of(&values), Some(Middle { median: 5.5, low: 2.0, high: 9.0 }));
        assert!((outside(10, 2) - 22.0 / 1024.0).abs() < 1e-9);
    }

    #[test]
    fn few_values_span_their_whole_range() {
        assert_eq!(Middle::of(&[3.0, 1.0]), Some(Middle { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Middle::of(&[]), None);
        assert!(explanation(2).contains("too few"));
    }

    #[test]
    fn no_interval_is_less_than_95_percent_sure() {
        for count in 6..200 {
            assert!(rank(count) > 0 && outside(count, rank(count)) <= 0.05, "{count}");
        }
    }
}
