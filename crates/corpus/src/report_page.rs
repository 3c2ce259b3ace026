//! `report.html`: what the data stage did, for a browser. One file, no scripts, nothing loaded.

use std::fmt::Write;

use crate::{CorpusSummary, SplitCounts};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}td.n,th.n{text-align:right}\
.b{width:40%}.bar{background:#4a78b5;height:.8rem;min-width:1px}.bar.k{background:#4d9a6a}small{color:#666}\
code{white-space:pre-wrap;overflow-wrap:anywhere}";

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
    write!(
        out,
        "<h2>Where the documents went</h2><table><tr><th>step<th class=n>documents<th class=n>share<th>"
    )?;
    let total = summary.documents_read.max(1) as f64;
    let mut row = |what: &str, documents: u64, class: &str| {
        let share = 100.0 * documents as f64 / total;
        write!(
            out,
            "<tr><td>{}<td class=n>{documents}<td class=n>{share:.1} %<td class=b><div class='bar {class}' style='width:{:.2}%'></div>",
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
        "<h2>What is kept</h2><table><tr><th>split<th class=n>documents<th class=n>MB<th>languages by bytes",
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
        for sample in &drops.samples {
            write!(
                out,
                "<tr><td>{}<br><small>{}</small><td><code>{}</code>",
                escaped(&sample.reason),
                escaped(&sample.source),
                escaped(&sample.start)
            )?;
        }
        out.push_str("</table></details>");
    }
    if !summary.clusters.is_empty() {
        out.push_str("<h2>Largest clusters of near-duplicates</h2><table><tr><th class=n>documents<th>kept<th>some of the others");
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
    if summary.quarantined > 0 {
        write!(out, "<h2>Not usable: {}</h2><table>", summary.quarantined)?;
        for entry in &summary.quarantine {
            write!(out, "<tr><td>{}<td>{}", escaped(&entry.source), escaped(&entry.reason))?;
        }
        out.push_str("</table>");
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
        summary.drop("c4", "curly_bracket", "a<b>.html", "<script>alert(1)</script>".to_owned());
        let page = html(&summary);
        assert!(
            page.contains("a&lt;b&gt;.html") && page.contains("&lt;script&gt;") && !page.contains("<script")
        );
    }
}
