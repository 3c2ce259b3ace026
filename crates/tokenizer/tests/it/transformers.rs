//! The folder in `transformers`: same ids, same text, BOS once. Needs Python, so it runs only where it is
//! told of one.

use serde_json::json;
use store::fs::RealFs;
use tokenizer::{Kind, PreTokenizer};

use crate::{options, texts, trained};

#[test]
fn transformers_gives_the_same_ids_and_text() {
    let Ok(python) = std::env::var("TEXT2LLM_PYTHON") else {
        testkit::skip("TEXT2LLM_PYTHON names no Python that has transformers");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let mut sorts = vec![
        ("char", options(Kind::Char, 256)),
        ("byte", options(Kind::Byte, 256)),
        ("unigram", options(Kind::Unigram, 300)),
    ];
    for pre_tokenizer in PreTokenizer::ALL {
        let mut options = options(Kind::Bpe, 420);
        options.pre_tokenizer = pre_tokenizer;
        sorts.push((pre_tokenizer.name(), options));
    }
    sorts.push(("tight", options(Kind::Bpe, 256)));
    let mut command = std::process::Command::new(python);
    command.arg("../../tools/check_tokenizer.py");
    for (name, options) in sorts {
        let tokenizer = trained(&options);
        let folder = root.path().join(name);
        tokenizer.save(&RealFs, &folder, Some(256)).unwrap();
        let mut texts = texts();
        if options.kind != Kind::Char {
            let more = [
                "",
                " ",
                "\n\n",
                "1234567 8½",
                "日本語 🙂\u{200b}",
                "a  b\t\r\n  c   ",
                "l'ÉTÉ «oui»…",
                "x\u{301}",
                "\u{feff}cafe\u{301}\r\nA\u{30a}ngstro\u{308}m\r",
                "\u{feff}\u{feff}a\r\r\n\u{feff}",
                "\u{1112}\u{1161}\u{11ab} \u{212b} \u{0f71}\u{0f72} q\u{0307}\u{0323}\r\n",
            ];
            texts.extend(more.map(String::from));
        }
        let spelled = "A <BOS> and <|im_end|><EOS>.";
        let expected = json!({
            "vocab_size": tokenizer.vocab_size(),
            "special": {"bos": 1, "eos": 2, "pad": 0, "unk": 3},
            "ids": tokenizer.batches().encode(&texts).unwrap(),
            "decoded": texts.iter().map(|text| tokenizer.normalize(text)).collect::<Vec<_>>(),
            "texts": texts,
            "spelled": spelled,
            "spelled_ids": tokenizer.encode(spelled).unwrap(),
        });
        std::fs::write(folder.join("expected.json"), expected.to_string()).unwrap();
        command.arg(folder);
    }
    let output = command.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
