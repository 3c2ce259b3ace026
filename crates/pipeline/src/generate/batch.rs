//! Greedy answers to many prompts, several at a time.

use std::time::Instant;

use super::{Generated, Generator, Stopped};
use crate::{Error, Result};

/// A prompt that is being answered.
struct Active {
    index: usize,
    prompt_tokens: usize,
    /// Tokens that the cache does not have yet.
    pending: Vec<u32>,
    new: Vec<u32>,
    start: Instant,
}

impl Generator {
    /// Answers rendered prompts greedily, as many at a time as the generator has sequences, and passes each
    /// to `done` with its index when it is finished, in any order. `done` returns whether to continue.
    ///
    /// # Errors
    /// A prompt that is empty or, with `max_new_tokens`, longer than the capacity; errors of the model.
    pub fn answer_each(
        &mut self,
        prompts: &[Vec<u32>],
        max_new_tokens: usize,
        done: &mut dyn FnMut(usize, Generated) -> bool,
    ) -> Result<()> {
        let capacity = self.model.capacity();
        for prompt in prompts {
            if prompt.is_empty() || prompt.len() + max_new_tokens > capacity {
                return Err(Error::Argument {
                    message: format!(
                        "a prompt of {} tokens and {max_new_tokens} new ones do not fit into {capacity} tokens",
                        prompt.len()
                    ),
                });
            }
        }
        let vocab_size = self.model.config().vocab_size;
        let mut waiting = prompts.iter().enumerate();
        let mut slots: Vec<Option<Active>> = (0..self.model.sequences()).map(|_| None).collect();
        self.model.reset();
        loop {
            for (sequence, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
                let Some((index, prompt)) = waiting.next() else { break };
                self.model.forget(sequence);
                let pending = prompt.clone();
                let prompt_tokens = prompt.len();
                *slot =
                    Some(Active { index, prompt_tokens, pending, new: Vec::new(), start: Instant::now() });
            }
            let parts: Vec<(usize, &[u32])> = (slots.iter().enumerate())
                .filter_map(|(sequence, slot)| Some((sequence, slot.as_ref()?.pending.as_slice())))
                .collect();
            if parts.is_empty() {
                return Ok(());
            }
            let named: Vec<usize> = parts.iter().map(|(sequence, _)| *sequence).collect();
            let mut logits = self.model.decode_each(&parts)?;
            for (sequence, logits) in named.into_iter().zip(logits.chunks_mut(vocab_size)) {
                let id = self.most_likely(logits);
                let Some(active) = &mut slots[sequence] else { continue };
                active.new.push(id);
                active.pending = vec![id];
                let ends = self.stop_ids.contains(&id);
                if !ends && active.new.len() < max_new_tokens {
                    continue;
                }
                let stopped = if ends { Stopped::End } else { Stopped::Length };
                let finished = slots[sequence].take();
                if let Some(active) = finished
                    && !done(active.index, self.generated(active, stopped))
                {
                    return Ok(());
                }
            }
        }
    }

    /// The most likely token that may be generated.
    fn most_likely(&self, logits: &mut [f32]) -> u32 {
        for &id in &self.barred {
            logits[id as usize] = f32::NEG_INFINITY;
        }
        let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (id, &logit)| {
            if logit > best.1 { (id, logit) } else { best }
        });
        best.0 as u32
    }

    fn generated(&self, active: Active, stopped: Stopped) -> Generated {
        let Active { prompt_tokens, new, start, .. } = active;
        let said = if stopped == Stopped::End { &new[..new.len() - 1] } else { &new[..] };
        let seconds = start.elapsed().as_secs_f64();
        Generated {
            text: self.tokenizer.decode(said, false),
            tokens: new.len(),
            prompt_tokens,
            prompt_tokens_dropped: 0,
            seconds,
            tokens_per_s: new.len() as f64 / seconds.max(1e-9),
            stopped,
            ids: new,
        }
    }
}
