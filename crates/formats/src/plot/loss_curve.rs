//! Loss over training: the noisy training loss faint below its running mean, validation as marked points.

use super::axis::{Axis, number};
use super::drawing::{Anchor, Color, Drawing, Shape};
use super::font::Font;

/// The sheet and the margins around the plot's frame.
const WIDTH: f32 = 960.0;
const HEIGHT: f32 = 540.0;
const LEFT: f32 = 76.0;
const RIGHT: f32 = 28.0;
const TOP: f32 = 74.0;
const BOTTOM: f32 = 62.0;

const INK: Color = Color(0x1f, 0x29, 0x37, 255);
const MUTED: Color = Color(0x5b, 0x65, 0x73, 255);
const GRID: Color = Color(0xe5, 0xe7, 0xeb, 255);
const FRAME: Color = Color(0x9c, 0xa3, 0xaf, 255);
/// Distinguishable for color-blind readers (after Okabe & Ito).
const PALETTE: [Color; 6] = [
    Color(0x1d, 0x6f, 0xb8, 255),
    Color(0xd5, 0x5e, 0x00, 255),
    Color(0x00, 0x9e, 0x73, 255),
    Color(0xb3, 0x4d, 0x8c, 255),
    Color(0xb8, 0x86, 0x0b, 255),
    Color(0x4b, 0x55, 0x63, 255),
];
/// More dots than this run into one another.
const MOST_DOTS: usize = 60;
/// Below this, a running mean has nothing to smooth.
const FEWEST_SMOOTHED: usize = 40;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Many noisy values: a faint line, and over it their running mean.
    Noisy,
    /// Few values: a line with a dot at each.
    Marked,
}

/// One named curve. Points that are not finite leave a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// (x, y), x not falling.
    pub points: Vec<(f64, f64)>,
    /// Line style.
    pub style: Style,
}

/// Labels of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labels<'a> {
    /// Title.
    pub title: &'a str,
    /// Below the title, smaller; may be empty.
    pub subtitle: &'a str,
    /// With its unit: "Optimizer step".
    pub x: &'a str,
    /// With its unit: "Loss (nats per token)".
    pub y: &'a str,
}

/// Draws the curves of a run, or of several runs to compare.
pub fn loss_curve(labels: &Labels, series: &[Series]) -> Drawing {
    let points = || {
        series.iter().flat_map(|series| series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()))
    };
    let x_axis = Axis::tight(points().map(|point| point.0), 8);
    let y_axis = Axis::covering(points().map(|point| point.1), 6);
    let frame = Frame { x: x_axis, y: y_axis };
    let mut shapes = Vec::new();
    frame.draw(&mut shapes, labels);
    for (series, color) in series.iter().zip(PALETTE.iter().cycle()) {
        draw_series(&mut shapes, &frame, series, *color);
    }
    draw_legend(&mut shapes, series);
    if points().next().is_none() {
        let at = (LEFT + 0.5 * (WIDTH - LEFT - RIGHT), TOP + 0.5 * (HEIGHT - TOP - BOTTOM));
        shapes.push(text(at, 15.0, Anchor::Middle, MUTED, "no values yet".to_owned()));
    }
    Drawing { width: WIDTH, height: HEIGHT, title: labels.title.to_owned(), shapes }
}

/// Values to places on the sheet.
struct Frame {
    x: Axis,
    y: Axis,
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> (f32, f32) {
        (self.column(x), self.row(y))
    }

    fn column(&self, x: f64) -> f32 {
        LEFT + self.x.fraction(x) as f32 * (WIDTH - LEFT - RIGHT)
    }

    fn row(&self, y: f64) -> f32 {
        HEIGHT - BOTTOM - self.y.fraction(y) as f32 * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, shapes: &mut Vec<Shape>, labels: &Labels) {
        let font = Font::embedded();
        let fitted = |text: &str, size: f32| font.fit(text, size, WIDTH - LEFT - RIGHT);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in self.y.marks() {
            let y = self.row(value);
            shapes.push(line(vec![(LEFT, y), (right, y)], 1.0, GRID));
            shapes.push(text((LEFT - 10.0, y + 4.5), 13.0, Anchor::End, MUTED, label));
        }
        for (value, label) in self.x.marks() {
            let x = self.column(value);
            shapes.push(line(vec![(x, TOP), (x, bottom)], 1.0, GRID));
            shapes.push(line(vec![(x, bottom), (x, bottom + 5.0)], 1.0, FRAME));
            shapes.push(text((x, bottom + 21.0), 13.0, Anchor::Middle, MUTED, label));
        }
        shapes.push(line(vec![(LEFT, TOP), (LEFT, bottom), (right, bottom)], 1.2, FRAME));
        shapes.push(text((LEFT, 34.0), 20.0, Anchor::Start, INK, fitted(labels.title, 20.0)));
        shapes.push(text((LEFT, 56.0), 13.0, Anchor::Start, MUTED, fitted(labels.subtitle, 13.0)));
        shapes.push(text(
            (0.5 * (LEFT + right), HEIGHT - 16.0),
            14.0,
            Anchor::Middle,
            INK,
            fitted(labels.x, 14.0),
        ));
        shapes.push(Shape::Text {
            at: (24.0, 0.5 * (TOP + bottom)),
            size: 14.0,
            anchor: Anchor::Middle,
            upward: true,
            color: INK,
            text: font.fit(labels.y, 14.0, bottom - TOP),
        });
    }
}

fn draw_series(shapes: &mut Vec<Shape>, frame: &Frame, series: &Series, color: Color) {
    for run in series.points.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
        let smoothed = series.style == Style::Noisy && run.len() >= FEWEST_SMOOTHED;
        let (width, faint) = if smoothed { (1.0, color.with_opacity(80)) } else { (2.2, color) };
        shapes.extend(curve(frame, run, width, faint));
        if smoothed {
            shapes.extend(curve(frame, &running_mean(run), 2.4, color));
        }
    }
    if series.style == Style::Marked && series.points.len() <= MOST_DOTS {
        let finite = series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
        shapes.extend(finite.map(|&point| Shape::Dot { center: frame.place(point), radius: 4.0, color }));
    }
}

fn curve(frame: &Frame, points: &[(f64, f64)], width: f32, color: Color) -> Option<Shape> {
    let points = thinned(points.iter().map(|&point| frame.place(point)));
    (points.len() > 1).then(|| line(points, width, color))
}

/// At most four points for each half unit of width: first, lowest, highest, last. It looks the same, at any
/// length of run.
fn thinned(points: impl Iterator<Item = (f32, f32)>) -> Vec<(f32, f32)> {
    let points: Vec<(f32, f32)> = points.collect();
    points
        .chunk_by(|a, b| (a.0 * 2.0).floor() == (b.0 * 2.0).floor())
        .flat_map(|column| {
            let by_height = |&a: &usize, &b: &usize| column[a].1.total_cmp(&column[b].1);
            let lowest = (0..column.len()).min_by(by_height).unwrap_or(0);
            let highest = (0..column.len()).max_by(by_height).unwrap_or(0);
            let mut kept = vec![0, lowest.min(highest), lowest.max(highest), column.len() - 1];
            kept.dedup();
            kept.into_iter().map(|i| column[i])
        })
        .collect()
}

/// The mean over a window around each point. At the steep start the window shrinks, or the line would lag; at
/// the flat end it is cut on one side, or the line would end in noise.
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(points.iter().scan(0.0, |sum, point| {
            *sum += point.1;
            Some(*sum)
        }))
        .collect();
    let widest = points.len() / 50 + 1;
    (0..points.len())
        .map(|i| {
            let half = widest.min(i);
            let (from, to) = (i - half, (i + half + 1).min(points.len()));
            (points[i].0, (sums[to] - sums[from]) / (to - from) as f64)
        })
        .collect()
}

/// The legend, top right, where a falling curve leaves space: each name with its last value and, for marked
/// series, its lowest.
fn draw_legend(shapes: &mut Vec<Shape>, series: &[Series]) {
    if series.is_empty() {
        return;
    }
    let font = Font::embedded();
    let entries: Vec<String> =
        series.iter().map(|series| font.fit(&legend_text(series), 13.0, 420.0)).collect();
    let widest = entries.iter().map(|entry| font.width(entry, 13.0)).fold(0.0, f32::max);
    let (width, height) = (widest + 58.0, 22.0 * entries.len() as f32 + 12.0);
    let (x, y) = (WIDTH - RIGHT - width - 8.0, TOP + 8.0);
    shapes.push(Shape::Box { corner: (x, y), size: (width, height), color: Color(255, 255, 255, 225) });
    let outline = vec![(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)];
    shapes.push(line(outline, 1.0, GRID));
    for (i, ((entry, series), color)) in
        entries.into_iter().zip(series).zip(PALETTE.iter().cycle()).enumerate()
    {
        let middle = y + 17.0 + 22.0 * i as f32;
        shapes.push(line(vec![(x + 12.0, middle), (x + 36.0, middle)], 2.4, *color));
        if series.style == Style::Marked {
            shapes.push(Shape::Dot { center: (x + 24.0, middle), radius: 4.0, color: *color });
        }
        shapes.push(text((x + 46.0, middle + 4.5), 13.0, Anchor::Start, INK, entry));
    }
}

fn legend_text(series: &Series) -> String {
    let finite = || series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    let Some((_, last)) = finite().next_back() else { return series.name.clone() };
    if series.style == Style::Noisy {
        // One noisy value says little: the end of the line drawn over them is the figure to read.
        let tail: Vec<f64> = finite().rev().take(series.points.len() / 50 + 2).map(|point| point.1).collect();
        let mean = tail.iter().sum::<f64>() / tail.len() as f64;
        return format!("{}: {} at the end", series.name, number(mean, 3));
    }
    let lowest = finite().map(|point| point.1).fold(f64::INFINITY, f64::min);
    if lowest < *last {
        format!("{}: {} at the end, lowest {}", series.name, number(*last, 3), number(lowest, 3))
    } else {
        format!("{}: {} at the end", series.name, number(*last, 3))
    }
}

fn line(points: Vec<(f32, f32)>, width: f32, color: Color) -> Shape {
    Shape::Line { points, width, color }
}

fn text(at: (f32, f32), size: f32, anchor: Anchor, color: Color, text: String) -> Shape {
    Shape::Text { at, size, anchor, upward: false, color, text }
}
