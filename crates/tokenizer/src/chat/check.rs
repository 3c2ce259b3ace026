//! Checks of a conversation: roles in an order that templates accept, empty turns, tool calls against their
//! results and against the declared tools.

use serde_json::Value;

use super::arguments::tool_name;
use super::conversation::{Conversation, Message, role, text, tool_calls};
use super::finding::{Finding, Problem};
use super::schema;

/// Findings about a normalised conversation. `path` is the field of the messages.
pub(crate) fn check(conversation: &Conversation, path: &str, findings: &mut Vec<Finding>) {
    let messages = &conversation.messages;
    let mut open = Calls::default();
    for (i, message) in messages.iter().enumerate() {
        let at = format!("{path}[{i}]");
        order(i.checked_sub(1).map(|before| &messages[before]), message, i, &at, findings);
        let role = role(message);
        if role == "tool" {
            open.close(message, &at, findings);
        } else if open.pending() > 0 {
            findings.push(Finding::warning(&at, Problem::CallWithoutResult { open: open.pending() }));
            open = Calls::default();
        } else {
            open = Calls::default();
        }
        if text(message).trim().is_empty() && tool_calls(message).is_empty() {
            let problem = Problem::EmptyTurn { role: role.to_owned() };
            findings.push(match role {
                // A tool may return nothing, and an empty system turn is a choice.
                "tool" | "system" | "developer" => Finding::warning(&at, problem),
                _ => Finding::error(&at, problem),
            });
        }
        if role == "assistant" {
            open.open(message, &at, findings);
            for (j, call) in tool_calls(message).iter().enumerate() {
                declared(call, &conversation.tools, &format!("{at}.tool_calls[{j}]"), findings);
            }
        }
    }
    let Some(last) = messages.last() else { return };
    if !messages.iter().any(|message| role(message) == "assistant") {
        findings.push(Finding::error(path, Problem::NoAssistant));
    } else if role(last) != "assistant" {
        findings.push(Finding::warning(path, Problem::Unanswered { role: role(last).to_owned() }));
    }
}

/// Whether `message` may follow `before`.
fn order(before: Option<&Message>, message: &Message, i: usize, at: &str, findings: &mut Vec<Finding>) {
    let this = role(message);
    let problem = |after: String| Problem::Order { role: this.to_owned(), after };
    let previous = before.map(role);
    match (previous, this) {
        (_, "system" | "developer") if i > 0 => {
            findings.push(Finding::warning(at, Problem::LateSystem));
        }
        (None, "assistant") => {
            findings.push(Finding::error(at, problem("the beginning: a user turn is first".into())));
        }
        (Some("system" | "developer"), "assistant") if i == 1 => {
            findings.push(Finding::warning(at, problem("the system turn in several templates".into())));
        }
        (Some(previous @ "user"), "user") | (Some(previous @ "assistant"), "assistant") => {
            findings.push(Finding::error(at, problem(format!("another `{previous}` turn: join them"))));
        }
        _ => {}
    }
    let follows_call = previous == Some("tool")
        || (previous == Some("assistant") && before.is_some_and(|before| !tool_calls(before).is_empty()));
    if this == "tool" && !follows_call {
        findings.push(Finding::error(at, Problem::ResultWithoutCall));
    }
}

/// The tool calls of the last assistant turn that have no result yet.
#[derive(Default)]
struct Calls {
    ids: Vec<Option<String>>,
    made: usize,
}

impl Calls {
    fn pending(&self) -> usize {
        self.ids.len()
    }

    fn open(&mut self, message: &Message, at: &str, findings: &mut Vec<Finding>) {
        for (j, call) in tool_calls(message).iter().enumerate() {
            let id = call["id"].as_str().map(str::to_owned);
            if let Some(id) = id.as_ref().filter(|id| self.ids.contains(&Some((*id).clone()))) {
                let at = format!("{at}.tool_calls[{j}].id");
                findings.push(Finding::error(at, Problem::DuplicateCallId { id: id.clone() }));
            }
            self.ids.push(id);
        }
        self.made = self.ids.len();
    }

    fn close(&mut self, message: &Message, at: &str, findings: &mut Vec<Finding>) {
        if self.made == 0 {
            return; // `order` says it.
        }
        if self.ids.is_empty() {
            findings.push(Finding::error(at, Problem::TooManyResults { calls: self.made }));
            return;
        }
        let id = message.get("tool_call_id").and_then(Value::as_str);
        let named = self.ids.iter().any(Option::is_some);
        let place = match id {
            // Without ids on either side the order tells.
            Some(id) if named => self.ids.iter().position(|open| open.as_deref() == Some(id)),
            _ => Some(0),
        };
        match (place, id) {
            (Some(place), _) => {
                self.ids.remove(place);
            }
            (None, id) => {
                let open: Vec<&str> = self.ids.iter().flatten().map(String::as_str).collect();
                let problem =
                    Problem::UnknownCallId { id: id.unwrap_or_default().to_owned(), open: open.join(", ") };
                findings.push(Finding::error(format!("{at}.tool_call_id"), problem));
            }
        }
    }
}

/// The called tool is declared, and the arguments fit its schema.
pub(super) fn declared(call: &Value, tools: &[Value], at: &str, findings: &mut Vec<Finding>) {
    let function = &call["function"];
    let Some(name) = function["name"].as_str() else { return };
    let at = format!("{at}.function");
    if tools.is_empty() {
        findings.push(Finding::warning(format!("{at}.name"), Problem::NoTools { name: name.to_owned() }));
        return;
    }
    let Some(tool) = tools.iter().find(|tool| tool_name(tool) == Some(name)) else {
        let declared: Vec<&str> = tools.iter().filter_map(tool_name).collect();
        let problem = Problem::UndeclaredTool { name: name.to_owned(), declared: declared.join(", ") };
        findings.push(Finding::error(format!("{at}.name"), problem));
        return;
    };
    let schema = &tool["function"]["parameters"];
    if schema.is_object() {
        for (path, message) in schema::check(schema, &function["arguments"], &format!("{at}.arguments")) {
            let problem = Problem::Schema { tool: name.to_owned(), message };
            findings.push(Finding::error(path, problem));
        }
    }
}
