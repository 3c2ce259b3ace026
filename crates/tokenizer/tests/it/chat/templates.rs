//! Where templates come from, and what they may use.

use serde_json::{Map, json};
use store::fs::RealFs;
use tokenizer::chat::{ChatError, ChatTemplate, Clock, Conversation, RenderOptions, Renderer};

use super::{bare, case, tokenizer, with_source};

#[track_caller]
fn renders(source: &str, wanted: &str) {
    let rendered = with_source(source).render(&case("plain"), &bare(false)).unwrap();
    assert_eq!(rendered.text, wanted, "{source}");
}

#[test]
fn values_are_printed_as_python_prints_them() {
    renders(
        "{{ true }} {{ none }} {{ 1.0 }} {{ 1e16 }} {{ [1, 'a', none, {'k': \"it's\"}] }}",
        "True None 1.0 1e+16 [1, 'a', None, {'k': \"it's\"}]",
    );
    renders(
        "{{ (1, 2) }} {{ (1,) }} {{ undefined_name }}|{{ [true] | string }} {{ 'a' ~ none ~ true }}",
        "(1, 2) (1,) |[True] aNoneTrue",
    );
    renders(
        "{{ {'b': [1, 2.5, none], 'a': 'é\"\\n<'} | tojson }}",
        r#"{"b": [1, 2.5, null], "a": "é\"\n<"}"#,
    );
    renders(
        "{{ {'b': [], 'a': {'x': 1}} | tojson(indent=2, sort_keys=true) }}",
        "{\n  \"a\": {\n    \"x\": 1\n  },\n  \"b\": []\n}",
    );
    renders(
        "{{ {'é': 1, 2: 3} | tojson(ensure_ascii=true, separators=(',', ':')) }}",
        r#"{"\u00e9":1,"2":3}"#,
    );
}

#[test]
fn python_methods_work() {
    renders(
        "{{ ' a '.strip() }}|{{ 'xxax'.lstrip('x') }}|{{ 'a,b'.split(',')[-1] }}|{{ 'ab'.startswith('a') }}",
        "a|ax|b|True",
    );
    renders(
        "{{ 'a.b.c'.rsplit('.', 1) }}{{ 'a=b'.partition('=') }}{{ 'pre-x'.removeprefix('pre-') }}",
        "['a.b', 'c']('a', '=', 'b')x",
    );
    renders(
        "{% for k, v in {'items': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 2) }}",
        "items12",
    );
    renders("{{ '\u{1c}\u{a0}a\n' | trim }}", "a");
    renders(
        "{{ messages[::-1][0].role }} {{ messages | length }} {{ 'user' in messages[0].values() }}",
        "assistant 2 True",
    );
    renders(
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
        "assistant",
    );
}

#[test]
fn tests_are_jinjas() {
    renders(
        "{{ none is iterable }} {{ 'a' is iterable }} {{ 'a' is sequence }} {{ {} is sequence }}",
        "False True True True",
    );
    renders(
        "{{ tools is iterable }} {{ 1 is sequence }} {{ x is sequence }} {{ x is iterable }}",
        "False False True True",
    );
}

#[test]
fn generation_marks_change_nothing() {
    let marked = "{% for m in messages %}\n    {%- if m.role == 'assistant' %}\n    {% generation %}\n{{ m.content }}\n    \
                  {%- endgeneration -%}\n{% else %}\n{{ m.content }}\n{% endif %}\n{% endfor %}\n";
    // As transformers 5.24 renders it.
    renders(marked, "Hello!\nHi. What can I do?");
    let scoped = "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}";
    renders(scoped, "21");
}

#[test]
fn the_date_is_fixed_unless_a_clock_is_given() {
    let source = "{{ strftime_now('%d %b %Y') }}";
    renders(source, "26 Jul 2024");
    let template =
        ChatTemplate::from_source(source, "a test").unwrap().with_clock(Clock::fixed(1_800_000_000));
    let renderer = Renderer::new(&tokenizer(), template).unwrap();
    assert_eq!(renderer.render(&case("plain"), &bare(false)).unwrap().text, "15 Jan 2027");
}

#[test]
fn a_folder_gives_its_template_as_in_transformers() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let read = || {
        ChatTemplate::read(&RealFs, folder).map(|template| {
            template.map(|template| (template.source(false).to_owned(), template.source(true).to_owned()))
        })
    };
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    };
    let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(read().unwrap(), None);
    write("tokenizer_config.json", "{}");
    assert_eq!(read().unwrap(), None);
    write("tokenizer_config.json", r#"{"chat_template": "config"}"#);
    assert_eq!(read().unwrap(), both("config", "config"));
    let list = json!({"chat_template": [
        {"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"},
    ]});
    write("tokenizer_config.json", &list.to_string());
    assert_eq!(read().unwrap(), both("one", "two"));
    write("chat_template.jinja", "file");
    assert_eq!(read().unwrap(), both("file", "file"), "the file wins over the whole configuration");
    write("additional_chat_templates/tool_use.jinja", "tools");
    write("additional_chat_templates/rag.jinja", "{% unused and broken");
    assert_eq!(read().unwrap(), both("file", "tools"));
    std::fs::remove_file(folder.join("chat_template.jinja")).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("rag, tool_use") && error.contains("`default`"), "{error}");
    std::fs::remove_dir_all(folder.join("additional_chat_templates")).unwrap();
    write("tokenizer_config.json", r#"{"chat_template": 3}"#);
    let error = read().unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("neither"), "{error}");
    write("chat_template.jinja", "{% if %}");
    let error = read().unwrap_err().to_string();
    assert!(error.contains("chat_template.jinja") && error.contains("line 1"), "{error}");
}

#[test]
fn tools_select_the_template_for_tools() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("chat_template.jinja"), "plain").unwrap();
    std::fs::create_dir(root.path().join("additional_chat_templates")).unwrap();
    let path = root.path().join("additional_chat_templates/tool_use.jinja");
    std::fs::write(path, "{{ tools[0].function.name }} {{ tools[1].function.name }}").unwrap();
    let template = ChatTemplate::read(&RealFs, root.path()).unwrap().unwrap();
    let renderer = Renderer::new(&tokenizer(), template).unwrap();
    let text = |name: &str| renderer.render(&case(name), &bare(false)).unwrap().text;
    assert_eq!(text("plain"), "plain");
    assert_eq!(text("tools not called"), "get_weather search");
}

#[test]
fn variables_and_special_tokens_reach_the_template() {
    renders(
        "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ tools }}{{ documents }}{{ x }}",
        "<s></s><pad><unk>NoneNone",
    );
    let renderer = with_source("{{ x }}{{ eos_token }}");
    let mut options = bare(false);
    options.variables = Map::from_iter([("x".to_owned(), json!([1])), ("eos_token".to_owned(), json!("E"))]);
    assert_eq!(renderer.render(&case("plain"), &options).unwrap().text, "[1]E");
    let mut own = case("plain");
    own.variables.insert("x".into(), json!("record"));
    assert_eq!(renderer.render(&own, &options).unwrap().text, "recordE");
}

#[test]
fn what_is_missing_is_named() {
    let error = ChatTemplate::builtin("vicuna").unwrap_err().to_string();
    assert!(error.contains("`vicuna`") && error.contains("chatml, llama3"), "{error}");
    let renderer = Renderer::new(&tokenizer(), None).unwrap();
    let error = renderer.render(&Conversation::default(), &RenderOptions::default()).unwrap_err();
    assert!(matches!(error, tokenizer::Error::Chat(ChatError::NoTemplate)));
}
