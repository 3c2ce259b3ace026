//! The drawing painted, as PNG.

use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::drawing::{Anchor, Color, Drawing, Shape};
use super::font::Font;
use super::truetype::Piece;
use crate::error::{Error, Result};

/// Pixels a unit: sharp on screens of today, and in print.
const SCALE: f32 = 2.0;

impl Drawing {
    /// A PNG file of twice the drawing's size in pixels.
    ///
    /// # Errors
    /// `Invalid` if the encoder fails, which it has no cause to.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let failed =
            |what: &str| Error::Invalid { message: format!("cannot draw the plot `{}`: {what}", self.title) };
        let (width, height) = ((self.width * SCALE) as u32, (self.height * SCALE) as u32);
        let mut sheet = Pixmap::new(width, height).ok_or_else(|| failed("it has no size"))?;
        sheet.fill(tiny_skia::Color::WHITE);
        let font = Font::embedded();
        for shape in &self.shapes {
            paint_shape(&mut sheet, shape, &font);
        }
        sheet.encode_png().map_err(|error| failed(&error.to_string()))
    }
}

fn paint_shape(sheet: &mut Pixmap, shape: &Shape, font: &Font) {
    let scale = Transform::from_scale(SCALE, SCALE);
    match shape {
        Shape::Line { points, width, color } => {
            let mut builder = PathBuilder::new();
            for (i, &(x, y)) in points.iter().enumerate() {
                if i == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
            }
            if let Some(path) = builder.finish() {
                let stroke = Stroke {
                    width: *width,
                    line_cap: LineCap::Round,
                    line_join: LineJoin::Round,
                    ..Stroke::default()
                };
                sheet.stroke_path(&path, &paint(*color), &stroke, scale, None);
            }
        }
        Shape::Dot { center: (x, y), radius, color } => {
            for (radius, color) in [(radius + 0.5, Color(255, 255, 255, 255)), (radius - 0.5, *color)] {
                fill(sheet, PathBuilder::from_circle(*x, *y, radius), color, scale);
            }
        }
        Shape::Box { corner, size, color } => {
            let rectangle = Rect::from_xywh(corner.0, corner.1, size.0, size.1);
            fill(sheet, rectangle.map(PathBuilder::from_rect), *color, scale);
        }
        Shape::Text { at, size, anchor, upward, color, text } => {
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => -0.5 * font.width(text, *size),
                Anchor::End => -font.width(text, *size),
            };
            let turn = Transform::from_rotate(if *upward { -90.0 } else { 0.0 });
            let place = turn.post_translate(at.0, at.1).post_concat(scale);
            let units = font.scale(*size);
            font.for_each_glyph(text, *size, |glyph, x| {
                let mut outline = PathBuilder::new();
                for piece in font.outline(glyph) {
                    match piece {
                        Piece::Move(x, y) => outline.move_to(x, y),
                        Piece::Line(x, y) => outline.line_to(x, y),
                        Piece::Curve(x1, y1, x, y) => outline.quad_to(x1, y1, x, y),
                        Piece::Close => outline.close(),
                    }
                }
                // Font units have y up.
                let glyph_place =
                    Transform::from_scale(units, -units).post_translate(shift + x, 0.0).post_concat(place);
                fill(sheet, outline.finish(), *color, glyph_place);
            });
        }
    }
}

fn fill(sheet: &mut Pixmap, path: Option<Path>, color: Color, transform: Transform) {
    if let Some(path) = path {
        sheet.fill_path(&path, &paint(color), FillRule::Winding, transform, None);
    }
}

fn paint(Color(red, green, blue, opacity): Color) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, opacity);
    paint.anti_alias = true;
    paint
}
