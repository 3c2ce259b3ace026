//! What a person reads after a slip in a recipe, whole.

use recipe::{Override, Recipe};

#[track_caller]
fn errors(text: &str, layers: &[Override]) -> String {
    Recipe::load("text2llm.toml", text, layers).expect_err("the recipe must be refused").to_string()
}

#[test]
fn unknown_key_with_its_nearest() {
    insta::assert_snapshot!(errors("[model]\nhiden_size = 64\n", &[]));
}

#[test]
fn unknown_section() {
    insta::assert_snapshot!(errors("name = \"x\"\n\n[modle]\ndepth = 4\n", &[]));
}

#[test]
fn key_of_another_section() {
    insta::assert_snapshot!(errors("[model]\nmaximum_rss_mb = 400\n", &[]));
}

#[test]
fn unknown_key_nothing_near() {
    insta::assert_snapshot!(errors("[export]\nzzz = 1\n", &[]));
}

#[test]
fn wrong_type() {
    insta::assert_snapshot!(errors("[model]\n  depth = \"four\"  # deep\n", &[]));
}

#[test]
fn fraction_for_a_whole_number() {
    insta::assert_snapshot!(errors("[model]\ndepth = 1.5\n", &[]));
}

#[test]
fn out_of_range() {
    insta::assert_snapshot!(errors("[model]\ndepth = 0\ndropout = 1.5\n", &[]));
}

#[test]
fn wrong_word() {
    insta::assert_snapshot!(errors("[export]\ncheckpoint = \"bset\"\n", &[]));
}

#[test]
fn wrong_element_of_a_list() {
    insta::assert_snapshot!(errors("[validate]\nprompts = [\"The\", 7]\n", &[]));
}

#[test]
fn not_toml() {
    insta::assert_snapshot!(errors("[model\ndepth = 4\n", &[]));
}

#[test]
fn twice_the_same_key() {
    insta::assert_snapshot!(errors("[model]\ndepth = 4\ndepth = 5\n", &[]));
}

#[test]
fn two_ways_to_give_the_shape() {
    insta::assert_snapshot!(errors("[model]\ndepth = 4\nsize = \"10M\"\n", &[]));
}

#[test]
fn size_in_strange_words() {
    insta::assert_snapshot!(errors("[model]\nsize = \"big\"\n", &[]));
}

#[test]
fn flag_with_an_unknown_key() {
    let set = Override::set("model.dept=4").expect("has a key and a value");
    insta::assert_snapshot!(errors("", &[set]));
}

#[test]
fn flag_with_a_wrong_type() {
    let set = Override::set("model.depth=four").expect("has a key and a value");
    insta::assert_snapshot!(errors("[model]\ndepth = 4\n", &[set]));
}

#[test]
fn flag_into_a_single_value() {
    let set = Override::set("name.depth=4").expect("has a key and a value");
    insta::assert_snapshot!(errors("name = \"x\"", &[set]));
}

#[test]
fn flag_without_a_value() {
    insta::assert_snapshot!(Override::set("model.depth").expect_err("no `=`").to_string());
}

#[test]
fn environment_out_of_range() {
    let variables = [("TEXT2LLM_MODEL_DEPTH".to_owned(), "1000".to_owned())];
    let layers = Override::from_environment(variables.into_iter());
    insta::assert_snapshot!(errors("", &layers));
}

#[test]
fn later_layers_win_and_are_typed() {
    let variables = [
        ("TEXT2LLM_MODEL_DEPTH".to_owned(), "3".to_owned()),
        ("TEXT2LLM_VALIDATE_MAXIMUM_RSS_MB".to_owned(), "123".to_owned()),
        ("TEXT2LLM_PROJECT".to_owned(), "not-a-section".to_owned()),
        ("HOME".to_owned(), "/".to_owned()),
    ];
    let mut layers = Override::from_environment(variables.into_iter());
    assert_eq!(layers.len(), 2, "only the recipe's own sections are read");
    layers.push(Override::set("model.depth=5").expect("well formed"));
    layers.push(Override::set("export.license=2.0").expect("well formed"));
    layers.push(Override::set("validate.prompts=[\"Le \", \"The \"]").expect("well formed"));
    let recipe = Recipe::load("r.toml", "[model]\ndepth = 2\n", &layers).expect("valid");
    assert_eq!(recipe.model.depth, Some(5));
    assert_eq!(recipe.export.license, "2.0", "a key that takes text keeps it as typed");
    assert_eq!(recipe.validate.maximum_rss_mb, Some(123.0));
    assert_eq!(recipe.validate.prompts, ["Le ", "The "]);
}

#[test]
fn a_written_out_recipe_reads_back_equal() {
    let recipe = Recipe::load("r.toml", "name = \"a\"\n[model]\nsize = \"2M\"\n", &[]).expect("valid");
    let again = Recipe::load("again.toml", &recipe.to_toml(), &[]).expect("valid");
    assert_eq!(recipe, again);
}

#[test]
fn a_flag_replaces_what_the_file_says_in_another_way() {
    let text = "[model]\nhidden_size = 64\nnum_hidden_layers = 2\nnum_attention_heads = 3\nhead_dim = \
                20\n[train]\nsteps = 9\n";
    let layers = ["model.depth=4", "train.epochs=3"].map(|set| Override::set(set).expect("well formed"));
    let recipe = Recipe::load("r.toml", text, &layers).expect("valid");
    assert_eq!((recipe.model.depth, recipe.model.hidden_size, recipe.model.head_dim), (Some(4), None, None));
    assert_eq!((recipe.train.epochs, recipe.train.steps), (Some(3), None));
}

#[test]
fn two_flags_that_contradict_each_other() {
    let layers = ["train.epochs=4", "train.steps=3"].map(|set| Override::set(set).expect("well formed"));
    insta::assert_snapshot!(errors("", &layers));
}

#[test]
fn options_of_other_sections() {
    let text = "[data]\nvalidation_fraction = 0.1\n[tokenizer]\nvocab_size = 256\nchat_tokens = [\"a \
                b\"]\n[train]\nbatch_size = 6\nmicro_batch_size = 4\n";
    insta::assert_snapshot!(errors(text, &[]));
}

#[test]
fn a_rope_rule_without_its_factor() {
    insta::assert_snapshot!(errors("[model.rope_scaling]\nrope_type = \"linear\"\n", &[]));
}

#[test]
fn an_unknown_rope_rule() {
    insta::assert_snapshot!(errors("[model.rope_scaling]\nrope_type = \"spiral\"\nfactor = 2.0\n", &[]));
}

#[test]
fn a_flag_for_a_section_leaves_what_the_recipe_says_of_it() {
    let flag = [Override::section("--method dpo", "finetune.preference")];
    let begin = "[train]\ninit = \"m\"\noptimizer = \"adamw\"\n[adapter]\ndropout = 0.0\n[finetune]\ndata = [\"d.jsonl\"]\n";
    let beta = |more: &str| {
        let recipe = Recipe::load("r.toml", &format!("{begin}{more}"), &flag).expect("valid");
        recipe.finetune.expect("examples").preference.expect("pairs").beta
    };
    assert_eq!(beta(""), 0.1);
    assert_eq!(beta("[finetune.preference]\nbeta = 0.3\n"), 0.3);
}
