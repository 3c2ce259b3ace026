//! Events without secrets.

use std::borrow::Cow;

use runs::report::Event;
use store::secret;

/// An event with secrets hidden in its messages. Samples are data and stay unchanged.
pub fn without_secrets(event: &Event) -> Cow<'_, Event> {
    let mut told = Cow::Borrowed(event);
    let (Event::PhaseFinished { summary: message, .. }
    | Event::PhaseSkipped { reason: message, .. }
    | Event::Note { message, .. }
    | Event::Warning { message, .. }) = event
    else {
        return told;
    };
    if let Cow::Owned(hidden) = secret::hidden(message)
        && let Event::PhaseFinished { summary: message, .. }
        | Event::PhaseSkipped { reason: message, .. }
        | Event::Note { message, .. }
        | Event::Warning { message, .. } = told.to_mut()
    {
        *message = hidden;
    }
    told
}
