//! The few statistics that figures need.

/// The median; of an even number of values, the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The smallest value that at least a share of all does not exceed.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Where the median of what the values were drawn from lies, with a confidence of at least 95 %: the pair of values of equal
/// rank from both ends for which the sign test says so. Assumes nothing about the distribution; needs six values.
pub(super) fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let n = sorted.len();
    // The chance that fewer than `rank` of n values lie on one side of the median.
    let (mut chance, mut binomial, mut rank) = (0.0, 0.5_f64.powi(i32::try_from(n).ok()?), 0);
    while rank < n / 2 {
        chance += binomial;
        if 2.0 * chance > 0.05 {
            break;
        }
        rank += 1;
        binomial *= (n + 1 - rank) as f64 / rank as f64;
    }
    (rank > 0).then(|| (sorted[rank - 1], sorted[n - rank]))
}

/// Each value divided by its partner.
pub(super) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.9, 0.99, 1.0].map(|share| quantile(&ten, share)), [1.0, 5.0, 9.0, 10.0, 10.0]);
    }

    /// The ranks are those of any table of the sign test.
    #[test]
    fn an_interval_of_the_median_has_the_ranks_of_the_sign_test() {
        let interval = |n: i32| median_interval(&(1..=n).map(f64::from).collect::<Vec<_>>());
        assert_eq!(interval(5), None);
        assert_eq!(interval(6), Some((1.0, 6.0)));
        assert_eq!(interval(8), Some((1.0, 8.0)));
        assert_eq!(interval(11), Some((2.0, 10.0)));
        assert_eq!(interval(20), Some((6.0, 15.0)));
    }
}
