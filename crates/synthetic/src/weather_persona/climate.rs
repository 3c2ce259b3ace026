//! Climates: the temperatures of places, whatever the season.

/// What weather a place can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Climate {
    Tropical,
    Arid,
    Warm,
    Temperate,
    /// Northern and southern coasts, without hot summers and hard frost.
    Coast,
    Cold,
    Highland,
}

impl Climate {
    /// Sections of `places.txt`.
    pub(crate) const SECTIONS: [(&'static str, Climate); 7] = [
        ("tropical", Climate::Tropical),
        ("arid", Climate::Arid),
        ("warm", Climate::Warm),
        ("temperate", Climate::Temperate),
        ("coast", Climate::Coast),
        ("cold", Climate::Cold),
        ("highland", Climate::Highland),
    ];

    /// Lowest and highest temperature of the day, °C.
    pub(crate) fn range(self) -> (i32, i32) {
        match self {
            Climate::Tropical => (23, 35),
            Climate::Arid => (11, 44),
            Climate::Warm => (6, 35),
            Climate::Temperate => (-5, 29),
            Climate::Coast => (-9, 19),
            Climate::Cold => (-24, 24),
            Climate::Highland => (11, 26),
        }
    }
}
