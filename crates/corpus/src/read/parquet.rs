//! Parquet: one column holds the text, batch by batch of rows, so that memory does not grow with the file.
//!
//! The `parquet` crate decodes. It believes lengths that a file claims, so the footer's schema, each page's
//! header (`thrift`) and what a page says within (`pages`) are looked over first: nothing is allocated for
//! what a file of its size cannot hold.

mod pages;
mod shared;
mod thrift;
mod values;

pub use values::values;

use std::sync::{Arc, Mutex};

use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use store::fs::FsReader;

use super::outcome::{Level, Outcome, Readable, unusable};
use super::sink::{LONGEST_ADDRESS_BYTES, Row, Sink};
use super::unpack::Crowd;
use crate::clean;
use pages::{AtHand, BATCH_BYTES, Pages};
use shared::{Shared, guarded, said};

/// Rows at a time, where their texts are short.
const BATCH_ROWS: usize = 256;
/// What a row costs of the budget beside its text: rows without one come in runs that take no room in the
/// file.
const ROW_BYTES: u64 = 16;

/// Reads the text column of all rows. Rows without a text are passed over: that is how tables say that there
/// is none.
pub fn read(
    file: Box<dyn FsReader>,
    bytes: u64,
    name: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Outcome<Readable> {
    let file = Shared { file: Arc::new(Mutex::new(file)), bytes };
    let mut rows = match guarded(|| Rows::open(file, sink)) {
        Ok(rows) => rows,
        Err(reason) => return unusable(reason),
    };
    // Equal rows come in runs that take no room: what the file claims is told before any of it is read.
    if level.budget.is_crowd(rows.claimed()) {
        return unusable(format!("claims {} rows, so it {Crowd}", rows.claimed()));
    }
    let mut number = 0u64;
    loop {
        let batch = match guarded(|| rows.next()) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(Ok(())),
            Err(reason) => return unusable(format!("is damaged after {number} rows: {reason}")),
        };
        for (text, language, url) in batch {
            number += 1;
            // A dictionary says a long text a million times in as many bits.
            let bytes = [&text, &url].into_iter().flatten().map(|value| value.len() as u64).sum::<u64>();
            if !level.budget.take(ROW_BYTES + bytes) {
                return unusable(format!("{Crowd} (stopped at row {number})"));
            }
            let Some(text) = text else { continue };
            let mut string = |bytes: ByteArray| {
                let (text, repaired) = clean::repair(bytes.data().to_vec());
                sink.counts.repaired_sequences += repaired;
                text
            };
            let (text, language, url) = (string(text), language.map(&mut string), url.map(&mut string));
            sink.row(Row::new(text, language.as_deref(), url.as_deref()), &format!("{name}:{number}"))?;
        }
    }
}

/// A row's text, language and address.
type Values = (Option<ByteArray>, Option<ByteArray>, Option<ByteArray>);

/// All rows, batch by batch.
struct Rows {
    file: Shared,
    reader: SerializedFileReader<Shared>,
    /// Indexes of the columns.
    columns: [Option<usize>; 3],
    row_group: usize,
    open: Option<Group>,
}

/// The row group that is being read.
struct Group {
    rows_left: usize,
    columns: [Option<Column>; 3],
}

impl Rows {
    fn open(file: Shared, sink: &Sink<'_>) -> Result<Rows, String> {
        file.check_footer()?;
        // Of LZ4 only the form with lengths: the one that writers gave up in 2020 unpacks without a bound.
        let properties = ReaderProperties::builder().set_backward_compatible_lz4(false).build();
        let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
        let reader = SerializedFileReader::new_with_options(file.clone(), options).map_err(said)?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let at =
            |wanted: &str| (0..schema.num_columns()).find(|&at| schema.column(at).path().string() == wanted);
        let Some(text) = at(sink.text_field) else {
            let names: Vec<String> =
                schema.columns().iter().take(10).map(|column| column.path().string()).collect();
            return Err(format!(
                "has no column `{}` (it has: {}): set data.text_field",
                sink.text_field,
                names.join(", ").chars().take(200).collect::<String>()
            ));
        };
        let is_text = |&at: &usize| {
            let column = schema.column(at);
            column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0
        };
        if !is_text(&text) {
            return Err(format!(
                "has a column `{}` that is not text: check data.text_field",
                sink.text_field
            ));
        }
        let columns = [
            Some(text),
            at(&sink.options.language_field).filter(is_text),
            at(&sink.options.url_field).filter(is_text),
        ];
        Ok(Rows { file, columns, reader, row_group: 0, open: None })
    }

    /// The rows of all row groups, as the footer has them.
    fn claimed(&self) -> u64 {
        let rows = |group: &RowGroupMetaData| u64::try_from(group.num_rows()).unwrap_or(0);
        self.reader.metadata().row_groups().iter().map(rows).fold(0, u64::saturating_add)
    }

    fn next(&mut self) -> Result<Option<Vec<Values>>, String> {
        loop {
            if self.open.as_ref().is_none_or(|group| group.rows_left == 0) {
                if self.row_group == self.reader.num_row_groups() {
                    return Ok(None);
                }
                self.open = Some(self.open_group(self.row_group)?);
                self.row_group += 1;
            }
            let Some(group) = &mut self.open else { return Ok(None) };
            let wanted = group.rows_left.min(BATCH_ROWS);
            if wanted == 0 {
                continue;
            }
            let [texts, languages, urls] = &mut group.columns;
            let next = |column: &mut Option<Column>, rows, enough_bytes| match column {
                Some(column) => column.next(rows, enough_bytes),
                None => Ok(vec![None; rows]),
            };
            let texts = next(texts, wanted, BATCH_BYTES)?;
            let rows = texts.len();
            let (languages, urls) = (next(languages, rows, usize::MAX)?, next(urls, rows, usize::MAX)?);
            group.rows_left -= rows;
            let rows = texts.into_iter().zip(languages).zip(urls);
            return Ok(Some(rows.map(|((text, language), url)| (text, language, url)).collect()));
        }
    }

    fn open_group(&self, index: usize) -> Result<Group, String> {
        let group = self.reader.get_row_group(index).map_err(said)?;
        let rows =
            usize::try_from(group.metadata().num_rows()).map_err(|_| "claims a negative number of rows")?;
        let longest = [usize::MAX, LONGEST_ADDRESS_BYTES, LONGEST_ADDRESS_BYTES];
        let mut columns = [None, None, None];
        for ((column, at), longest) in columns.iter_mut().zip(self.columns).zip(longest) {
            let Some(at) = at else { continue };
            self.file.check_pages(group.metadata().column(at))?;
            let described = group.metadata().column(at).column_descr_ptr();
            let whole = Some(described.max_def_level()).filter(|&level| level > 0);
            let at_hand = Arc::new(AtHand::default());
            let pages = group.get_column_page_reader(at).map_err(said)?;
            let pages = Pages::over(pages, whole.is_some(), self.file.bytes, &at_hand);
            let reader = ColumnReaderImpl::new(described, Box::new(pages));
            *column = Some(Column { reader, whole, at_hand, longest });
        }
        Ok(Group { rows_left: rows, columns })
    }
}

/// A column of a row group.
struct Column {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The definition level of a value that is there, where it may be missing.
    whole: Option<i16>,
    at_hand: Arc<AtHand>,
    /// Longer values are passed over.
    longest: usize,
}

impl Column {
    /// The values of so many rows, or of fewer once they come to so many bytes. Some encodings make a copy of
    /// each, as long as the page: no more are decoded at a time than are harmless.
    fn next(&mut self, rows: usize, enough_bytes: usize) -> Result<Vec<Option<ByteArray>>, String> {
        let mut out = Vec::with_capacity(rows);
        let (mut values, mut levels, mut bytes) = (Vec::new(), Vec::new(), 0);
        while out.len() < rows && bytes < enough_bytes {
            values.clear();
            levels.clear();
            let definition = self.whole.map(|_| &mut levels);
            let step = self.at_hand.step().min(rows - out.len());
            let (records, _, _) =
                self.reader.read_records(step, definition, None, &mut values).map_err(said)?;
            if records == 0 {
                return Err("a column ends before its row group".to_owned());
            }
            self.at_hand.took(records);
            let mut found = values.drain(..);
            for row in 0..records {
                let is_there = self.whole.is_none_or(|whole| levels.get(row) == Some(&whole));
                let value = if is_there { found.next() } else { None };
                bytes += value.as_ref().map_or(0, ByteArray::len);
                out.push(value.filter(|value| value.len() <= self.longest));
            }
        }
        Ok(out)
    }
}
