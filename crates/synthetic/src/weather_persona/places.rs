//! Places, the climates they have, and how users write their names.

use std::sync::LazyLock;

use super::climate::Climate;
use crate::bank::Bank;
use crate::random::Random;

/// A city.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, as results of the tools have it.
    pub name: &'static str,
    /// State or country; empty for city states.
    pub region: &'static str,
    /// Kept for the validation part.
    pub is_held_out: bool,
    pub(crate) climate: Climate,
}

/// All places, in the order of `places.txt`.
pub static PLACES: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let bank = Bank::parse(include_str!("../../banks/places.txt"));
    let of = |(section, climate): &(&str, Climate)| {
        let entries = bank.lines(section).iter().flat_map(|line| line.split(';'));
        entries.map(|entry| place(entry.trim(), *climate)).collect::<Vec<_>>()
    };
    Climate::SECTIONS.iter().flat_map(of).collect()
});

fn place(entry: &'static str, climate: Climate) -> Place {
    let (name, region) = entry.trim_end_matches('*').split_once('|').unwrap_or((entry, ""));
    Place { name, region, is_held_out: entry.ends_with('*'), climate }
}

/// A place as a user wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) place: &'static Place,
    pub(crate) text: String,
}

impl Written {
    /// Chooses a spelling: usually the name, with state or country at times, sometimes without accents,
    /// seldom with two letters exchanged or one left out.
    pub(crate) fn choose(place: &'static Place, random: &mut Random) -> Written {
        let mut text = place.name.to_owned();
        if !text.is_ascii() && random.chance(25) {
            text = text.chars().map(without_accent).collect();
        }
        if !place.region.is_empty() && random.chance(18) {
            text = format!("{text}, {}", place.region);
        } else if random.chance(4) {
            text = misspelled(&text, random).unwrap_or(text);
        }
        Written { place, text }
    }
}

/// Exchanges two neighboring letters or leaves one out, after the first; `None` for short names.
fn misspelled(name: &str, random: &mut Random) -> Option<String> {
    let mut letters: Vec<char> = name.chars().collect();
    if letters.len() < 5 {
        return None;
    }
    let at = 1 + random.below(letters.len() - 2);
    let is_plain = |letter: char| letter.is_ascii_lowercase();
    if !is_plain(letters[at]) || !is_plain(letters[at + 1]) || letters[at] == letters[at + 1] {
        return None;
    }
    if random.chance(60) {
        letters.swap(at, at + 1);
    } else {
        letters.remove(at);
    }
    let text: String = letters.into_iter().collect();
    PLACES.iter().all(|place| place.name != text).then_some(text)
}

/// A letter as people write it who lack the key for its accent. Letters of `places.txt` only.
fn without_accent(letter: char) -> char {
    const PAIRS: [(&str, char); 22] = [
        ("áâãäåàăāẵ", 'a'),
        ("Å", 'A'),
        ("çč", 'c'),
        ("Č", 'C'),
        ("Đ", 'D'),
        ("éèêëėěế", 'e'),
        ("íîï", 'i'),
        ("ł", 'l'),
        ("Ł", 'L'),
        ("ñńň", 'n'),
        ("óôõöøőō", 'o'),
        ("Ö", 'O'),
        ("Ó", 'O'),
        ("ř", 'r'),
        ("śšșş", 's'),
        ("țť", 't'),
        ("úüůű", 'u'),
        ("Ü", 'U'),
        ("ý", 'y'),
        ("źżž", 'z'),
        ("Ž", 'Z'),
        ("ğ", 'g'),
    ];
    PAIRS.iter().find(|(accented, _)| accented.contains(letter)).map_or(letter, |(_, plain)| *plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_many_places_and_a_tenth_is_held_out() {
        let names: BTreeSet<_> = PLACES.iter().map(|place| place.name).collect();
        assert_eq!(names.len(), PLACES.len(), "a name occurs twice");
        assert!(PLACES.len() >= 400, "{}", PLACES.len());
        let held_out = PLACES.iter().filter(|place| place.is_held_out).count() as f64 / PLACES.len() as f64;
        assert!((0.09..0.11).contains(&held_out), "{held_out}");
        for name in ["São Paulo", "Zürich", "Kraków", "Reykjavík", "Malmö"] {
            assert!(names.contains(name), "{name}");
        }
        for place in PLACES.iter() {
            let odd = |text: &str| text.contains([',', '*', '|', ';', '[', '{']) || text.trim() != text;
            assert!(!place.name.is_empty() && !odd(place.name) && !odd(place.region), "{place:?}");
            let plain: String = place.name.chars().map(without_accent).collect();
            assert!(plain.is_ascii(), "{plain} keeps an accent");
        }
    }

    #[test]
    fn mistakes_change_a_name_and_keep_its_first_letter() {
        let mut random = Random::new(3, &[]);
        for place in PLACES.iter() {
            if let Some(text) = misspelled(place.name, &mut random) {
                assert_ne!(text, place.name);
                assert_eq!(text.chars().next(), place.name.chars().next());
            }
        }
        assert_eq!(misspelled("Oslo", &mut random), None);
    }
}
