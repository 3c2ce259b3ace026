//! Shapes on a sheet, and their spelling as SVG.

use std::fmt::Write as _;

/// Red, green, blue, opacity (0 to 255).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8, pub(super) u8);

impl Color {
    pub(super) fn with_opacity(self, opacity: u8) -> Color {
        Color(self.0, self.1, self.2, opacity)
    }
}

/// Position of a text's anchor point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// One thing drawn. Points are in the sheet's units, y down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Straight pieces through the points.
    Line { points: Vec<(f32, f32)>, width: f32, color: Color },
    /// A filled disc with a white rim, which keeps it apart from lines below.
    Dot { center: (f32, f32), radius: f32, color: Color },
    /// A filled rectangle.
    Box { corner: (f32, f32), size: (f32, f32), color: Color },
    /// One line of text on its baseline; `upward` turns it a quarter to the left.
    Text { at: (f32, f32), size: f32, anchor: Anchor, upward: bool, color: Color, text: String },
}

/// A finished plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) title: String,
    pub(super) shapes: Vec<Shape>,
}

impl Drawing {
    /// A standalone SVG document. Texts stay texts: they can be searched and read aloud.
    pub fn to_svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 \
             {width} {height}\" role=\"img\" font-family=\"Roboto, 'Helvetica Neue', Arial, \
             sans-serif\">\n<title>{}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            escape(&self.title)
        );
        for shape in &self.shapes {
            write_shape(&mut svg, shape);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn write_shape(svg: &mut String, shape: &Shape) {
    // Writing to a string cannot fail.
    let _ = match shape {
        Shape::Line { points, width, color } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" {} stroke-width=\"{width}\" stroke-linejoin=\"round\" \
                 stroke-linecap=\"round\"/>",
                points.join(" "),
                paint("stroke", *color)
            )
        }
        Shape::Dot { center: (x, y), radius, color } => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" {} stroke=\"#ffffff\" stroke-width=\"1\"/>",
            paint("fill", *color)
        ),
        Shape::Box { corner: (x, y), size: (width, height), color } => writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {}/>",
            paint("fill", *color)
        ),
        Shape::Text { at: (x, y), size, anchor, upward, color, text } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let turn =
                if *upward { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\"{turn} \
                 {}>{}</text>",
                paint("fill", *color),
                escape(text)
            )
        }
    };
}

fn paint(attribute: &str, Color(red, green, blue, opacity): Color) -> String {
    let color = format!("{attribute}=\"#{red:02x}{green:02x}{blue:02x}\"");
    if opacity == 255 {
        color
    } else {
        format!("{color} {attribute}-opacity=\"{:.2}\"", f32::from(opacity) / 255.0)
    }
}

/// Text inside an element; characters that XML forbids become spaces.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
