//! As much of TrueType as the embedded font has: characters to glyphs (`cmap` format 4), advances (`hmtx`),
//! outlines (`glyf`).
//!
//! Not for other people's fonts: no hints, no variations, no collections, no turned components. Whatever does
//! not fit gives nothing, and every place is checked. The specification:
//! <https://learn.microsoft.com/typography/opentype/spec/>.

/// A glyph's number in the font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glyph(pub u16);

/// A piece of an outline, in font units, y up. A closed contour begins with `Move` and ends with `Close`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Piece {
    Move(f32, f32),
    Line(f32, f32),
    /// A control point, then the end.
    Curve(f32, f32, f32, f32),
    Close,
}

/// A font in memory.
pub(super) struct TrueType {
    cmap: &'static [u8],
    glyf: &'static [u8],
    loca: &'static [u8],
    hmtx: &'static [u8],
    advances: usize,
    pub units_per_em: u16,
}

/// Composite glyphs of composite glyphs nest no deeper.
const DEEPEST: u32 = 8;

fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn signed(data: &[u8], at: usize) -> Option<i16> {
    word(data, at).map(|word| word as i16)
}

fn long(data: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

impl TrueType {
    /// Finds the tables; `None` where one is missing or of another form.
    pub(super) fn parse(data: &'static [u8]) -> Option<TrueType> {
        let table = |tag: &[u8; 4]| {
            let mut records = (0..usize::from(word(data, 4)?)).map(|number| 12 + 16 * number);
            let at = records.find(|&at| data.get(at..at + 4) == Some(tag))?;
            data.get(long(data, at + 8)?..)?.get(..long(data, at + 12)?)
        };
        let (head, cmap) = (table(b"head")?, table(b"cmap")?);
        let long_offsets = word(head, 50)? != 0;
        let encodings = (0..usize::from(word(cmap, 2)?)).map(|number| 4 + 8 * number);
        let mut unicode = encodings.filter_map(|at| cmap.get(long(cmap, at + 4)?..));
        let cmap = unicode.find(|encoding| word(encoding, 0) == Some(4))?;
        Some(TrueType {
            cmap,
            glyf: table(b"glyf")?,
            loca: table(b"loca").filter(|_| !long_offsets)?,
            hmtx: table(b"hmtx")?,
            advances: usize::from(word(table(b"hhea")?, 34)?),
            units_per_em: word(head, 18)?,
        })
    }

    /// The glyph of a character.
    pub(super) fn glyph(&self, c: char) -> Option<Glyph> {
        let (cmap, code) = (self.cmap, u16::try_from(u32::from(c)).ok()?);
        let segments = usize::from(word(cmap, 6)?) / 2;
        let (ends, starts) = (14, 16 + 2 * segments);
        let (deltas, offsets) = (starts + 2 * segments, starts + 4 * segments);
        let segment = (0..segments).find(|&at| word(cmap, ends + 2 * at).is_some_and(|end| end >= code))?;
        let start = word(cmap, starts + 2 * segment)?;
        let delta = word(cmap, deltas + 2 * segment)?;
        let within = usize::from(code.checked_sub(start)?);
        let number = match word(cmap, offsets + 2 * segment)? {
            0 => code.wrapping_add(delta),
            // Counted from where the offset itself stands.
            offset => match word(cmap, offsets + 2 * segment + usize::from(offset) + 2 * within)? {
                0 => 0,
                number => number.wrapping_add(delta),
            },
        };
        (number != 0).then_some(Glyph(number))
    }

    /// Advance width, in font units.
    pub(super) fn advance(&self, glyph: Glyph) -> u16 {
        let at = usize::from(glyph.0).min(self.advances.saturating_sub(1));
        word(self.hmtx, 4 * at).unwrap_or(0)
    }

    /// The outline; nothing for a space.
    pub(super) fn outline(&self, glyph: Glyph) -> Vec<Piece> {
        let mut pieces = Vec::new();
        // Of what does not fit, what came before is drawn.
        let _ = self.draw(glyph, Placed::default(), DEEPEST, &mut pieces);
        pieces
    }

    fn draw(&self, glyph: Glyph, placed: Placed, depth: u32, out: &mut Vec<Piece>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let at = |number: usize| word(self.loca, 2 * number).map(|half| 2 * usize::from(half));
        let data = self.glyf.get(at(usize::from(glyph.0))?..at(usize::from(glyph.0) + 1)?)?;
        if data.is_empty() {
            return Some(());
        }
        match signed(data, 0)? {
            0 => Some(()),
            contours @ 1.. => contours_of(data.get(10..)?, contours as usize, placed, out),
            _ => self.components(data.get(10..)?, placed, depth, out),
        }
    }

    fn components(&self, data: &[u8], placed: Placed, depth: u32, out: &mut Vec<Piece>) -> Option<()> {
        const WORDS: u16 = 0x1;
        const OFFSETS: u16 = 0x2;
        const SCALE: u16 = 0x8;
        const MORE: u16 = 0x20;
        const TWO_SCALES: u16 = 0x40;
        const TURNED: u16 = 0x80;
        let mut at = 0;
        loop {
            let (flags, glyph) = (word(data, at)?, Glyph(word(data, at + 2)?));
            if flags & OFFSETS == 0 || flags & TURNED != 0 {
                return None;
            }
            at += 4;
            let byte = |at: usize| data.get(at).map(|&byte| f32::from(byte as i8));
            let (x, y) = match flags & WORDS {
                0 => (byte(at)?, byte(at + 1)?),
                _ => (f32::from(signed(data, at)?), f32::from(signed(data, at + 2)?)),
            };
            at += if flags & WORDS == 0 { 2 } else { 4 };
            let scale = |at: usize| signed(data, at).map(|scale| f32::from(scale) / 16384.0);
            let (scale_x, scale_y, length) = match (flags & TWO_SCALES, flags & SCALE) {
                (0, 0) => (1.0, 1.0, 0),
                (0, _) => (scale(at)?, scale(at)?, 2),
                _ => (scale(at)?, scale(at + 2)?, 4),
            };
            at += length;
            let (x, y) = placed.of((x, y));
            let scale = (placed.scale.0 * scale_x, placed.scale.1 * scale_y);
            self.draw(glyph, Placed { scale, shift: (x, y) }, depth, out)?;
            if flags & MORE == 0 {
                return Some(());
            }
        }
    }
}

/// Offset of a component.
#[derive(Clone, Copy)]
struct Placed {
    scale: (f32, f32),
    shift: (f32, f32),
}

impl Default for Placed {
    fn default() -> Placed {
        Placed { scale: (1.0, 1.0), shift: (0.0, 0.0) }
    }
}

impl Placed {
    fn of(&self, (x, y): (f32, f32)) -> (f32, f32) {
        (self.scale.0 * x + self.shift.0, self.scale.1 * y + self.shift.1)
    }
}

/// The contours of a simple glyph, from what follows its bounds.
fn contours_of(data: &[u8], contours: usize, placed: Placed, out: &mut Vec<Piece>) -> Option<()> {
    const ON_CURVE: u8 = 0x1;
    const REPEATED: u8 = 0x8;
    let points = usize::from(word(data, 2 * (contours - 1))?) + 1;
    let mut at = 2 * contours + 2 + usize::from(word(data, 2 * contours)?);
    let mut flags = Vec::with_capacity(points);
    while flags.len() < points {
        let &flag = data.get(at)?;
        at += 1;
        let mut times = 1;
        if flag & REPEATED != 0 {
            times += usize::from(*data.get(at)?);
            at += 1;
        }
        flags.extend(std::iter::repeat_n(flag, times.min(points - flags.len())));
    }
    let mut coordinates = |short: u8, same: u8| {
        let mut value = 0i16;
        let next = |&flag: &u8| {
            value = value.wrapping_add(match (flag & short != 0, flag & same != 0) {
                (true, is_positive) => {
                    let step = i16::from(*data.get(at)?);
                    at += 1;
                    if is_positive { step } else { -step }
                }
                (false, true) => 0,
                (false, false) => {
                    at += 2;
                    signed(data, at - 2)?
                }
            });
            Some(f32::from(value))
        };
        flags.iter().map(next).collect::<Option<Vec<f32>>>()
    };
    let (xs, ys) = (coordinates(0x2, 0x10)?, coordinates(0x4, 0x20)?);
    let mut start = 0;
    for contour in 0..contours {
        let end = usize::from(word(data, 2 * contour)?) + 1;
        let point = |at| Some(((*xs.get(at)?, *ys.get(at)?), flags.get(at)? & ON_CURVE != 0));
        trace(&(start..end).map(point).collect::<Option<Vec<_>>>()?, placed, out);
        start = end;
    }
    Some(())
}

/// Draws a closed contour of points on the curve and control points: between two control points lies one on
/// the curve.
fn trace(points: &[((f32, f32), bool)], placed: Placed, out: &mut Vec<Piece>) {
    let middle = |a: (f32, f32), b: (f32, f32)| (a.0 + 0.5 * (b.0 - a.0), a.1 + 0.5 * (b.1 - a.1));
    let Some(&(first, is_on)) = points.first() else { return };
    let start = match (is_on, points.get(1)) {
        (true, _) => first,
        (false, Some(&(second, true))) => second,
        (false, Some(&(second, false))) => middle(first, second),
        (false, None) => return,
    };
    let (x, y) = placed.of(start);
    out.push(Piece::Move(x, y));
    let mut curve = |control: Option<(f32, f32)>, to: (f32, f32)| {
        let (x, y) = placed.of(to);
        out.push(match control.map(|control| placed.of(control)) {
            Some((control_x, control_y)) => Piece::Curve(control_x, control_y, x, y),
            None => Piece::Line(x, y),
        });
    };
    // A control point at the start belongs to the end.
    let mut control = None;
    let taken = if !is_on && points[1].1 { 2 } else { 1 };
    for &(point, is_on) in &points[taken..] {
        match (is_on, control) {
            (true, _) => curve(control.take(), point),
            (false, Some(before)) => {
                curve(Some(before), middle(before, point));
                control = Some(point);
            }
            (false, None) => control = Some(point),
        }
    }
    match (is_on, control) {
        (true, _) => curve(control, start),
        (false, Some(before)) => {
            curve(Some(before), middle(before, first));
            curve(Some(first), start);
        }
        (false, None) => curve(Some(first), start),
    }
    out.push(Piece::Close);
}

#[cfg(test)]
mod tests {
    use super::super::font::FONT;
    use super::*;

    /// Of all glyphs, the same to the last bit as `ttf-parser` 0.25.1 drew them.
    #[test]
    fn outlines_are_those_of_an_independent_reader() {
        let font = TrueType::parse(FONT).unwrap();
        assert_eq!(font.units_per_em, 2048);
        let mut drawn = String::new();
        for number in 0..589 {
            drawn += &format!("{} {:?}\n", font.advance(Glyph(number)), font.outline(Glyph(number)));
        }
        assert_eq!(store::manifest::hash_bytes(drawn.as_bytes())[..16], *"4f5650cfb7e76d06");
        let found: String = ('\0'..='\u{2ffff}')
            .filter_map(|c| font.glyph(c).map(|glyph| format!("{} {}\n", u32::from(c), glyph.0)))
            .collect();
        assert_eq!(store::manifest::hash_bytes(found.as_bytes())[..16], *"70b3a01cd499d01a");
        assert_eq!(font.outline(font.glyph(' ').unwrap()), []);
        let period = font.outline(font.glyph('.').unwrap());
        assert!(matches!(period[0], Piece::Move(..)) && period.last() == Some(&Piece::Close), "{period:?}");
    }

    /// Damage gives less of an outline, never a panic.
    #[test]
    fn damaged_fonts_are_survived() {
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        for trial in 0..60 {
            let mut data = FONT.to_vec();
            if trial % 4 == 0 {
                data.truncate(next(FONT.len()));
            }
            for _ in 0..200 {
                let at = next(data.len());
                data[at] = [0, 0xff, 0x7f, data[at] ^ 1 << next(8)][next(4)];
            }
            let Some(font) = TrueType::parse(data.leak()) else { continue };
            for number in (0..600).chain([u16::MAX]) {
                font.outline(Glyph(number));
                font.advance(Glyph(number));
            }
            assert!(('\0'..'\u{2fff}').filter(|&c| font.glyph(c).is_some()).count() < 0x3000);
        }
    }
}
