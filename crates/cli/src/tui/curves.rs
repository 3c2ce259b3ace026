//! Curves of the loss chart: smoothing, logarithmic axes, and readable labels.

/// Points and axes of what is drawn.
#[derive(Debug, Default, PartialEq)]
pub struct Drawn {
    /// Training losses, unsmoothed.
    pub raw: Vec<(f64, f64)>,
    /// Training losses, smoothed.
    pub smooth: Vec<(f64, f64)>,
    /// Validation losses.
    pub validation: Vec<(f64, f64)>,
    /// Bounds of x, as logarithms on a logarithmic axis.
    pub x: [f64; 2],
    /// Bounds of y, as logarithms on a logarithmic axis.
    pub y: [f64; 2],
    /// Labels of x.
    pub x_labels: Vec<String>,
    /// Labels of y.
    pub y_labels: Vec<String>,
}

/// Computes the curves; `None` if there is nothing to draw.
pub fn layout(
    losses: &[(f64, f64)],
    validation: &[(f64, f64)],
    log_x: bool,
    log_y: bool,
    smoothing: f64,
) -> Option<Drawn> {
    let all = || losses.iter().chain(validation);
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        let range = all()
            .map(value)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        (range.0 <= range.1).then_some(range)
    };
    let (first, last) = bounds(|point| point.0)?;
    let (low, high) = bounds(|point| point.1)?;
    // Logarithms need positive numbers: steps start at 1, and losses of 0 are left out.
    let scale = |value: f64, log: bool| if log { value.max(1e-6).log10() } else { value };
    let place =
        |points: &[(f64, f64)]| points.iter().map(|&(x, y)| (scale(x, log_x), scale(y, log_y))).collect();
    let x = [scale(first, log_x), scale(last, log_x).max(scale(first, log_x) + 1e-3)];
    let margin = 0.02 * (scale(high, log_y) - scale(low, log_y)).max(1e-3);
    let y = [scale(low, log_y) - margin, scale(high, log_y) + margin];
    let labels = |bounds: [f64; 2], log: bool, text: fn(f64) -> String| {
        [0.0, 0.5, 1.0]
            .map(|share| bounds[0] + share * (bounds[1] - bounds[0]))
            .map(|at| text(if log { 10f64.powf(at) } else { at }))
            .to_vec()
    };
    Some(Drawn {
        raw: place(losses),
        smooth: place(&smoothed(losses, smoothing)),
        validation: place(validation),
        x,
        y,
        x_labels: labels(x, log_x, |value| crate::output::count(value.round().max(0.0) as u64)),
        y_labels: labels(y, log_y, |value| format!("{value:.2}")),
    })
}

/// Exponential moving average with Adam's bias correction.
fn smoothed(points: &[(f64, f64)], share: f64) -> Vec<(f64, f64)> {
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .map(|&(x, y)| {
            sum = share * sum + (1.0 - share) * y;
            weight = share * weight + (1.0 - share);
            (x, sum / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_begins_at_the_first_value() {
        let smooth = smoothed(&[(1.0, 4.0), (2.0, 4.0), (3.0, 1.0)], 0.9);
        assert!((smooth[0].1 - 4.0).abs() < 1e-12 && (smooth[1].1 - 4.0).abs() < 1e-12);
        assert!(smooth[2].1 < 4.0 && smooth[2].1 > 2.5);
    }

    #[test]
    fn any_points_give_bounds_that_a_chart_can_have() {
        assert_eq!(layout(&[], &[], true, true, 0.9), None);
        for log in [false, true] {
            let drawn = layout(&[(1.0, 0.0)], &[(1.0, 0.0)], log, log, 0.0).unwrap();
            assert!(drawn.x[0] < drawn.x[1] && drawn.y[0] < drawn.y[1], "{drawn:?}");
            let drawn = layout(&[(1.0, 8.0), (1000.0, 2.0)], &[], log, log, 0.5).unwrap();
            assert_eq!(drawn.x_labels.last().map(String::as_str), Some("1.0k"));
        }
    }
}
