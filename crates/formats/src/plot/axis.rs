//! The range and ticks of an axis: round numbers, few enough to read.

/// One axis: values from `low` to `high`, marked every `step`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Axis {
    /// An axis that covers the values and ends on marks, with about `marks` of them.
    pub(super) fn covering(values: impl Iterator<Item = f64>, marks: usize) -> Axis {
        let (low, high) = bounds(values);
        let step = round_step((high - low) / marks as f64);
        Axis { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// An axis that ends at the last value, whether or not there is a tick: for time, where empty space on
    /// the right would be misleading.
    pub(super) fn tight(values: impl Iterator<Item = f64>, marks: usize) -> Axis {
        let (low, high) = bounds(values);
        Axis { low, high, step: round_step((high - low) / marks as f64) }
    }

    /// Position of a value: 0 at `low`, 1 at `high`.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The marks with their labels.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        let first = (self.low / self.step - 1e-6).ceil() as i64;
        let last = (self.high / self.step + 1e-6).floor() as i64;
        let decimals = (-self.step.log10().floor()).clamp(0.0, 12.0) as usize;
        // Whole multiples: adding the step up would drift.
        (first..=last).map(|i| (i as f64 * self.step, number(i as f64 * self.step, decimals))).collect()
    }
}

/// Smallest and largest finite value, apart at least a little.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite() && value.abs() < 1e15)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0);
    }
    let least = (low.abs().max(high.abs()) * 1e-6).max(1e-6);
    if high - low < least { (low - 0.5 * least.max(1e-3), high + 0.5 * least.max(1e-3)) } else { (low, high) }
}

/// The 1, 2 or 5 times a power of ten at or above `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let digit =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= rough * 0.999).unwrap_or(10.0);
    digit * power
}

/// `12,345.60`, with a real minus sign.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) =
        text.split_once('.').map_or((&text[..], None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    if value < 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        grouped.push('\u{2212}');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis) -> Vec<String> {
        axis.marks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn marks_are_round_and_cover_the_values() {
        let loss = Axis::covering([2.91, 8.32].into_iter(), 6);
        assert_eq!((loss.low, loss.high), (2.0, 9.0));
        assert_eq!(labels(loss), ["2", "3", "4", "5", "6", "7", "8", "9"]);
        let steps = Axis::tight([1.0, 2345.0].into_iter(), 6);
        assert_eq!((steps.low, steps.high), (1.0, 2345.0));
        assert_eq!(labels(steps), ["500", "1,000", "1,500", "2,000"]);
        assert_eq!(
            labels(Axis::covering([0.1, 0.3].into_iter(), 4)),
            ["0.10", "0.15", "0.20", "0.25", "0.30"]
        );
    }

    #[test]
    fn strange_values_still_make_an_axis() {
        for values in [
            vec![],
            vec![f64::NAN, f64::INFINITY],
            vec![3.0],
            vec![0.0, 0.0],
            vec![1e300, 2.0],
            vec![-1e14, 1e14],
        ] {
            let axis = Axis::covering(values.iter().copied(), 5);
            assert!(axis.low < axis.high, "{values:?}");
            let count = axis.marks().len();
            assert!((1..=12).contains(&count), "{values:?}: {count} marks");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.0, 0), "1,234,567");
        assert_eq!(number(-0.5, 1), "\u{2212}0.5");
        assert_eq!(number(-0.0001, 2), "0.00");
        assert_eq!(number(999.0, 0), "999");
    }
}
