//! A result set that can't be printed yet: in memory while it is small, beyond that in a
//! file without a name, so that memory doesn't grow with the number of rows.

use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};

use tempfile::SpooledTempFile;

use crate::{
    failure::{Failure, reason},
    output::{
        Output,
        result_set::{Column, Row, Widths},
    },
};

/// Rows that wait.
#[derive(Debug)]
pub(super) struct Spool {
    columns: Vec<Column>,
    widths: Widths,
    rows: BufWriter<SpooledTempFile>,
    count: u64,
}

/// Kept in memory before a file is used, in bytes.
const IN_MEMORY: usize = 4 * 1024 * 1024;

// === impl Spool ===

impl Spool {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self {
            widths: Widths::new(&columns),
            columns,
            rows: BufWriter::with_capacity(64 * 1024, SpooledTempFile::new(IN_MEMORY)),
            count: 0,
        }
    }

    /// Keeps a row: the body of a DataRow message behind its count of fields.
    pub(super) fn push(&mut self, body: &[u8]) -> Result<(), Failure> {
        self.widths.see(&fields(body)?);
        self.count += 1;
        let length = u32::try_from(body.len()).map_err(|_| malformed())?;
        self.rows
            .write_all(&length.to_ne_bytes())
            .and_then(|()| self.rows.write_all(body))
            .map_err(|error| unspoolable(&error))
    }

    /// Prints all rows.
    pub(super) fn print(self, output: &Output, out: impl Write) -> Result<(), Failure> {
        let mut file = self
            .rows
            .into_inner()
            .map_err(|error| unspoolable(error.error()))?;
        file.rewind().map_err(|error| unspoolable(&error))?;
        let mut rows = BufReader::with_capacity(64 * 1024, file);
        let mut writer = output.result_set(&self.columns, self.widths, out);
        let mut body = Vec::new();
        writer.begin().map_err(|error| Failure::output(&error))?;
        for _ in 0..self.count {
            read_row(&mut rows, &mut body).map_err(|error| unspoolable(&error))?;
            writer
                .row(&fields(&body)?)
                .map_err(|error| Failure::output(&error))?;
        }
        writer.end().map_err(|error| Failure::output(&error))
    }
}

/// The fields of a DataRow's body (a length and that many bytes for each; length -1: a null).
pub(super) fn fields(mut body: &[u8]) -> Result<Box<Row<'_>>, Failure> {
    let mut fields = Vec::new();
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            fields.push(None);
            body = rest;
            continue;
        };
        let (value, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        fields.push(Some(value));
        body = rest;
    }
    Ok(fields.into_boxed_slice())
}

fn read_row(rows: &mut impl io::Read, body: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    rows.read_exact(&mut length)?;
    body.clear();
    let length = u64::from(u32::from_ne_bytes(length));
    rows.take(length).read_to_end(body).map(drop)
}

fn malformed() -> Failure {
    Failure::failed("the database sent a row that can't be read")
}

fn unspoolable(error: &io::Error) -> Failure {
    Failure::failed(format!(
        "can't keep the result in {}: {}",
        std::env::temp_dir().display(),
        reason(error)
    ))
    .with_hint("free some space there, or set TMPDIR to a directory that has some")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::Global,
        output::{Format, json::Kind},
    };

    fn body(fields: &[Option<&str>]) -> Vec<u8> {
        let mut body = Vec::new();
        for field in fields {
            match field {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(text) => {
                    body.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
                    body.extend(text.as_bytes());
                }
            }
        }
        body
    }

    #[test]
    fn rows_come_back_as_they_went_in_from_memory_and_from_disk() {
        let output = Output::new(&Global {
            socket: None,
            format: Format::Csv,
            no_color: true,
            quiet: false,
        });
        for count in [0, 3, 2000] {
            let wide = "x".repeat(10_000);
            let mut spool = Spool::new(vec![
                Column {
                    name: "n".into(),
                    kind: Kind::Number,
                },
                Column {
                    name: "t".into(),
                    kind: Kind::Text,
                },
                Column {
                    name: "w".into(),
                    kind: Kind::Text,
                },
            ]);
            let mut expected = "n,t,w\n".to_owned();
            for number in 0..count {
                let number = number.to_string();
                spool
                    .push(&body(&[Some(&number), None, Some(&wide)]))
                    .unwrap();
                expected.push_str(&format!("{number},,{wide}\n"));
            }
            let mut out = Vec::new();
            spool.print(&output, &mut out).unwrap();
            assert!(out == expected.as_bytes(), "{count} rows");
        }
    }

    #[test]
    fn rows_that_were_cut_are_refused() {
        assert!(fields(&[0, 0]).is_err());
        assert!(fields(&[0, 0, 0, 5, b'a']).is_err());
        assert_eq!(&*fields(&[0, 0, 0, 0]).unwrap(), [Some(&b""[..])]);
    }
}
