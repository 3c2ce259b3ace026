//! The recipe's `[notify]`: notifications when a background run is resumed, stopped, failed or completed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[notify]`: notify a command or a webhook when a run started with --detach is resumed after a crash,
/// stopped, failed or completed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyOptions {
    /// Program to run, with its arguments, without a shell; it gets the event as one line of JSON on standard
    /// input.
    pub command: Vec<String>,
    /// Webhook to post the event to as JSON, with the system's `curl`. Use "env:NAME" to read the URL, which
    /// is a secret, from an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}
