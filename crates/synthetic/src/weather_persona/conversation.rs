//! Conversations in OpenAI's chat form, and the tools they use.

use std::sync::LazyLock;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// Who the assistant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Persona {
    /// Mark Twain.
    Twain,
    /// Benjamin Franklin.
    Franklin,
    /// A satirical newspaper.
    Satire,
    /// No persona: concise and helpful.
    Neutral,
}

impl Persona {
    /// All personas.
    pub const ALL: [Persona; 4] = [Persona::Twain, Persona::Franklin, Persona::Satire, Persona::Neutral];

    /// The name in the `persona` field.
    pub fn name(self) -> &'static str {
        match self {
            Persona::Twain => "twain",
            Persona::Franklin => "franklin",
            Persona::Satire => "satire",
            Persona::Neutral => "neutral",
        }
    }
}

/// What a conversation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One call for the weather now.
    CurrentWeather,
    /// One call for the weather of coming days.
    Forecast,
    /// Two or three questions; later ones reuse the place or the days of earlier ones.
    FollowUp,
    /// Two calls in one turn.
    TwoPlaces,
    /// A call that fails; in some conversations the user tries again.
    ToolError,
    /// The user names no place, so the assistant asks for it.
    MissingPlace,
    /// A request that is not about the weather, or unsafe: no call.
    OutOfScope,
    /// Greetings, thanks, questions about the assistant: no call.
    SmallTalk,
    /// A second question that the result of the first call answers: no second call.
    AlreadyAnswered,
}

impl Kind {
    /// All kinds, each with its share of the conversations in percent.
    pub const SHARES: [(Kind, usize); 9] = [
        (Kind::CurrentWeather, 22),
        (Kind::Forecast, 18),
        (Kind::FollowUp, 16),
        (Kind::TwoPlaces, 8),
        (Kind::ToolError, 8),
        (Kind::MissingPlace, 8),
        (Kind::OutOfScope, 8),
        (Kind::SmallTalk, 5),
        (Kind::AlreadyAnswered, 7),
    ];

    /// The name in the `kind` field.
    pub fn name(self) -> &'static str {
        match self {
            Kind::CurrentWeather => "current_weather",
            Kind::Forecast => "forecast",
            Kind::FollowUp => "follow_up",
            Kind::TwoPlaces => "two_places",
            Kind::ToolError => "tool_error",
            Kind::MissingPlace => "missing_place",
            Kind::OutOfScope => "out_of_scope",
            Kind::SmallTalk => "small_talk",
            Kind::AlreadyAnswered => "already_answered",
        }
    }
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Message {
    /// The persona and its rules.
    System {
        /// Text.
        content: String,
    },
    /// What the user wrote.
    User {
        /// Text.
        content: String,
    },
    /// The assistant's text, or its calls with empty text.
    Assistant {
        /// Text.
        content: String,
        /// Calls; left out if there are none.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call>,
    },
    /// The result of one call.
    Tool {
        /// Id of the call.
        tool_call_id: String,
        /// Name of the function.
        name: &'static str,
        /// JSON.
        content: String,
    },
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Nine characters (Mistral's templates require that): `call_` and the call's number in its conversation.
    pub id: String,
    /// Name of the function.
    pub name: &'static str,
    /// An object.
    pub arguments: Value,
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = json!({ "name": self.name, "arguments": self.arguments });
        json!({ "id": self.id, "type": "function", "function": function }).serialize(serializer)
    }
}

/// Which tools a conversation offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tools {
    /// The weather now, and forecasts.
    Usual,
    /// The same two, in the other order.
    Swapped,
    /// The same two, and an irrelevant one.
    WithTime,
}

impl Serialize for Tools {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static TOOLS: LazyLock<[Value; 3]> = LazyLock::new(|| {
            let [current, forecast, time] = [current_tool(), forecast_tool(), time_tool()];
            [json!([current, forecast]), json!([forecast, current]), json!([time, current, forecast])]
        });
        let place = match self {
            Tools::Usual => 0,
            Tools::Swapped => 1,
            Tools::WithTime => 2,
        };
        TOOLS[place].serialize(serializer)
    }
}

/// Name of the function for the weather now.
pub const CURRENT: &str = "get_current_weather";
/// Name of the function for coming days.
pub const FORECAST: &str = "get_forecast";

fn tool(name: &str, description: &str, properties: Value, required: Value) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    json!({
        "type": "function",
        "function": { "name": name, "description": description, "parameters": parameters },
    })
}

fn location() -> Value {
    json!({ "type": "string", "description": "Place, as the user wrote it" })
}

fn unit() -> Value {
    json!({
        "type": "string",
        "enum": ["celsius", "fahrenheit"],
        "description": "Only if the user asked for it",
    })
}

fn current_tool() -> Value {
    let properties = json!({ "location": location(), "unit": unit() });
    tool(CURRENT, "Weather at a place now", properties, json!(["location"]))
}

fn forecast_tool() -> Value {
    let days = json!({
        "type": "integer",
        "minimum": 1,
        "maximum": 7,
        "description": "Number of days, from tomorrow on",
    });
    let properties = json!({ "location": location(), "days": days, "unit": unit() });
    tool(FORECAST, "Daily forecast for a place", properties, json!(["location", "days"]))
}

fn time_tool() -> Value {
    let zone = json!({ "type": "string", "description": "IANA time zone" });
    tool("get_time", "Time of day in a time zone", json!({ "timezone": zone }), json!(["timezone"]))
}

/// One conversation: a line of the files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// What may be called.
    pub tools: Tools,
    /// Who the assistant is, for evaluation.
    pub persona: Persona,
    /// What it is about, for evaluation.
    pub kind: Kind,
}
