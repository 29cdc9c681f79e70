use proptest::prelude::*;

use super::*;
use crate::args::Global;

fn output(format: Format) -> Output {
    Output::new(&Global {
        socket: None,
        format,
        no_color: true,
        quiet: false,
    })
}

fn columns(columns: &[(&str, json::Kind)]) -> Vec<Column> {
    columns
        .iter()
        .map(|(name, kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
        })
        .collect()
}

fn printed(format: Format, columns: &[Column], rows: &[Vec<Option<&str>>]) -> String {
    let rows: Vec<Vec<Option<&[u8]>>> = rows
        .iter()
        .map(|row| row.iter().map(|v| v.map(str::as_bytes)).collect())
        .collect();
    let mut widths = Widths::new(columns);
    rows.iter().for_each(|row| widths.see(row));
    let mut out = Vec::new();
    let mut writer = output(format).result_set(columns, widths, &mut out);
    writer.begin().unwrap();
    for row in &rows {
        writer.row(row).unwrap();
    }
    writer.end().unwrap();
    String::from_utf8(out).unwrap()
}

fn sample() -> (Vec<Column>, Vec<Vec<Option<&'static str>>>) {
    (
        columns(&[
            ("id", json::Kind::Number),
            ("name", json::Kind::Text),
            ("name", json::Kind::Text),
            ("doc", json::Kind::Json),
            ("ok", json::Kind::Bool),
        ]),
        vec![
            vec![
                Some("1"),
                Some("a"),
                Some(""),
                Some("{\"x\": 1}"),
                Some("t"),
            ],
            vec![Some("20"), None, Some("two\nlines"), None, None],
        ],
    )
}

#[test]
fn a_table_looks_like_psqls_but_shows_nulls() {
    let (columns, rows) = sample();
    assert_eq!(
        printed(Format::Table, &columns, &rows),
        " id | name | name  |   doc    |  ok
----+------+-------+----------+------
  1 | a    |       | {\"x\": 1} | t
 20 | NULL | two  +| NULL     | NULL
    |      | lines |          |
(2 rows)
"
    );
    assert_eq!(
        printed(Format::Table, &columns[..1], &[]),
        " id\n----\n(0 rows)\n"
    );
    assert_eq!(printed(Format::Table, &[], &[vec![]]), "\n\n\n(1 row)\n");
}

#[test]
fn nothing_in_a_table_moves_the_cursor() {
    let text = printed(
        Format::Table,
        &columns(&[("t", json::Kind::Text)]),
        &[vec![Some("\u{1b}[31mred\tx\r")]],
    );
    assert!(text.contains("\\x1B[31mred     x\\r"), "{text}");
}

#[test]
fn json_is_typed_and_keeps_every_column() {
    let (columns, rows) = sample();
    assert_eq!(
        printed(Format::Json, &columns, &rows),
        "[\n{\"id\":1,\"name\":\"a\",\"name_2\":\"\",\"doc\":{\"x\":1},\"ok\":true},\n\
         {\"id\":20,\"name\":null,\"name_2\":\"two\\nlines\",\"doc\":null,\"ok\":null}\n]\n"
    );
    assert_eq!(printed(Format::Json, &columns, &[]), "[]\n");
    assert_eq!(printed(Format::Json, &[], &[vec![]]), "[\n{}\n]\n");
}

#[test]
fn yaml_says_the_same() {
    let (columns, rows) = sample();
    assert_eq!(
        printed(Format::Yaml, &columns, &rows),
        "- id: 1\n  name: a\n  name_2: \"\"\n  doc: {\"x\":1}\n  ok: true\n\
         - id: 20\n  name: null\n  name_2: \"two\\nlines\"\n  doc: null\n  ok: null\n"
    );
    assert_eq!(printed(Format::Yaml, &columns, &[]), "[]\n");
}

#[test]
fn csv_has_the_heading_as_it_is() {
    let (columns, rows) = sample();
    assert_eq!(
        printed(Format::Csv, &columns, &rows),
        "id,name,name,doc,ok\n1,a,\"\",\"{\"\"x\"\": 1}\",t\n20,,\"two\nlines\",,\n"
    );
}

#[test]
fn statements_without_rows() {
    assert_eq!(output(Format::Table).without_rows(), "");
    assert_eq!(output(Format::Json).without_rows(), "[]\n");
    assert_eq!(output(Format::Csv).without_rows(), "");
}

proptest! {
    #[test]
    fn whatever_the_rows_json_and_yaml_can_be_read_and_agree(
        rows in proptest::collection::vec(
            (proptest::option::of("\\PC{0,12}|[\0-\u{9f}]{0,6}"), proptest::option::of(any::<i64>())), 0..6)
    ) {
        let columns = columns(&[("text", json::Kind::Text), ("number", json::Kind::Number)]);
        let numbers: Vec<_> = rows.iter().map(|(_, n)| n.map(|n| n.to_string())).collect();
        let cells: Vec<_> = rows
            .iter()
            .zip(&numbers)
            .map(|((text, _), number)| vec![text.as_deref(), number.as_deref()])
            .collect();
        let json: serde_json::Value =
            serde_json::from_str(&printed(Format::Json, &columns, &cells)).unwrap();
        let expected = serde_json::Value::Array(
            rows.iter()
                .map(|(text, number)| serde_json::json!({ "text": text, "number": number }))
                .collect(),
        );
        prop_assert_eq!(&json, &expected);
        let yaml: serde_json::Value =
            serde_saphyr::from_str(&printed(Format::Yaml, &columns, &cells)).unwrap();
        prop_assert_eq!(&yaml, &expected);
    }

    #[test]
    fn lines_of_a_table_are_equally_wide(
        rows in proptest::collection::vec("[a-zé寿\t\n]{0,8}", 1..5)
    ) {
        let columns = columns(&[("v", json::Kind::Text), ("end", json::Kind::Text)]);
        let cells: Vec<_> = rows.iter().map(|text| vec![Some(text.as_str()), Some("x")]).collect();
        let text = printed(Format::Table, &columns, &cells);
        let bar = |line: &str| line.find(['|', '+']).map(|at| line[..at].width());
        let mut lines = text.lines();
        let heading = bar(lines.next().unwrap());
        for line in lines.filter(|line| line.contains('x')) {
            prop_assert_eq!(line.rfind('|').map(|at| line[..at].trim_end_matches('+').width()).map(|_| ()), heading.map(|_| ()));
            let position = line.rfind('|').map(|at| line[..at].width());
            prop_assert_eq!(position, heading, "{}", text);
        }
    }
}
