//! Errors of chat records, templates and rendering.

use super::finding::Finding;

/// Errors of chat records, templates and rendering.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// A record of the data cannot be used. The caller adds the file and the line.
    #[error("{0}")]
    Record(Finding),
    /// A template does not parse, or uses something unknown.
    #[error("the chat template of {origin} does not parse: {message}")]
    Syntax {
        /// Where the template comes from.
        origin: String,
        /// The mistake, with its line.
        message: String,
    },
    /// A template refuses a conversation or fails on it.
    #[error("the chat template of {origin} refuses the conversation: {message}")]
    Refused {
        /// Where the template comes from.
        origin: String,
        /// The template's own message, or the failed operation with its line.
        message: String,
    },
    /// A template exceeds a limit.
    #[error(
        "the chat template of {origin} exceeds the limit of {limit}: it loops, recurses or grows without end"
    )]
    Limit {
        /// Where the template comes from.
        origin: String,
        /// The limit.
        limit: String,
    },
    /// There is no built-in template of this name.
    #[error("no built-in chat template `{name}`: there are {known}")]
    UnknownBuiltin {
        /// The requested name.
        name: String,
        /// The built-in ones.
        known: String,
    },
    /// A folder has several templates and none named `default`.
    #[error("{origin} has the chat templates {names} and none named `default`")]
    NoDefault {
        /// The file.
        origin: String,
        /// The names.
        names: String,
    },
    /// The record is a conversation, and no template was given.
    #[error(
        "the record is a conversation, and there is no chat template: the model's folder has none, and its \
         vocabulary has no chat tokens of a known family; name a built-in template"
    )]
    NoTemplate,
    /// What the model would write cannot be told apart from the rest of the text.
    #[error(
        "the place of the {role} turn `messages[{message}]` cannot be found in the text that the chat \
         template of {origin} renders: {reason}"
    )]
    TurnNotFound {
        /// Where the template comes from.
        origin: String,
        /// Index of the message.
        message: usize,
        /// Its role.
        role: String,
        /// Why.
        reason: &'static str,
    },
    /// The template drops a tool call, or a part of it.
    #[error(
        "tool call vanishes: the chat template of {origin} does not render {part} of \
         `messages[{message}].tool_calls[{call}]`; use a template with tool calls"
    )]
    ToolCallVanishes {
        /// Where the template comes from.
        origin: String,
        /// Index of the message.
        message: usize,
        /// Index of the call in the message.
        call: usize,
        /// The name or the argument that is missing.
        part: String,
    },
    /// The template drops the declared tools.
    #[error(
        "tool call vanishes: the chat template of {origin} does not render the declared tool `{tool}`; use a \
         template with tools, or remove `tools`"
    )]
    ToolsVanish {
        /// Where the template comes from.
        origin: String,
        /// The tool's name.
        tool: String,
    },
    /// The template drops an assistant turn's text.
    #[error("the chat template of {origin} does not render the content of `messages[{message}]`")]
    ContentVanishes {
        /// Where the template comes from.
        origin: String,
        /// Index of the message.
        message: usize,
    },
    /// The text begins with two BOS tokens.
    #[error(
        "the text begins with two BOS tokens (`{token}`): the chat template writes one, and the first \
         message or the prefix another"
    )]
    DoubledBos {
        /// BOS.
        token: String,
    },
    /// A file of the model's folder cannot be used.
    #[error("`{path}` is damaged: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}
