//! The recipes that come with the program, and the schema that editors read.

use recipe::{Recipe, commented, json_schema};

#[test]
fn every_example_is_a_valid_recipe_named_as_its_file() {
    let folder = "../../examples";
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("examples/")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    files.sort();
    let mut embedded = recipe::examples::names();
    embedded.sort_unstable();
    assert_eq!(files, embedded.iter().map(|name| format!("{name}.toml")).collect::<Vec<_>>());
    for name in embedded {
        let text = recipe::examples::find(name).expect("embedded");
        let recipe =
            Recipe::load(&format!("examples/{name}.toml"), text, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(recipe.name, name);
    }
}

#[test]
fn a_new_recipe_means_what_its_example_means() {
    for name in recipe::examples::names() {
        let example = recipe::examples::find(name).expect("embedded");
        let text = commented(name, example);
        let new = Recipe::load("new.toml", &text, &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(new, Recipe::load("example.toml", example, &[]).expect("valid"));
    }
}

#[test]
fn every_commented_default_is_valid_when_its_mark_is_deleted() {
    let defaults = Recipe::load("new.toml", "", &[]).unwrap_or_else(|e| panic!("{e}"));
    let mut tried = 0;
    let mut section = String::new();
    for line in commented("x", "").lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let Some(setting) = line.strip_prefix('#').filter(|s| !s.starts_with(' ') && s.contains(" = "))
        else {
            continue;
        };
        let text = format!("{section}\n{setting}\n");
        let recipe = Recipe::load("new.toml", &text, &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
        // An empty table enables an optional step.
        if !setting.ends_with("= {}") {
            assert_eq!(recipe, defaults, "{text}");
        }
        tried += 1;
    }
    assert!(tried > 40, "only {tried} commented defaults");
}

#[test]
fn the_published_schema_is_current() {
    let path = "../../docs/recipe.schema.json";
    let wanted = format!("{:#}\n", json_schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &wanted).expect("docs/ is writable");
    }
    let published = std::fs::read_to_string(path).expect("docs/recipe.schema.json");
    assert!(
        published == wanted,
        "docs/recipe.schema.json is out of date: run `text2llm schema > docs/recipe.schema.json`"
    );
}
