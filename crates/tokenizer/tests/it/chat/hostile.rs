//! Templates from strangers: every one ends soon, within limits, with an error that names it.

use std::time::{Duration, Instant};

use tokenizer::chat::{ChatError, ChatTemplate};

use super::{bare, case, with_source};

#[derive(Debug, PartialEq)]
enum Ends {
    Limit,
    Refused,
    Syntax,
}

#[track_caller]
fn ends(source: &str, wanted: Ends) {
    let begin = Instant::now();
    let error = match ChatTemplate::from_source(source, "a test") {
        Err(error) => error,
        Ok(_) => with_source(source).render(&case("plain"), &bare(false)).expect_err(source),
    };
    assert!(begin.elapsed() < Duration::from_secs(2), "{source} took {:?}", begin.elapsed());
    let found = match &error {
        tokenizer::Error::Chat(ChatError::Limit { .. }) => Ends::Limit,
        tokenizer::Error::Chat(ChatError::Refused { .. }) => Ends::Refused,
        tokenizer::Error::Chat(ChatError::Syntax { .. }) => Ends::Syntax,
        other => panic!("{source}: {other}"),
    };
    assert_eq!(found, wanted, "{source}: {error}");
    assert!(error.to_string().contains("a test"), "{error}");
}

#[test]
fn loops_and_growth_end_at_a_limit() {
    let nested = "{% for a in range(90000) %}".repeat(6) + "x" + &"{% endfor %}".repeat(6);
    ends(&nested, Ends::Limit);
    ends("{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}", Ends::Limit);
    let doubling = "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}\
                    {% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}";
    ends(doubling, Ends::Limit);
    let lists = "{% set n = namespace(x=[1,2,3,4]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}\
                 {{ n.x }}";
    ends(lists, Ends::Limit);
    let output = "{% set x = 'a' * 1000000 %}{% for a in range(10000) %}{{ x }}{% endfor %}";
    ends(output, Ends::Limit);
    let replace = "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}\
                   {% set n.x = n.x | replace('a', 'aaaaaaaa') %}{% endfor %}";
    ends(replace, Ends::Limit);
    let json =
        "{% set x = ['a' * 1000] * 90000 %}{% for a in range(1000) %}{{ x | tojson | length }}{% endfor %}";
    ends(json, Ends::Limit);
}

/// Few steps make lists that take 2^60 steps to print, to compare or to join.
#[test]
fn doubled_lists_end_at_a_limit() {
    for double in ["[n.x, n.x]", "n.x + n.x", "{'a': n.x, 'b': n.x}", "[n.x, n.x] | sum(start=[])"] {
        let made = format!(
            "{{% set n = namespace(x=[1]) %}}{{% for a in range(60) %}}{{% set n.x = {double} %}}{{% endfor %}}"
        );
        for used in ["", "{{ n.x }}", "{{ n.x ~ '' }}", "{{ n.x == [n.x] }}", "{{ n.x | tojson }}"] {
            ends(&format!("{made}{used}"), Ends::Limit);
        }
    }
    ends("{% macro f(x) %}{{ x ~ '' }}{{ f([x, x]) }}{% endmacro %}{{ f([1]) }}", Ends::Limit);
    let straight = "{% set x = [x, x] %}".repeat(60);
    ends(&format!("{{% set x = 1 %}}{straight}{{{{ x ~ x }}}}"), Ends::Limit);
    ends("{% set n = namespace() %}{% set n.x = [n] %}", Ends::Refused);
    ends("{{ messages | chain(messages) }}", Ends::Refused);
}

#[test]
fn recursion_ends_at_a_limit() {
    ends("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", Ends::Limit);
    ends(
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        Ends::Limit,
    );
    ends("{% set n = namespace() %}{% set n.n = n %}{{ n }}", Ends::Refused);
    ends(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), Ends::Syntax);
    ends(&("{% if true %}".repeat(5000) + &"{% endif %}".repeat(5000)), Ends::Syntax);
}

#[test]
fn what_is_too_large_is_refused() {
    ends("{% for a in range(10 ** 9) %}{% endfor %}", Ends::Refused);
    ends("{{ 'a' * 10 ** 12 }}", Ends::Limit);
    ends("{{ [0] * 10 ** 12 }}", Ends::Refused);
    ends(&"x".repeat((1 << 20) + 1), Ends::Syntax);
}

#[test]
fn nothing_but_the_variables_can_be_reached() {
    ends("{{ ''.__class__.__mro__ }}", Ends::Syntax);
    ends("{{ messages.__init__.__globals__ }}", Ends::Syntax);
    ends("{% include '/etc/passwd' %}", Ends::Syntax);
    ends("{% import 'os' as os %}", Ends::Syntax);
    ends("{% extends 'x' %}", Ends::Syntax);
    ends("{{ open('/etc/passwd') }}", Ends::Refused);
    ends("{{ debug() }}", Ends::Refused);
    ends("{{ messages.append(1) }}", Ends::Refused);
    ends("{% something %}", Ends::Syntax);
    ends("{{ messages | something }}", Ends::Refused);
    ends("{% if messages %}", Ends::Syntax);
    ends("{{ raise_exception('No.') }}", Ends::Refused);
}
