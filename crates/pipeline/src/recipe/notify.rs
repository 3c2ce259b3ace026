//! The recipe's `[notify]`: whom to tell when a run in the background was resumed, has stopped, or is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[notify]`: told of runs that were started with --detach, when they are resumed after a crash, stop, or complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyOptions {
    /// Program and arguments to run, without a shell; the event comes as one line of JSON on its standard input.
    pub command: Vec<String>,
    /// URL that the event is posted to as JSON, by the system's `curl`; "env:NAME" takes it from a variable, so that a secret
    /// URL is not written into the run's record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}
