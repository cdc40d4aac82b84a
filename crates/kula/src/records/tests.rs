//! Properties of all formats: what is written reads back the same; no bytes make a reader panic, hang or hold much.

use super::*;
use proptest::prelude::*;
use std::io::BufReader;

/// Everything a reader says: records, and what it refused.
fn read_all(bytes: &[u8], format: Format, key: Option<&str>) -> (Vec<Record>, Vec<String>) {
    // A small buffer: lines span its ends.
    let mut reader = Reader::new(BufReader::with_capacity(7, bytes), format, key);
    let (mut records, mut faults) = (Vec::new(), Vec::new());
    loop {
        let before = reader.offset();
        match reader.next() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, faults),
            Err(fault) => {
                let goes_on = fault.is_of_one_record();
                faults.push(fault.to_string());
                if !goes_on {
                    return (records, faults);
                }
            }
        }
        assert!(reader.offset() > before, "each step reads something");
    }
}

/// `line key value`, a line each, then the faults.
fn story(text: &str, format: Format, key: Option<&str>) -> String {
    let (records, faults) = read_all(text.as_bytes(), format, key);
    let record = |record: &Record| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let content_type =
            if record.content_type == value::JSON { String::new() } else { format!(" {}", record.content_type) };
        format!("{} {:?}{content_type} {}", record.line, text(&record.key), text(&record.value))
    };
    let records = records.iter().map(record);
    records.chain(faults.into_iter().map(|fault| format!("refused: {fault}"))).collect::<Vec<_>>().join("\n")
}

fn write_all(records: &[Record], format: Format, key: Option<&str>) -> Result<Vec<u8>, Unfit> {
    let mut writer = Writer::new(format, key);
    let stored = |record: &'_ Record| {
        // What is read of a table borrows from it as this does.
        (record.key.clone(), record.value.clone(), record.content_type.to_string())
    };
    let all: Vec<_> = records.iter().map(stored).collect();
    for (key, value, content_type) in &all {
        writer.look_at(Stored { key, value, content_type })?;
    }
    let mut out = Vec::new();
    writer.head(&mut out);
    for (key, value, content_type) in &all {
        writer.write(Stored { key, value, content_type }, &mut out)?;
    }
    Ok(out)
}

fn same(records: &[Record], again: &[Record]) -> bool {
    let told = |record: &Record| (record.key.clone(), record.value.clone(), record.content_type.to_string());
    records.iter().map(told).eq(again.iter().map(told))
}

const INDEX: &str = "\u{feff}# made by hand\r\n\r\nPackage: alpha\r\nVersion: 1.0-1\r\nDescription: short text\r\n a longer one\r\n .\r\n  indented\r\n\
# a comment within\r\nTag:\r\n a::b,\r\n c::d\r\n \t\r\n\n\nPackage:\tbeta\nVersion: 2:0~rc1\nSize: 7";

#[test]
fn a_package_index_is_read_as_debian_writes_it() {
    insta::assert_snapshot!(story(INDEX, Format::Deb822, Some("package")));
    assert_eq!(
        story("A: 1\r\r\n b\rc\r\r\n \r\r\nB: 2", Format::Deb822, Some("a")).lines().next(),
        Some("1 \"1\\nb\\rc\" {\"A\":\"1\\nb\\rc\"}")
    );
}

#[test]
fn what_is_no_stanza_is_passed_over_to_its_end() {
    let index = " continues nothing\nPackage: a\n\nPackage: b\nno colon here\nX: 1\n\nPackage: c\npackage: d\n\n\
        -Opt: 1\n\nVersion: 1\n\nPackage:\n\nA b: 1\n\nPackage: good\n";
    insta::assert_snapshot!(story(index, Format::Deb822, Some("Package")));
}

#[test]
fn a_line_of_json_is_the_value_character_for_character() {
    let lines = "\u{feff}{\"id\":\"a\", \"n\":1.50, \"deep\":{\"id\":\"no\"}, \"t\":\"\\u00e9\"}\r\n\n  {\"n\":1e3,\"id\":12345678901234567890123}  \n\
        {\"id\":\"b\"}";
    insta::assert_snapshot!(story(lines, Format::Jsonl, Some("id")));
}

#[test]
fn what_stands_before_a_value_is_taken_out_of_the_line() {
    let lines = "{\"_key\":\"a\",\"Package\":\"x\",\"_key\":\"mine\"}\n{\"_key\":\"b\" , \"n\":1}\n{\"_key\":\"c\"}\n\
        {\"_key\":\"d\",\"_type\":\"text/plain\",\"_text\":\"one\\ntwo\"}\n{\"_key_base64url\":\"_wA\",\"_base64\":\"AAE=\"}\n\
        {\"_key\":\"e\",\"_type\":\"text/json\",\"n\":1}\n{\"_key\":\"f\",\"_text\":\"x\",\"n\":1}\n{\"_key\":\"g\",\"_base64\":\"%\"}\n\
        {\"n\":1,\"_key\":\"too late\"}\n{\"_key\":\"\"}";
    insta::assert_snapshot!(story(lines, Format::Jsonl, None));
    // The same lines with a key that is named: what stands before is taken out all the same.
    assert_eq!(story("{\"_key\":\"a\",\"id\":\"b\"}", Format::Jsonl, Some("id")), "1 \"b\" {\"id\":\"b\"}");
    // Unless it is what was named.
    assert_eq!(story("{\"_key\":\"a\",\"n\":1}", Format::Jsonl, Some("_key")), "1 \"a\" {\"_key\":\"a\",\"n\":1}");
}

#[test]
fn what_is_no_object_is_refused_with_its_line() {
    let lines = "[1]\n{\"id\":1}x\n{\"id\":1\n{\"id\":\"a\",\"id\":\"b\"}\n{\"x\":1}\n\"text\"\n{\"id\":\"\\ud800\"}\n{\"id\":null}\n{\"id\":[1]}\n{\"id\":\"good\"}\n";
    insta::assert_snapshot!(story(lines, Format::Jsonl, Some("id")));
}

#[test]
fn a_csv_is_read_as_rfc_4180_has_it() {
    let table = "id,name,\"a \"\"b\"\"\"\r\n1,\"x, y\",\r\n\r\n2,\"two\nlines\",\"\"\n3,pl\"ain,z\n\"4\",,";
    insta::assert_snapshot!(story(table, Format::Csv, Some("id")));
    assert_eq!(story("_key,n\na,1\n", Format::Csv, None), "2 \"a\" {\"n\":\"1\"}");
}

#[test]
fn a_csv_that_does_not_fit_its_columns_is_refused_with_its_line() {
    let table = "id,n\n1\n2,x,y\n3,\"x\"y\n4,a\rb\n,5\n6,good\n7,\"never closed\n8,x\n";
    insta::assert_snapshot!(story(table, Format::Csv, Some("id")));
    for (table, key) in
        [("id,id\n1,2\n", Some("id")), ("id,\n1,2\n", Some("id")), ("a,b\n1,2\n", Some("id")), ("a,b\n1,2\n", None)]
    {
        let told = story(table, Format::Csv, key);
        assert!(told.starts_with("refused: line 1: ") && !told.contains('\n'), "{told}");
    }
    assert_eq!(story("", Format::Csv, Some("id")), "");
}

#[test]
fn a_record_without_end_is_passed_over() {
    let long = "x".repeat(limits::RECORD_BYTES_MAX + 1);
    let (line, stanza) = (format!("{{\"id\":\"{long}\"}}\n{{\"id\":\"b\"}}"), format!("A: {long}\nB: 1\n\nA: b\n"));
    let (table, many) = (format!("id\n\"{long}\nb\n"), format!("{}\n\nA: b\n", "A: 1\n".repeat(3)));
    for (text, format, key) in [
        (&line, Format::Jsonl, "id"),
        (&stanza, Format::Deb822, "A"),
        (&table, Format::Csv, "id"),
        (&many, Format::Deb822, "A"),
    ] {
        let (records, faults) = read_all(text.as_bytes(), format, Some(key));
        assert_eq!((records.len(), faults.len()), (1, 1), "{format}");
        assert_eq!(records[0].key, b"b", "{format}");
    }
    let key = format!("{{\"id\":\"{}\"}}", "k".repeat(limits::KEY_BYTES_MAX + 1));
    assert!(story(&key, Format::Jsonl, Some("id")).contains("the key is more than 4096 bytes"));
    let value = format!("{{\"id\":\"a\",\"v\":\"{}\"}}", "v".repeat(limits::VALUE_BYTES_MAX));
    assert!(story(&value, Format::Jsonl, Some("id")).contains("the record is more than 8388608 bytes"));
}

#[test]
fn a_table_may_leave_as_any_format_and_come_back() {
    let (records, faults) = read_all(INDEX.as_bytes(), Format::Deb822, Some("Package"));
    assert!(faults.is_empty());
    for format in [Format::Jsonl, Format::Csv, Format::Deb822] {
        for key in [None, Some("Package")] {
            let written = write_all(&records, format, key).unwrap();
            let (again, faults) = read_all(&written, format, key);
            assert_eq!(faults, [""; 0], "{format}");
            // A csv has the fields in its columns' order.
            let ordered = |records: &[Record]| {
                let value = |record: &Record| serde_json::from_slice::<serde_json::Value>(&record.value).unwrap();
                records.iter().map(value).collect::<Vec<_>>()
            };
            assert!(
                same(&records, &again) || (format == Format::Csv && ordered(&records) == ordered(&again)),
                "{format}"
            );
            assert_eq!(write_all(&again, format, key).unwrap(), written, "{format}: once more changes nothing");
        }
    }
    insta::assert_snapshot!(String::from_utf8(write_all(&records, Format::Deb822, Some("Package")).unwrap()).unwrap());
    insta::assert_snapshot!(String::from_utf8(write_all(&records, Format::Csv, None).unwrap()).unwrap());
}

#[test]
fn what_a_format_cannot_hold_is_refused_by_name() {
    let object = |value: &str| Record {
        line: 1,
        key: b"k".to_vec(),
        value: value.as_bytes().to_vec(),
        content_type: Cow::Borrowed(value::JSON),
    };
    let told =
        |record: &Record, format, key| write_all(std::slice::from_ref(record), format, key).unwrap_err().to_string();
    let told: Vec<String> = vec![
        told(&object("[1]"), Format::Csv, None),
        told(&Record { content_type: Cow::Borrowed("text/plain"), ..object("{}") }, Format::Deb822, None),
        told(&Record { key: vec![255], ..object("{}") }, Format::Csv, None),
        told(&object("{\"a b\":\"1\"}"), Format::Deb822, None),
        told(&object("{\"a\":\"1\\n\\n2\"}"), Format::Deb822, None),
        told(&object("{\"a\":\" 1\"}"), Format::Deb822, None),
        told(&object("{\"a\":\"1\\r\"}"), Format::Deb822, None),
        told(&object("{\"a\":1,\"a\":2}"), Format::Csv, None),
        told(&object("{\"a\":1,\"A\":2}"), Format::Deb822, None),
        told(&object("{\"_key\":1}"), Format::Csv, None),
        told(&object("{\"a\":\"1\"}"), Format::Csv, Some("id")),
        told(&object("{\"id\":\"other\"}"), Format::Jsonl, Some("id")),
        told(&object("{\"id\":\n\"k\"}"), Format::Jsonl, Some("id")),
        told(&object("[\"k\"]"), Format::Jsonl, Some("id")),
    ];
    insta::assert_snapshot!(told.join("\n"));
    let mut writer = Writer::new(Format::Csv, None);
    let numbers = Stored { key: b"k", value: b"{\"a\":1,\"b\":[2],\"c\":\"3\"}", content_type: value::JSON };
    writer.look_at(numbers).unwrap();
    let mut out = Vec::new();
    writer.write(numbers, &mut out).unwrap();
    assert_eq!((String::from_utf8(out).unwrap().as_str(), writer.turned_to_text), ("k,1,[2],3\n", 2));
}

#[test]
fn a_name_says_the_format() {
    let of = |name: &str| Format::of(Path::new(name));
    for name in ["a.deb822", "Packages", "x_binary-amd64_Packages", "lists/b.DEB822"] {
        assert_eq!(of(name), Some(Format::Deb822), "{name}");
    }
    assert_eq!(
        [of("a.jsonl"), of("a.ndjson"), of("a.csv")],
        [Some(Format::Jsonl), Some(Format::Jsonl), Some(Format::Csv)]
    );
    assert_eq!([of("-"), of("a.json"), of("a.csv.gz"), of("")], [None; 4]);
}

/// Text with everything that formats use.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z ,\"'\\\\{}:#.\t]{0,12}",
        2 => "\\PC{0,8}",
        1 => "[ab\n\r,\"]{0,8}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[A-Z][a-z-]{0,8}", 1 => "_[a-z0-9]{1,6}", 1 => text()]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), lines in text()) {
        for format in [Format::Jsonl, Format::Csv, Format::Deb822] {
            for key in [None, Some("a")] {
                read_all(&bytes, format, key);
                read_all(lines.as_bytes(), format, key);
            }
        }
    }

    #[test]
    fn lines_of_formats_are_read_without_panic(parts in proptest::collection::vec(prop_oneof![
        Just("a: b\n"), Just(" c\n"), Just("\n"), Just("a,b\n"), Just("\"x\n"), Just("\"\"y\"\n"), Just("{\"a\":1}\n"),
        Just("{\"_key\":\"k\",\"_type\":\"t\",\"_text\":\"\\n\"}\n"), Just("\r\n"), Just("#\n"), Just("1,\"2\"\n"), Just("{"),
    ], 0..30)) {
        let text = parts.concat();
        for format in [Format::Jsonl, Format::Csv, Format::Deb822] {
            for key in [None, Some("a"), Some("_key")] {
                read_all(text.as_bytes(), format, key);
            }
        }
    }

    /// jsonl takes any table: whatever stands under whatever key comes back.
    #[test]
    fn jsonl_gives_back_any_value(
        key in proptest::collection::vec(any::<u8>(), 1..20),
        value in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            text().prop_map(String::into_bytes),
            (name(), text()).prop_map(|(name, text)| serde_json::json!({ name: text, "n": 1.5 }).to_string().into_bytes()),
            (name(), text()).prop_map(|(name, text)| format!("{:#}", serde_json::json!({ name: text })).into_bytes()),
            Just(b"{}".to_vec()), Just(b"{ }".to_vec()), Just(b"{ \"a\":1}".to_vec()), Just(b"{\"_type\":1}".to_vec()),
            Just(b" {}".to_vec()), Just(b"{\"_key\":2}".to_vec()), Just(b"{\"_text\":\"x\",\"a\":1}".to_vec()),
        ],
        content_type in prop_oneof![Just("application/json"), Just("application/octet-stream"), Just("text/plain")],
    ) {
        let record = Record { line: 1, key, value, content_type: Cow::Borrowed(content_type) };
        let all = [record.clone(), record];
        let written = write_all(&all, Format::Jsonl, None).unwrap();
        let (again, faults) = read_all(&written, Format::Jsonl, None);
        prop_assert_eq!(faults, Vec::<String>::new());
        prop_assert!(same(&all, &again), "{}", String::from_utf8_lossy(&written));
        prop_assert_eq!(written.iter().filter(|&&byte| byte == b'\n').count(), 2);
    }

    /// Records of plain fields come back from every format, or are refused.
    #[test]
    fn fields_come_back_or_are_refused(fields in proptest::collection::vec((name(), text()), 0..6), key in "[a-z]{1,6}") {
        let record = Record {
            line: 1,
            key: key.into_bytes(),
            value: value::object(&fields),
            content_type: Cow::Borrowed(value::JSON),
        };
        for format in [Format::Csv, Format::Deb822] {
            let Ok(written) = write_all(std::slice::from_ref(&record), format, None) else { continue };
            let (again, faults) = read_all(&written, format, None);
            prop_assert_eq!(faults, Vec::<String>::new());
            prop_assert!(same(std::slice::from_ref(&record), &again), "{}: {}", format, String::from_utf8_lossy(&written));
        }
    }

    /// A record that was read goes out and comes back through its own format, always.
    #[test]
    fn what_was_read_is_written_and_read_again(lines in proptest::collection::vec((name(), text()), 1..8)) {
        let stanza: String = lines.iter().map(|(name, text)| format!("{name}: {}\n", text.replace('\n', "\n "))).collect();
        let row = |cells: Vec<&String>| cells.into_iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
        let names = lines.iter().map(|(name, _)| name).collect();
        let table = format!("_key,{}\nk,{}\n", row(names), row(lines.iter().map(|(_, text)| text).collect()));
        for (text, format, key) in [(stanza, Format::Deb822, Some(lines[0].0.as_str())), (table, Format::Csv, None)] {
            let (records, _) = read_all(text.as_bytes(), format, key);
            // With the key that it was read by, or with one beside it.
            let Ok(written) = write_all(&records, format, None) else {
                // A field of the file's own that is called _key.
                prop_assert!(lines.iter().any(|(name, _)| name.eq_ignore_ascii_case(value::KEY)), "{}", text);
                continue;
            };
            let (again, faults) = read_all(&written, format, None);
            prop_assert_eq!(faults, Vec::<String>::new());
            prop_assert!(same(&records, &again), "{}", String::from_utf8_lossy(&written));
        }
    }
}
