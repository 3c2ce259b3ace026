//! Runs of digits and what separates them.

use super::finding::ends;

/// A run of digits.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub start: usize,
    pub end: usize,
}

/// Digits and separators in a row, such as `+1 (212) 555-0143`.
pub struct Numbers<'t> {
    pub text: &'t str,
    pub groups: &'t [Group],
    /// Values of all digits of the groups.
    pub digits: &'t [u8],
}

impl<'t> Numbers<'t> {
    /// What stands between a group and the next.
    pub fn separator(&self, group: usize) -> &'t str {
        &self.text[self.groups[group].end..self.groups[group + 1].start]
    }

    /// Lengths of groups, up to `N`.
    pub fn lengths_are(&self, lengths: &[usize]) -> bool {
        self.groups.len() >= lengths.len()
            && self.groups.iter().zip(lengths).all(|(group, &length)| group.end - group.start == length)
    }

    /// The digits of the first `groups`.
    pub fn first(&self, groups: usize) -> &'t [u8] {
        let count = self.groups[..groups].iter().map(|group| group.end - group.start).sum();
        &self.digits[..count]
    }

    /// Whether the first `groups` have the given separators between them, each one of `allowed`, all the
    /// same.
    pub fn is_separated(&self, groups: usize, allowed: &[&str]) -> bool {
        (1..groups).all(|at| self.separator(at - 1) == self.separator(0))
            && (groups < 2 || allowed.contains(&self.separator(0)))
    }

    /// Whether a number of the first `groups` stands by itself: no letter or digit touches it, nor a mark
    /// that would make it part of a longer one.
    pub fn is_alone(&self, groups: usize) -> bool {
        let (start, end) = (self.groups[0].start, self.groups[groups - 1].end);
        let before = self.text[..start].chars().next_back();
        let mut after = self.text[end..].chars();
        let is_joined = matches!(after.next(), Some('-' | '.' | '/' | ',' | ':'))
            && after.next().is_some_and(|c| c.is_ascii_digit());
        !before.is_some_and(|c| {
            c.is_alphanumeric()
                || matches!(c, '_' | '-' | '.' | '/' | '=' | '#' | '$' | '€' | '£' | '%' | '&')
        }) && ends_or_extends(self.text, end)
            && !is_joined
    }
}

/// The length of an extension such as x123.
pub fn extension(text: &str, at: usize) -> usize {
    let digits =
        text[at..].strip_prefix('x').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let is_extension = (1..=6).contains(&digits) && ends(text, at + 1 + digits);
    if is_extension { 1 + digits } else { 0 }
}

/// Whether a number may end at a place, or an extension begins there.
pub fn ends_or_extends(text: &str, at: usize) -> bool {
    ends(text, at) || extension(text, at) > 0
}
