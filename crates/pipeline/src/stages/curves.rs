//! Draws the loss curve of a run as SVG and PNG.

use formats::plot::{Labels, Series, Style, loss_curve};
use runs::metrics::Metric;
use runs::run::RunDir;
use store::fs::RealFs;

use crate::Result;

/// Draws `loss.svg` and `loss.png` into the run's folder from its `metrics.jsonl`.
pub(super) fn draw(run: &RunDir, name: &str) -> Result<()> {
    let metrics = runs::metrics::read(&RealFs, &run.metrics())?;
    let mut training = Vec::new();
    let mut validation = Vec::new();
    for metric in &metrics {
        match metric {
            Metric::Step(record) => training.push((record.step as f64, record.loss)),
            Metric::Validation(record) => validation.push((record.step as f64, record.loss)),
            _ => {}
        }
    }
    let series = [
        Series { name: "training".to_owned(), points: training, style: Style::Noisy },
        Series { name: "validation".to_owned(), points: validation, style: Style::Marked },
    ];
    let series: Vec<Series> = series.into_iter().filter(|series| !series.points.is_empty()).collect();
    let id = run.id();
    let labels = Labels { title: name, subtitle: &id, x: "Optimizer step", y: "Loss (nats per token)" };
    let drawing = loss_curve(&labels, &series);
    let write = |file: &str, bytes: &[u8]| store::atomic::write(&RealFs, &run.path().join(file), bytes);
    write("loss.svg", drawing.to_svg().as_bytes())?;
    write("loss.png", &drawing.to_png()?)?;
    Ok(())
}
