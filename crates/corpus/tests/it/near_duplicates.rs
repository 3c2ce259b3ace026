//! MinHash on texts whose similarity is known.

use corpus::CorpusOptions;
use corpus::dedup::{DuplicateOptions, NearDuplicates, Signer};
use store::fs::RealFs;
use tokens::Split;

use crate::{Project, undivided};

/// A simple generator: the test is the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn words(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| (0..6).map(|_| char::from(b'a' + (self.next() % 26) as u8)).collect()).collect()
    }
}

fn shingles(words: &[String]) -> std::collections::HashSet<&[String]> {
    words.windows(5).collect()
}

#[test]
fn near_duplicates_are_found_and_others_are_not() {
    let mut random = Random(7);
    let options = DuplicateOptions::default();
    let folder = tempfile::tempdir().unwrap();
    let (mut similar, mut found, mut joined, mut wrong) = (0, 0, 0, 0);
    let mut texts = Vec::new();
    let mut similarities = Vec::new();
    for _ in 0..1500 {
        let original = random.words(200);
        let mut copy = original.clone();
        // Each change at a place of its own costs five shingles: three give a similarity of about 0.86.
        for place in 0..3 {
            copy[30 + place * 60] = random.words(1).remove(0);
        }
        let (a, b) = (shingles(&original), shingles(&copy));
        let similarity = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
        similarities.push(similarity);
        texts.push(original.join(" "));
        texts.push(copy.join(" "));
    }
    let survivors = |memory_mb| {
        let mut signer = Signer::new(&options);
        let small = DuplicateOptions { memory_mb, ..options.clone() };
        let mut duplicates = NearDuplicates::new(&RealFs, folder.path(), &small);
        for text in &texts {
            duplicates.push(signer.sign(text).as_deref()).unwrap();
        }
        duplicates.finish().unwrap()
    };
    let roots = survivors(1);
    assert_eq!(survivors(64), roots, "what is sorted on disk is sorted as in memory");
    for (pair, similarity) in similarities.iter().enumerate() {
        let is_joined = roots[2 * pair] == roots[2 * pair + 1];
        if *similarity >= 0.85 {
            similar += 1;
            found += i32::from(is_joined);
        }
    }
    for (index, &root) in roots.iter().enumerate() {
        if root as usize != index {
            joined += 1;
            wrong += i32::from(root as usize / 2 != index / 2);
        }
    }
    let (recall, precision) =
        (f64::from(found) / f64::from(similar), 1.0 - f64::from(wrong) / f64::from(joined));
    println!("{similar} pairs of similarity 0.85 and more: recall {recall:.4}, precision {precision:.4}");
    assert!(similar > 1000 && recall >= 0.98 && precision >= 0.99, "{recall} {precision}");
}

#[test]
fn the_stage_drops_them_and_tells_of_clusters() {
    let mut random = Random(3);
    let base = random.words(300);
    let mut lines = String::new();
    for change in 0..4 {
        let mut copy = base.clone();
        copy[change * 50] = "changed".to_owned();
        lines += &format!("{{\"text\": \"{}\"}}\n", copy.join(" "));
    }
    lines += &format!("{{\"text\": \"{}\"}}\n{{\"text\": \"short\"}}\n", random.words(300).join(" "));
    let project = Project::new(&[("a.jsonl", lines.as_bytes())]);
    let with =
        CorpusOptions { near_duplicates: Some(DuplicateOptions::default()), ..undivided(&["a.jsonl"]) };
    let summary = project.prepare(&with).unwrap();
    assert_eq!((summary.documents(), summary.near_duplicates), (3, 3));
    assert_eq!(
        (summary.clusters.len(), summary.clusters[0].documents, summary.clusters[0].others.len()),
        (1, 4, 3)
    );
    assert_eq!(project.documents(Split::Train).len(), 3);
    assert!(!project.documents_folder().join("waiting.tmp").exists());
    // A corpus without any is no special case.
    let alone = Project::new(&[("a.jsonl", b"{\"text\": \"only one here\"}")]);
    assert_eq!(alone.prepare(&with).unwrap().documents(), 1);
}
