//! The model card, `README.md` of a model folder: YAML front matter for the Hugging Face Hub, then text for
//! people.
//!
//! Every figure was measured by the caller; missing values are omitted. Text from outside (generated samples,
//! names) is quoted so that it can end neither the front matter nor a code block.

use std::fmt::Write as _;

use serde_json::Value;

/// The content of a card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCard {
    /// The model's name, as the title.
    pub name: String,
    /// A one-paragraph description.
    pub summary: String,
    /// An identifier of the Hub's list ("apache-2.0", "cc-by-4.0"), when known.
    pub license: Option<String>,
    /// ISO 639-1 codes.
    pub languages: Vec<String>,
    /// Additional tags.
    pub tags: Vec<String>,
    /// Hub names of the data, where it has any.
    pub datasets: Vec<String>,
    /// Hub name of the model this one was tuned from.
    pub base_model: Option<String>,
    /// Measured results, for the front matter's `model-index` and a table.
    pub results: Vec<CardResult>,
    /// Tables of facts, in order.
    pub sections: Vec<CardSection>,
    /// Unedited samples.
    pub samples: Vec<CardSample>,
}

/// A measured result.
#[derive(Clone, Debug, PartialEq)]
pub struct CardResult {
    /// Name of the data: "Validation split of the training corpus".
    pub dataset_name: String,
    /// "validation", "test".
    pub split: String,
    /// An identifier such as "perplexity" or "loss".
    pub metric_type: String,
    /// How it reads in a table: "Validation loss (nats per token)".
    pub metric_name: String,
    /// The value; omitted if not finite.
    pub value: f64,
}

/// A titled table of two columns.
#[derive(Clone, Debug, PartialEq)]
pub struct CardSection {
    /// The heading.
    pub title: String,
    /// Name and value of each row.
    pub rows: Vec<(String, String)>,
}

/// A prompt and its continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct CardSample {
    /// The prompt.
    pub prompt: String,
    /// Prompt and continuation, unedited.
    pub text: String,
}

impl ModelCard {
    /// The content of the file.
    pub fn to_markdown(&self) -> String {
        let mut card = self.front_matter();
        let _ = write!(card, "\n# {}\n\n{}\n", one_line(&self.name), self.summary.trim());
        self.write_usage(&mut card);
        let results: Vec<(String, String)> =
            self.finite_results().map(|result| (result.metric_name.clone(), figure(result.value))).collect();
        write_table(&mut card, "Results", &results);
        for section in &self.sections {
            write_table(&mut card, &section.title, &section.rows);
        }
        if !self.samples.is_empty() {
            card.push_str("\n## Samples\n\nAs generated, neither selected nor edited.\n");
            for sample in &self.samples {
                let fence = fence_for(&sample.text);
                let text = sample.text.trim_end();
                let _ =
                    write!(card, "\nPrompt: {}\n\n{fence}text\n{text}\n{fence}\n", code_span(&sample.prompt));
            }
        }
        card
    }

    fn finite_results(&self) -> impl Iterator<Item = &CardResult> {
        self.results.iter().filter(|result| result.value.is_finite())
    }

    fn front_matter(&self) -> String {
        let mut yaml = String::from("---\n");
        let list = |yaml: &mut String, key: &str, items: &[String]| {
            if !items.is_empty() {
                let _ = writeln!(yaml, "{key}:");
                for item in items {
                    let _ = writeln!(yaml, "- {}", scalar(item));
                }
            }
        };
        if let Some(license) = &self.license {
            let _ = writeln!(yaml, "license: {}", scalar(license));
        }
        list(&mut yaml, "language", &self.languages);
        yaml.push_str("library_name: transformers\npipeline_tag: text-generation\n");
        let mut tags = vec!["text2llm".to_owned()];
        tags.extend(self.tags.iter().filter(|tag| *tag != "text2llm").cloned());
        list(&mut yaml, "tags", &tags);
        list(&mut yaml, "datasets", &self.datasets);
        if let Some(base_model) = &self.base_model {
            let _ = writeln!(yaml, "base_model: {}", scalar(base_model));
        }
        let mut metrics: Vec<String> =
            self.finite_results().map(|result| result.metric_type.clone()).collect();
        metrics.sort();
        metrics.dedup();
        list(&mut yaml, "metrics", &metrics);
        if !metrics.is_empty() {
            let _ = write!(yaml, "model-index:\n- name: {}\n  results:\n", scalar(&self.name));
            for result in self.finite_results() {
                let _ = write!(
                    yaml,
                    "  - task:\n      type: text-generation\n    dataset:\n      name: {}\n      type: \
                     text\n      split: {}\n    metrics:\n    - type: {}\n      name: {}\n      value: {}\n",
                    scalar(&result.dataset_name),
                    scalar(&result.split),
                    scalar(&result.metric_type),
                    scalar(&result.metric_name),
                    figure(result.value),
                );
            }
        }
        yaml.push_str("---\n");
        yaml
    }

    fn write_usage(&self, card: &mut String) {
        card.push_str(
            "\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             folder = \".\"  # this folder, or its name on the Hub\n\
             tokenizer = AutoTokenizer.from_pretrained(folder)\n\
             model = AutoModelForCausalLM.from_pretrained(folder)\n",
        );
        if let Some(sample) = self.samples.first() {
            let prompt = Value::String(sample.prompt.clone());
            // A JSON string is a Python string.
            let _ = write!(
                card,
                "inputs = tokenizer({prompt}, return_tensors=\"pt\")\n\
                 print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], \
                 skip_special_tokens=True))\n"
            );
        }
        card.push_str("```\n");
    }
}

fn write_table(card: &mut String, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(card, "\n## {}\n\n| | |\n|---|---|\n", one_line(title));
    for (name, value) in rows {
        let _ = writeln!(card, "| {} | {} |", cell(name), cell(value));
    }
}

/// A YAML scalar: plain where no YAML reader could take it for anything but this string, else double-quoted,
/// for which a JSON string serves.
fn scalar(text: &str) -> String {
    let plain = text.len() > 3 // shorter ones may be `no`, `on`, `~`, or a number
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null");
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// At most four decimals, the precision of a single run; large values are not rounded.
fn figure(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// A fence longer than any run of backticks within.
fn fence_for(text: &str) -> String {
    "`".repeat(longest_run(text).max(2) + 1)
}

fn code_span(text: &str) -> String {
    let text = one_line(text);
    let ticks = "`".repeat(longest_run(&text) + 1);
    // The spaces are stripped by Markdown; they keep a backtick at either end apart from the marks.
    format!("{ticks} {text} {ticks}")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> ModelCard {
        ModelCard {
            name: "my-llm".into(),
            summary: "A small language model trained from scratch.".into(),
            license: Some("cc-by-4.0".into()),
            languages: vec!["en".into(), "no".into()],
            tags: vec!["llama".into(), "text2llm".into()],
            results: vec![
                CardResult {
                    dataset_name: "corpus: 5 %".into(),
                    split: "validation".into(),
                    metric_type: "loss".into(),
                    metric_name: "Validation loss".into(),
                    value: 3.25,
                },
                CardResult {
                    dataset_name: "x".into(),
                    split: "validation".into(),
                    metric_type: "perplexity".into(),
                    metric_name: "Perplexity".into(),
                    value: f64::INFINITY,
                },
            ],
            sections: vec![CardSection {
                title: "Training".into(),
                rows: vec![("Steps".into(), "1|2".into())],
            }],
            samples: vec![CardSample { prompt: "The `\"x".into(), text: "The\n```\n---\nend".into() }],
            ..ModelCard::default()
        }
    }

    #[test]
    fn the_card_whole() {
        let expected = r#"---
license: cc-by-4.0
language:
- "en"
- "no"
library_name: transformers
pipeline_tag: text-generation
tags:
- text2llm
- llama
metrics:
- loss
model-index:
- name: my-llm
  results:
  - task:
      type: text-generation
    dataset:
      name: "corpus: 5 %"
      type: text
      split: validation
    metrics:
    - type: loss
      name: "Validation loss"
      value: 3.25
---

# my-llm

A small language model trained from scratch.

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or its name on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer("The `\"x", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))
```

## Results

| | |
|---|---|
| Validation loss | 3.25 |

## Training

| | |
|---|---|
| Steps | 1\|2 |

## Samples

As generated, neither selected nor edited.

Prompt: `` The `"x ``

````text
The
```
---
end
````
"#;
        assert_eq!(card().to_markdown(), expected);
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let text = ModelCard { name: "a\n---\nb".into(), ..ModelCard::default() }.to_markdown();
        for key in
            ["license", "language:", "model-index", "metrics", "datasets", "base_model", "Results", "Samples"]
        {
            assert!(!text.contains(key), "{key} in {text}");
        }
        assert_eq!(text.matches("\n---\n").count(), 1, "the name cannot end the front matter: {text}");
    }

    #[test]
    fn scalars_that_yaml_would_misread_are_quoted() {
        for (text, expected) in [
            ("no", "\"no\""),
            ("null", "\"null\""),
            ("True", "\"True\""),
            ("1e5a", "\"1e5a\""),
            ("a: b", "\"a: b\""),
            ("line\nbreak", "\"line\\nbreak\""),
            ("apache-2.0", "apache-2.0"),
            ("", "\"\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
        assert_eq!(figure(21.0), "21");
        assert_eq!(figure(0.123_456), "0.1235");
    }
}
