//! Texts that end a generation, found across the pieces in which text comes.

/// Passes text through until a stop text, holding back text that could become one.
pub(crate) struct StopGate<'a> {
    stops: Vec<&'a str>,
    held: String,
    /// All that was let through.
    pub passed: String,
    /// Whether a stop text has come.
    pub closed: bool,
}

impl<'a> StopGate<'a> {
    /// Empty texts stop nothing.
    pub fn new(stops: &'a [String]) -> StopGate<'a> {
        let stops = stops.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
        StopGate { stops, held: String::new(), passed: String::new(), closed: false }
    }

    /// Takes text; returns what is certain to be let through by now.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        let cut = match first {
            Some(at) => {
                self.closed = true;
                at
            }
            None => {
                let starts = self.held.char_indices().map(|(at, _)| at);
                let mut starts =
                    starts.filter(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])));
                starts.next().unwrap_or(self.held.len())
            }
        };
        let rest = self.held.split_off(cut);
        let certain = std::mem::replace(&mut self.held, rest);
        self.passed.push_str(&certain);
        certain
    }

    /// What was held back to the end.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        self.passed.push_str(&rest);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_texts_are_found_across_pieces_and_never_shown() {
        let stops = ["\n\n".to_owned(), "END".to_owned()];
        let mut gate = StopGate::new(&stops);
        assert_eq!(gate.push("one\n"), "one");
        assert_eq!(gate.push("two E"), "\ntwo ");
        assert_eq!(gate.push("N"), "");
        assert_eq!(gate.push("Ough EN"), "ENOugh ");
        assert_eq!(gate.push("D, and more"), "");
        assert!(gate.closed);
        assert_eq!(gate.passed, "one\ntwo ENOugh ");
    }

    #[test]
    fn what_never_became_a_stop_text_is_shown_at_the_end() {
        let stops = ["END".to_owned()];
        let mut gate = StopGate::new(&stops);
        assert_eq!(gate.push("the E"), "the ");
        assert_eq!(gate.finish(), "E");
        assert_eq!(gate.passed, "the E");
    }
}
