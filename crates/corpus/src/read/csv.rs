//! Tables of comma- or tab-separated values (RFC 4180): the first row names the columns, one of them holds
//! the text.

use std::io::{BufRead, BufReader, Read};

use csv_core::ReadRecordResult;

use super::outcome::{Outcome, Readable, Unusable, unusable};
use super::sink::{Row, Sink};
use crate::clean;

/// More columns are damage.
const MOST_COLUMNS: usize = 16 << 10;
/// What a row may take beside its text.
const OTHER_COLUMNS_BYTES: usize = 4 << 20;

/// Where the columns are that are asked for.
struct Columns {
    text: usize,
    language: Option<usize>,
    url: Option<usize>,
}

/// Reads a table; a file without its column is unusable. `delimiter` may turn out to be another: spreadsheets
/// of countries with a decimal comma write semicolons.
pub fn read(bytes: &mut dyn Read, delimiter: u8, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let mut bytes = BufReader::with_capacity(256 << 10, bytes);
    let first = bytes.fill_buf()?;
    let first_line = &first[..memchr::memchr(b'\n', first).unwrap_or(first.len())];
    let mut table = Table::new(delimiter_of(first_line, delimiter), sink.options.maximum_document_bytes);
    let columns = match table.next(&mut bytes)? {
        Next::Row => match columns(&table, sink) {
            Ok(columns) => columns,
            Err(reason) => return unusable(reason),
        },
        Next::End => return unusable("has no header row"),
        Next::TooLong => return unusable("has a header row that is too long"),
    };
    let (mut used, mut first_reason) = (0u64, None);
    loop {
        let line = table.reader.line();
        let reason = match table.next(&mut bytes)? {
            Next::End => break,
            Next::TooLong => {
                // Where a quote is not closed, no later row can be told from text.
                let reason = format!(
                    "from line {line}: a row longer than data.maximum_document_bytes; check for an unclosed \
                     quote"
                );
                first_reason.get_or_insert_with(|| reason.clone());
                sink.pass_over(name, reason)?;
                break;
            }
            Next::Row if table.columns() == 1 && table.column(0).is_empty() => None,
            Next::Row if table.columns() <= columns.text => {
                Some(format!("has {} columns, fewer than the header row", table.columns()))
            }
            Next::Row => {
                let mut text = |at: usize| {
                    let (text, repaired) = clean::repair(table.column(at).to_vec());
                    sink.counts.repaired_sequences += repaired;
                    text
                };
                let (language, url) = (columns.language.map(&mut text), columns.url.map(&mut text));
                let row = Row::new(text(columns.text), language.as_deref(), url.as_deref());
                used += 1;
                sink.row(row, &format!("{name}:{line}"))?;
                None
            }
        };
        if let Some(reason) = reason {
            first_reason.get_or_insert_with(|| format!("line {line} {reason}"));
            sink.pass_over(&format!("{name}:{line}"), reason)?;
        }
    }
    Ok(match first_reason {
        Some(reason) if used == 0 => Err(Unusable(format!("no usable row; {reason}"))),
        None if used == 0 => Err(Unusable("has no row after the header row".to_owned())),
        _ => Ok(()),
    })
}

/// The delimiter that the first line has, where it is not the one its name says.
fn delimiter_of(first_line: &[u8], named: u8) -> u8 {
    let has = |delimiter: u8| first_line.contains(&delimiter);
    if has(named) {
        return named;
    }
    [b';', b'\t', b','].into_iter().find(|&other| has(other)).unwrap_or(named)
}

fn columns(header: &Table, sink: &Sink<'_>) -> Result<Columns, String> {
    let names: Vec<String> = (0..header.columns())
        .map(|at| String::from_utf8_lossy(header.column(at)).trim().to_owned())
        .collect();
    let at = |name: &str| names.iter().position(|column| column == name);
    let text = at(sink.text_field).ok_or_else(|| {
        let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
        format!(
            "has no column `{}` (it has: {}): set data.text_field",
            sink.text_field,
            shown.join(", ").chars().take(200).collect::<String>()
        )
    })?;
    Ok(Columns { text, language: at(&sink.options.language_field), url: at(&sink.options.url_field) })
}

/// A row at a time.
struct Table {
    reader: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    longest: usize,
}

enum Next {
    Row,
    End,
    TooLong,
}

impl Table {
    fn new(delimiter: u8, longest_text: usize) -> Table {
        Table {
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            fields: vec![0; 64 << 10],
            ends: vec![0; 64],
            count: 0,
            longest: longest_text.saturating_add(OTHER_COLUMNS_BYTES),
        }
    }

    fn next(&mut self, bytes: &mut impl BufRead) -> std::io::Result<Next> {
        let (mut filled, mut ended) = (0, 0);
        loop {
            let input = bytes.fill_buf()?;
            let at_end = input.is_empty();
            let (result, read, written, ends) =
                self.reader.read_record(input, &mut self.fields[filled..], &mut self.ends[ended..]);
            bytes.consume(read);
            filled += written;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty if at_end => return Ok(Next::End),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if filled >= self.longest => return Ok(Next::TooLong),
                ReadRecordResult::OutputFull => {
                    self.fields.resize((self.fields.len() * 2).min(self.longest), 0);
                }
                ReadRecordResult::OutputEndsFull if ended >= MOST_COLUMNS => return Ok(Next::TooLong),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.count = ended;
                    return Ok(Next::Row);
                }
                ReadRecordResult::End => return Ok(Next::End),
            }
        }
    }

    fn columns(&self) -> usize {
        self.count
    }

    /// A column's bytes; none where the row is shorter.
    fn column(&self, at: usize) -> &[u8] {
        if at >= self.count {
            return &[];
        }
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.fields[start..self.ends[at]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(delimiter: u8, longest: usize, csv: &str) -> Vec<Vec<String>> {
        let mut table = Table::new(delimiter, 0);
        table.longest = longest;
        let mut bytes = csv.as_bytes();
        let mut rows = Vec::new();
        loop {
            match table.next(&mut bytes).unwrap() {
                Next::Row => rows.push(
                    (0..table.columns())
                        .map(|at| String::from_utf8_lossy(table.column(at)).into_owned())
                        .collect(),
                ),
                Next::End => return rows,
                Next::TooLong => {
                    rows.push(vec!["too long".to_owned()]);
                    return rows;
                }
            }
        }
    }

    #[test]
    fn quotes_hold_delimiters_lines_and_quotes() {
        let csv = "a,b\r\n\"x, \"\"y\"\"\nz\",2\r\n\n3,\"\"";
        assert_eq!(rows(b',', 1 << 20, csv), [["a", "b"], ["x, \"y\"\nz", "2"], ["3", ""]]);
        assert_eq!(rows(b'\t', 1 << 20, "a\tb,c\n"), [["a", "b,c"]]);
    }

    #[test]
    fn a_row_may_be_as_long_as_allowed_and_no_longer() {
        let long = "x".repeat(200_000);
        assert_eq!(rows(b',', 1 << 20, &format!("a,{long}\n"))[0][1].len(), 200_000);
        assert_eq!(rows(b',', 100_000, &format!("a,\"{long}"))[0], ["too long"]);
    }

    #[test]
    fn the_first_line_may_correct_the_name() {
        assert_eq!(delimiter_of(b"text;language", b','), b';');
        assert_eq!(delimiter_of(b"text,language", b','), b',');
        assert_eq!(delimiter_of(b"text", b'\t'), b'\t');
    }
}
