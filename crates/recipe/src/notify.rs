//! The recipe's `[notify]`: whom to tell when a run in the background was resumed, has stopped, or is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[notify]`: told of runs that were started with --detach, when they are resumed after a crash, stop, or
/// complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyOptions {
    /// Program and arguments to run, without a shell; the event comes as one line of JSON on its standard
    /// input.
    pub command: Vec<String>,
    /// "env:NAME": the variable of the environment that holds the URL which the event is posted to as JSON,
    /// by the system's `curl`. The URL itself, a secret, does not stand here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}
