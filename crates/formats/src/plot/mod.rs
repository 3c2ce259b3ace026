//! Plots of a run, as SVG and PNG from one drawing.
//!
//! [`loss_curve`] lays out shapes in points; `Drawing::to_svg` spells them and `Drawing::to_png` paints them
//! with an embedded font, so both show the same thing. Non-goals: interaction, other chart kinds. Reading
//! order: `loss_curve`, `axis`, `drawing`, `raster`; `font` and `truetype` for letters.

mod axis;
mod drawing;
mod font;
mod loss_curve;
mod raster;
mod truetype;

pub use drawing::Drawing;
pub use loss_curve::{Labels, Series, Style, loss_curve};
