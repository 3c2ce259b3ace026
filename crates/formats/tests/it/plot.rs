//! The drawing's two forms, over ordinary runs and strange ones. The ordinary one is left in the target's
//! `tmp` folder to look at.

use std::path::Path;

use formats::plot::{Labels, Series, Style, loss_curve};

const LABELS: Labels = Labels {
    title: "quickstart: loss",
    subtitle: "1.2M parameters · 2,000 steps of 8,192 tokens",
    x: "Optimizer step",
    y: "Loss (nats per token)",
};

fn training(steps: usize) -> Series {
    let noise = |i: usize| ((i as f64 * 12.9898).sin() * 43_758.545_3).fract();
    let points = (1..=steps)
        .map(|i| (i as f64, 3.0 + 5.3 * (-(i as f64) * 8.0 / steps as f64).exp() + 0.3 * noise(i)));
    Series { name: "training".into(), points: points.collect(), style: Style::Noisy }
}

fn validation(values: &[f64]) -> Series {
    let points = values.iter().enumerate().map(|(i, &value)| ((i + 1) as f64 * 200.0, value)).collect();
    Series { name: "validation".into(), points, style: Style::Marked }
}

/// The numbers of every polyline's points.
fn coordinates(svg: &str) -> Vec<f32> {
    svg.split("points=\"")
        .skip(1)
        .flat_map(|rest| rest.split('"').next().unwrap().split([' ', ',']))
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn a_run_is_drawn_in_both_forms() {
    let run = [training(2000), validation(&[5.4, 4.3, 3.8, 3.5, 3.3, 3.2, 3.15, 3.13, 3.12, 3.16])];
    let drawing = loss_curve(&LABELS, &run);
    let (svg, png) = (drawing.to_svg(), drawing.to_png().unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(folder.join("loss_curve.svg"), &svg).unwrap();
    std::fs::write(folder.join("loss_curve.png"), &png).unwrap();

    for expected in ["quickstart: loss", "Optimizer step", "Loss (nats per token)", ">1,500<", ">8<"] {
        assert!(svg.contains(expected), "{expected}");
    }
    assert!(svg.contains("validation: 3.160 at the end, lowest 3.120"));
    assert_eq!(svg.matches("<circle").count(), 10 + 1, "ten points and the legend's");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&png[16..24], &[0, 0, 7, 128, 0, 0, 4, 56], "1920 × 1080");
    assert_eq!(drawing, loss_curve(&LABELS, &run));
    assert_eq!(png, drawing.to_png().unwrap());
}

#[test]
fn the_picture_is_not_blank_where_the_curves_are() {
    let empty = loss_curve(&LABELS, &[]).to_png().unwrap();
    let drawn = loss_curve(&LABELS, &[training(500)]).to_png().unwrap();
    assert!(drawn.len() > empty.len() + 5_000, "{} bytes against {}", drawn.len(), empty.len());
}

#[test]
fn a_long_run_stays_small_and_keeps_its_spikes() {
    let mut series = training(300_000);
    series.points[150_000].1 = 20.0;
    let svg = loss_curve(&LABELS, &[series]).to_svg();
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
    assert!(svg.contains(">20<"));
    let highest = coordinates(&svg).chunks(2).skip(20).map(|point| point[1]).fold(f32::MAX, f32::min);
    assert!(highest < 80.0, "the spike is drawn: {highest}");
}

#[test]
fn strange_values_are_drawn_without_a_panic_and_inside_the_sheet() {
    let cases = [
        vec![],
        vec![f64::NAN],
        vec![f64::INFINITY, 3.0, f64::NEG_INFINITY],
        vec![0.0; 3],
        vec![2.5],
        vec![1.0, f64::NAN, 2.0, 3.0],
        vec![1e14, -1e14],
        vec![1e-9, 2e-9],
    ];
    for values in cases {
        let drawing = loss_curve(&LABELS, &[validation(&values)]);
        for number in coordinates(&drawing.to_svg()) {
            assert!((-1.0..=961.0).contains(&number), "{values:?}: {number}");
        }
        drawing.to_png().unwrap();
    }
    let gap = loss_curve(&LABELS, &[validation(&[1.0, 2.0, f64::NAN, 2.0, 3.0])]).to_svg();
    let whole = loss_curve(&LABELS, &[validation(&[1.0, 2.0, 2.5, 2.0, 3.0])]).to_svg();
    assert_eq!(
        gap.matches("<polyline").count(),
        whole.matches("<polyline").count() + 1,
        "a gap splits the line"
    );
}

#[test]
fn text_from_outside_cannot_break_the_document() {
    let title = "</text><script>alert(1)</script>&\u{0}\u{1b}".repeat(20);
    let labels = Labels { title: &title, subtitle: "", ..LABELS };
    let named = Series { name: title.clone(), ..validation(&[1.0, 2.0]) };
    let drawing = loss_curve(&labels, &[named]);
    let svg = drawing.to_svg();
    assert!(!svg.contains("<script") && !svg.contains('\u{0}') && !svg.contains('\u{1b}'));
    assert!(!svg.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains('&'));
    drawing.to_png().unwrap();
}
