//! Which tokens are trained.

use super::render::{Rendered, Turn};

/// Which turns are trained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Train {
    /// Every assistant turn.
    #[default]
    Assistant,
    /// The last assistant turn.
    Last,
    /// The turns of these roles. The renderer must have been asked to find them
    /// ([`super::RenderOptions::roles`]).
    Roles(Vec<String>),
}

/// How a mask is made of the turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskOptions {
    /// Which turns.
    pub train: Train,
    /// Whether the token that ends a turn is trained.
    pub end_of_turn: bool,
    /// Turns before this message are not trained: a prompt's, where only the answer is.
    pub from_message: usize,
}

impl Default for MaskOptions {
    fn default() -> MaskOptions {
        MaskOptions { train: Train::Assistant, end_of_turn: true, from_message: 0 }
    }
}

impl MaskOptions {
    /// The turns that are trained, in order.
    pub fn turns<'r>(&self, rendered: &'r Rendered) -> Vec<&'r Turn> {
        let mut later = rendered.turns.iter().filter(|turn| turn.message_index >= self.from_message);
        match &self.train {
            Train::Assistant => later.filter(|turn| turn.role == "assistant").collect(),
            Train::Last => later.rfind(|turn| turn.role == "assistant").into_iter().collect(),
            Train::Roles(roles) => later.filter(|turn| roles.contains(&turn.role)).collect(),
        }
    }
}

impl Rendered {
    /// For each token, whether it is trained as a target.
    pub fn mask(&self, options: &MaskOptions) -> Vec<bool> {
        let mut mask = vec![false; self.ids.len()];
        for turn in options.turns(self) {
            mask[turn.tokens.clone()].fill(true);
            if let Some(end) = turn.end_of_turn.filter(|_| !options.end_of_turn) {
                mask[end] = false;
            }
        }
        mask
    }
}
