//! `report.html`: statistics of the data stage as a single HTML file without scripts or external content.

use std::fmt::Write;
use std::path::Path;

use store::fs::Fs;
use tokens::Split;

use crate::dedup::Repeated;
use crate::survey::{Survey, survey};
use crate::{CorpusSummary, Document, Result, Sample, SplitCounts, documents};

const STYLE: &str = "\
    body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
    td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
    td.n,th.n{text-align:right}\
    .b{width:40%}.bar{background:#4a78b5;height:.8rem;min-width:1px}.bar.k{background:#4d9a6a}\
    small{color:#666}code{white-space:pre-wrap;overflow-wrap:anywhere}";

/// The page.
pub fn html(summary: &CorpusSummary) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(summary, &mut out);
    out
}

fn write(summary: &CorpusSummary, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><title>Corpus report</title><style>{STYLE}</style>"
    )?;
    write!(
        out,
        "<h1>Corpus report</h1><p>{} documents of {} kept: {:.1} MB, from {} file(s).</p>",
        summary.documents(),
        summary.documents_read,
        summary.bytes() as f64 / 1e6,
        summary.files
    )?;
    write!(out, "<h2>Documents by step</h2><table><tr><th>step<th class=n>documents<th class=n>share<th>")?;
    let total = summary.documents_read.max(1) as f64;
    let mut row = |what: &str, documents: u64, class: &str| {
        let share = 100.0 * documents as f64 / total;
        write!(
            out,
            "<tr><td>{}<td class=n>{documents}<td class=n>{share:.1} %<td class=b><div class='bar {class}' \
             style='width:{:.2}%'></div>",
            escaped(what),
            share.min(100.0)
        )
    };
    row("too short", summary.too_short, "")?;
    for (filter, drops) in &summary.drops {
        row(filter, drops.documents, "")?;
    }
    row("exact duplicates", summary.duplicates, "")?;
    row("near-duplicates", summary.near_duplicates, "")?;
    row("kept", summary.documents(), "k")?;
    out.push_str("</table>");

    out.push_str(
        "<h2>Kept documents</h2><table><tr><th>split<th class=n>documents<th class=n>MB<th>languages by \
         bytes",
    );
    for (name, counts) in [("train", &summary.train), ("validation", &summary.validation)] {
        let megabytes = counts.bytes as f64 / 1e6;
        write!(
            out,
            "<tr><td>{name}<td class=n>{}<td class=n>{megabytes:.1}<td>{}",
            counts.documents,
            languages(counts)
        )?;
    }
    out.push_str("</table>");

    for (filter, drops) in &summary.drops {
        write!(
            out,
            "<h2>{}: {} dropped</h2><table><tr><th>reason<th class=n>documents<th>",
            escaped(filter),
            drops.documents
        )?;
        for (reason, count) in &drops.reasons {
            let share = 100.0 * *count as f64 / drops.documents.max(1) as f64;
            write!(
                out,
                "<tr><td>{}<td class=n>{count}<td class=b><div class=bar style='width:{share:.2}%'></div>",
                escaped(reason)
            )?;
        }
        out.push_str("</table><details><summary>Samples</summary><table>");
        samples(&drops.samples, out)?;
        out.push_str("</table></details>");
    }
    if !summary.clusters.is_empty() {
        out.push_str(
            "<h2>Largest clusters of near-duplicates</h2><table><tr><th \
             class=n>documents<th>kept<th>some of the others",
        );
        for cluster in &summary.clusters {
            write!(
                out,
                "<tr><td class=n>{}<td>{}<br><small><code>{}</code></small><td><small>{}</small>",
                cluster.documents,
                escaped(&cluster.survivor),
                escaped(&cluster.start),
                cluster.others.iter().map(|other| escaped(other)).collect::<Vec<_>>().join("<br>")
            )?;
        }
        out.push_str("</table>");
    }
    domains(summary, out)?;
    histogram("Classifier scores", &summary.scores, |half| format!("{:.1}", half as f64 / 2.0), out)?;
    let from = |half| format!("{:.0}", (half as f64 / 2.0).exp2());
    histogram("Perplexity under the model", &summary.perplexities, from, out)?;
    repeated("Repeated spans", &summary.repeated_spans, out)?;
    repeated("Repeated lines", &summary.repeated_lines, out)?;
    redactions(summary, out)?;
    contamination(summary, out)?;
    unicode(summary, out)?;
    if !summary.passed_over.is_empty() {
        out.push_str("<h2>Skipped: nothing to read</h2><table><tr><th>what<th class=n>files and records");
        for (what, records) in &summary.passed_over {
            write!(out, "<tr><td>{}<td class=n>{records}", escaped(what))?;
        }
        out.push_str("</table>");
    }
    if !summary.not_followed.is_empty() {
        write!(out, "<h2>Not followed: {}</h2><table>", summary.not_followed.count)?;
        for entry in &summary.not_followed.first {
            write!(out, "<tr><td>{}<td>{}", escaped(&entry.source), escaped(&entry.reason))?;
        }
        out.push_str("</table>");
    }
    if summary.quarantined > 0 {
        write!(out, "<h2>Unreadable: {}</h2><table>", summary.quarantined)?;
        for entry in &summary.quarantine {
            write!(out, "<tr><td>{}<td>{}", escaped(&entry.source), escaped(&entry.reason))?;
        }
        out.push_str("</table>");
    }
    Ok(())
}

fn domains(summary: &CorpusSummary, out: &mut String) -> std::fmt::Result {
    if summary.train.domains.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Entries of data.paths, before mixing</h2><table><tr><th>entry<th class=n>MB for \
         training<th class=n>share<th>",
    );
    for (domain, &bytes) in &summary.train.domains {
        let share = 100.0 * bytes as f64 / summary.train.bytes.max(1) as f64;
        write!(
            out,
            "<tr><td>{}<td class=n>{:.1}<td class=n>{share:.1} %<td class=b><div class='bar k' \
             style='width:{share:.2}%'></div>",
            escaped(domain),
            bytes as f64 / 1e6
        )?;
    }
    out.push_str("</table>");
    Ok(())
}

/// A histogram of documents by a value; `from` formats the start of each range.
fn histogram(
    title: &str,
    counts: &[u64],
    from: impl Fn(usize) -> String,
    out: &mut String,
) -> std::fmt::Result {
    let Some(first) = counts.iter().position(|&count| count > 0) else { return Ok(()) };
    write!(out, "<h2>{title}</h2><table><tr><th class=n>from<th class=n>documents<th>")?;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    for (part, documents) in counts.iter().enumerate().skip(first) {
        let share = 100.0 * *documents as f64 / most as f64;
        write!(
            out,
            "<tr><td class=n>{}<td class=n>{documents}<td class=b><div class=bar \
             style='width:{share:.2}%'></div>",
            from(part)
        )?;
    }
    out.push_str("</table>");
    Ok(())
}

fn repeated(title: &str, repeated: &Option<Repeated>, out: &mut String) -> std::fmt::Result {
    let Some(repeated) = repeated else { return Ok(()) };
    write!(
        out,
        "<h2>{title}</h2><p>{} removed from {} documents, {:.1} MB.</p><table><tr><th class=n>removed<th>",
        repeated.removed,
        repeated.documents,
        repeated.bytes as f64 / 1e6
    )?;
    for (count, text) in &repeated.examples {
        write!(out, "<tr><td class=n>{count}<td><code>{}</code>", escaped(text))?;
    }
    out.push_str("</table>");
    Ok(())
}

fn redactions(summary: &CorpusSummary, out: &mut String) -> std::fmt::Result {
    if summary.redactions.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Redacted</h2><p>Samples are masked: X and x for letters, 9 for \
         digits.</p><table><tr><th>class<th class=n>values<th class=n>documents<th>kinds",
    );
    for (class, redactions) in &summary.redactions {
        let kinds: Vec<String> =
            redactions.kinds.iter().map(|(kind, count)| format!("{} {count}", escaped(kind))).collect();
        write!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td>{}",
            escaped(class),
            redactions.values,
            redactions.documents,
            kinds.join(", ")
        )?;
    }
    out.push_str("</table><details><summary>Samples to review</summary><table>");
    for redactions in summary.redactions.values() {
        samples(&redactions.samples, out)?;
    }
    out.push_str("</table></details>");
    Ok(())
}

fn contamination(summary: &CorpusSummary, out: &mut String) -> std::fmt::Result {
    if summary.evaluation_sets.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<h2>Evaluation sets</h2><table><tr><th>set<th class=n>items<th class=n>too short to search \
         for<th class=n>found, at least",
    );
    for (name, set) in &summary.evaluation_sets {
        write!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            escaped(name),
            set.items,
            set.too_short,
            set.found
        )?;
    }
    out.push_str("</table>");
    if !summary.overlaps.is_empty() {
        out.push_str(
            "<details><summary>Documents that contain \
             items</summary><table><tr><th>document<th>item<th>shared words",
        );
        for overlap in summary.overlaps.iter().take(crate::quarantine::LISTED) {
            write!(
                out,
                "<tr><td>{}<td>{}<td><code>{}</code>",
                escaped(&overlap.document),
                escaped(&overlap.item),
                escaped(&overlap.words)
            )?;
        }
        out.push_str("</table></details>");
    }
    Ok(())
}

fn unicode(summary: &CorpusSummary, out: &mut String) -> std::fmt::Result {
    let repairs = &summary.unicode;
    if repairs.documents == 0 {
        return Ok(());
    }
    write!(
        out,
        "<h2>Characters repaired in {} documents</h2><p>{} misread sequences, {} control characters, {} \
         zero-width characters.</p><table>",
        repairs.documents, repairs.mojibake, repairs.control_characters, repairs.zero_width
    )?;
    samples(&repairs.samples, out)?;
    out.push_str("</table>");
    Ok(())
}

fn samples(samples: &[Sample], out: &mut String) -> std::fmt::Result {
    for sample in samples {
        write!(
            out,
            "<tr><td>{}<br><small>{}</small><td><code>{}</code>",
            escaped(&sample.reason),
            escaped(&sample.source),
            escaped(&sample.start)
        )?;
    }
    Ok(())
}

fn languages(counts: &SplitCounts) -> String {
    let mut sorted: Vec<_> = counts.languages.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let share = |bytes: u64| 100.0 * bytes as f64 / counts.bytes.max(1) as f64;
    let told: Vec<String> = sorted
        .iter()
        .take(12)
        .map(|(code, bytes)| format!("{} {:.1} %", escaped(code), share(**bytes)))
        .collect();
    told.join(", ")
}

/// A page for a browser: histograms, drops, and the first `count` documents of each split.
///
/// # Errors
/// Files that are missing or damaged.
pub fn inspection_page(fs: &dyn Fs, folder: &Path, count: usize) -> Result<String> {
    let summary: CorpusSummary = store::atomic::read_json(fs, &folder.join("report.json"))?;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&summary, &mut out);
    for split in Split::ALL {
        let first = documents(fs, folder, split)?.take(count).collect::<Result<Vec<Document>>>()?;
        let _ = lengths(split, &survey(fs, folder, split)?, &first, &mut out);
    }
    Ok(out)
}

fn lengths(split: Split, survey: &Survey, documents: &[Document], out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "<h2>{}: lengths of {} documents</h2><table><tr><th class=n>characters from<th class=n>documents<th>",
        split.name(),
        survey.documents
    )?;
    let most = survey.lengths.values().map(|&(documents, _)| documents).max().unwrap_or(0).max(1);
    for (power, (documents, _)) in &survey.lengths {
        let share = 100.0 * *documents as f64 / most as f64;
        write!(
            out,
            "<tr><td class=n>{}<td class=n>{documents}<td class=b><div class='bar k' \
             style='width:{share:.2}%'></div>",
            1u64 << power
        )?;
    }
    out.push_str("</table>");
    for document in documents {
        write!(
            out,
            "<details><summary>{} {}</summary><code>{}</code></details>",
            escaped(&document.source),
            escaped(document.title.as_deref().unwrap_or_default()),
            escaped(&document.text)
        )?;
    }
    Ok(())
}

/// Text from outside is shown, never obeyed.
fn escaped(text: &str) -> String {
    html_escape::encode_double_quoted_attribute(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_escaped() {
        let mut summary = CorpusSummary::default();
        summary.drop("c4", "curly_bracket", "a<b>.html", "<script>alert(1)</script>");
        let page = html(&summary);
        assert!(
            page.contains("a&lt;b&gt;.html") && page.contains("&lt;script&gt;") && !page.contains("<script")
        );
    }
}
