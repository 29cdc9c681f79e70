//! CSV by RFC 4180, with line feeds as Unix tools want them. As in PostgreSQL's own CSV, a
//! null is an empty field and an empty text a quoted one, which no CSV crate can write.

use std::io::{self, Write};

/// Writes one line. `None` is a null.
///
/// # Errors
/// Those of `out`.
pub(crate) fn line<'a>(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = Option<&'a [u8]>>,
) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if let Some(field) = field {
            write_field(out, field)?;
        }
    }
    out.write_all(b"\n")
}

fn write_field(out: &mut impl Write, field: &[u8]) -> io::Result<()> {
    let needs_quotes = field.is_empty() || field.iter().any(|byte| b",\"\r\n".contains(byte));
    if !needs_quotes {
        return out.write_all(field);
    }
    out.write_all(b"\"")?;
    for (index, part) in field.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            out.write_all(b"\"\"")?;
        }
        out.write_all(part)?;
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(fields: &[Option<&str>]) -> String {
        let mut out = Vec::new();
        line(&mut out, fields.iter().map(|f| f.map(str::as_bytes))).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nulls_and_empty_texts_differ() {
        assert_eq!(written(&[None, Some(""), Some("a")]), ",\"\",a\n");
        assert_eq!(
            written(&[Some("a,b"), Some("say \"hi\""), Some("two\nlines")]),
            "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\n"
        );
    }

    proptest! {
        #[test]
        fn a_csv_reader_gets_back_what_was_written(
            rows in (1_usize..5).prop_flat_map(|columns| proptest::collection::vec(
                proptest::collection::vec("[ -~\r\n\"é,;]{0,12}", columns), 1..6))
        ) {
            let mut out = Vec::new();
            for row in &rows {
                line(&mut out, row.iter().map(|f| Some(f.as_bytes()))).unwrap();
            }
            let mut reader = ::csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(out.as_slice());
            let read: Vec<Vec<String>> = reader
                .records()
                .map(|record| record.unwrap().iter().map(str::to_owned).collect())
                .collect();
            prop_assert_eq!(read, rows);
        }
    }
}
