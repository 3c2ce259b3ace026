//! Chats: records of every common data format, chat templates, and their rendering to tokens and spans.
//!
//! The same code renders for training, evaluation, generation, export and serving. Which tokens belong to
//! which turn is found by rendering the template again with a marker in a turn's place ([`Renderer`]); there
//! is no table of a family's markers, and `{% generation %}` tags are not needed.
//!
//! A record's line is read by [`Record::read`], checked by [`inspect`] (every finding, for a report), and
//! rendered by a [`Renderer`], which is built from a tokenizer and a [`ChatTemplate`]. Templates are code
//! from strangers: they run with limits on steps, depth, time and output size, and reach nothing but their
//! variables.
//!
//! Reading order: `record`, `format`, `conversation`, `check`; `template`, `python`, `source`, `bounds`;
//! `render`, `spans`, `mask`, `example`; `answer`.

mod answer;
mod arguments;
mod bounds;
mod builtin;
mod check;
mod conversation;
mod convert;
mod error;
mod example;
mod finding;
mod format;
mod mask;
mod methods;
mod preference;
mod python;
mod record;
mod render;
mod schema;
mod source;
mod spans;
mod strftime;
mod template;
mod vanish;

pub use answer::{Answer, ToolCall, same_calls};
pub use builtin::{BUILTINS, builtin_for};
pub use conversation::{Conversation, Message, role, text};
pub use error::ChatError;
pub use example::{Example, PreferenceExample};
pub use finding::{Finding, Problem, Severity};
pub use format::{Format, Inspection, inspect};
pub use mask::{MaskOptions, Train};
pub use record::{Content, Record};
pub use render::{RenderOptions, Rendered, Renderer, Turn};
pub use strftime::Clock;
pub use template::{ChatTemplate, TEMPLATE_FILE};
