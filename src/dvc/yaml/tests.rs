//! Tables of the rules, and what must hold for any bytes.

use super::*;

/// Writes a value so that types can be told apart.
fn show(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(show).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::BigInt(digits) => format!("{digits}n"),
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::Date(text) => format!("@{text}"),
        Value::List(items) => format!("[{}]", list(items)),
        Value::Tuple(items) => format!("({})", list(items)),
        Value::Set(items) => format!("<{}>", list(items)),
        Value::Map(map) => {
            let entries: Vec<_> = map.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = load(text.as_bytes()).map_or_else(|error| format!("error: {error}"), |value| show(&value));
    assert_eq!(found, expected, "{text:?}");
}

/// Checks where and why a text is refused: `LINE:COLUMN part of the message`.
#[track_caller]
fn fails(text: &str, expected: &str) {
    let error = load(text.as_bytes()).map(|value| show(&value)).expect_err(text);
    let found = format!("{}:{} {}", error.position.line, error.position.column, error.message);
    let (place, message) = expected.split_once(' ').expect("a place and a message");
    assert!(found.starts_with(&format!("{place} ")) && found.contains(message), "{text:?}: {found}");
}

#[test]
fn plain_scalars_have_the_types_of_yaml_1_2() {
    check("[~, null, Null, NULL, '']", r#"[null, null, null, null, ""]"#);
    check("[true, True, TRUE, false, tRUE]", r#"[true, true, true, false, "tRUE"]"#);
    check("[yes, no, on, off, y, n]", r#"["yes", "no", "on", "off", "y", "n"]"#);
    check("[17, +17, -17, 017, 08, 0o17, 0b11, 0xfF, 1_000, -_1]", "[17, 17, -17, 17, 8, 15, 3, 255, 1000, -1]");
    check("[_1, 0o8, 0b2, 0xg, '1']", r#"["_1", "0o8", "0b2", "0xg", "1"]"#);
    check("[1.5, 1., 1e3, 1E-3, .5, -.5, .5e+3, 1_0.5]", "[1.5, 1.0, 1000.0, 0.001, 0.5, -0.5, 500.0, 10.5]");
    check("[.5e3, 1:30, 190:20:30, 1.2.3, e3, .]", r#"[".5e3", "1:30", "190:20:30", "1.2.3", "e3", "."]"#);
    check("[.inf, -.Inf, .NaN, -.nan]", r#"[inf, -inf, NaN, "-.nan"]"#);
    check("[9223372036854775808, -0x8000000000000001]", "[9223372036854775808n, -9223372036854775809n]");
    check("[2020-01-01, 2020-1-1]", r#"[@2020-01-01, "2020-1-1"]"#);
    check("[2020-1-1 1:02:03.5, 2020-01-01t10:00:00Z]", "[@2020-01-01T01:02:03.500000, @2020-01-01T10:00:00+00:00]");
    check(
        "[2020-01-01 10:00:59.9999999, 2020-01-01T10:00:00 -1:30]",
        "[@2020-01-01T10:01:00, @2020-01-01T10:00:00-01:30]",
    );
    fails("a: =", "1:4 `=`");
    fails("a: 2020-13-01", "1:4 date");
    fails("a: 0x_", "1:4 integer");
}

#[test]
fn a_yaml_1_1_directive_switches_the_types() {
    check("%YAML 1.1\n---\n[yes, off, 010, 1:30, 1:30.5, 08]", r#"[true, false, 8, 90, 90.5, "08"]"#);
    check("%YAML 1.2\n---\n[yes, 010]", r#"["yes", 10]"#);
    fails("%YAML 1.3\n---\na", "1:1 version 1.3");
    fails("%YAML 1.1\n%YAML 1.1\n---\na", "2:1 twice");
}

#[test]
fn an_empty_or_false_document_is_an_empty_map() {
    for text in ["", "# nothing\n", "---\n", "null", "0", "false", "''", "[]", "{}", "--- !!set {}"] {
        check(text, "{}");
    }
    check("1", "1");
}

#[test]
fn one_document_only() {
    check("--- 1\n...\n", "1");
    check("a: 1\n...\n# end\n", r#"{"a": 1}"#);
    fails("a: 1\n---\nb: 1\n", "2:1 another");
    fails("a: 1\n...\n---\n", "3:1 another");
    fails("a\n... b", "2:5 only a comment");
    fails("...", "1:1 `...`");
}

#[test]
fn tabs_separate_nothing_outside_of_quotes_and_brackets() {
    fails("a: b\tc", "1:5 tab");
    fails("a:\tb", "1:3 tab");
    fails("\ta: b", "1:1 tab");
    fails("a: b\t# c", "1:5 tab");
    check("a: [\tb,\t'c\td']", r#"{"a": ["b", "c\td"]}"#);
    check("a: |\n  b\tc\n", r#"{"a": "b\tc\n"}"#);
}

#[test]
fn characters_and_line_ends() {
    check("\u{FEFF}a: 1\r\nb: 2\rc: 3", r#"{"a": 1, "b": 2, "c": 3}"#);
    check("a: 'é\u{85}漢 🚀'", r#"{"a": "é 漢 🚀"}"#);
    fails("a: b\u{7f}", "1:5 U+007F");
    fails("é: 1\nb: \u{1}", "2:4 U+0001");
    let error = load(b"a: 1\nb: \xff").expect_err("not UTF-8");
    assert_eq!((error.position, error.message.as_str()), (Position { line: 2, column: 4 }, "not valid UTF-8"));
}

#[test]
fn scalars_fold() {
    check("a: b\n  c\n\n  d\n", r#"{"a": "b c\nd"}"#);
    check("'a\n b\n\n c '", r#""a b\nc ""#);
    check(
        r#""a\x41\u00e9\t\
   b""#,
        r#""aAé\tb""#,
    );
    check("a: |-\n  b\n   c\nd: >+\n  e\n  f\n\n", r#"{"a": "b\n c", "d": "e f\n\n"}"#);
    check("--- |\na\nb\n...\n", r#""a\nb\n""#);
    check("a: |2\n   b\n", r#"{"a": " b\n"}"#);
    fails("a: 'b", "1:4 does not end");
    fails(r#"a: "\q""#, "1:5 escape");
    fails(r#"a: "\ud800""#, "1:5 not a character");
    fails("a: |0\n b", "1:5 1 to 9");
}

#[test]
fn flow_context_has_rules_of_its_own() {
    check("[a:b, c: d, ? e : f, {g: 1, h}]", r#"["a:b", {"c": "d"}, {"e": "f"}, {"g": 1, "h": null}]"#);
    check(r#"{"a":1, b:1, : c}"#, r#"{"a": 1, "b:1": null, null: "c"}"#);
    fails("deps: [${x}]", "1:9 `,` or `]`");
    fails("a: [b", "1:6 end of the file");
    check("a: ${x}", r#"{"a": "${x}"}"#);
}

#[test]
fn duplicate_keys_compare_like_python() {
    fails("a: 1\nb: 2\na: 3\n", "3:1 first given in line 1");
    fails("1: a\ntrue: b\n", "2:1 duplicate");
    fails("1: a\n1.0: b\n", "2:1 duplicate");
    fails(".nan: a\n.NaN: b\n", "2:1 duplicate");
    check("1: a\n'1': b\n", r#"{1: "a", "1": "b"}"#);
    check("x: {a: 1, a: 2, <<: {b: 1}}", r#"{"x": {"b": 1, "a": 2}}"#);
    check("<<: {}\na: 1\n", r#"{"a": 1}"#);
    fails("<<: {}\na: 1\na: 2\n", "3:1 duplicate");
}

#[test]
fn merge_keys_come_first_and_the_last_mapping_before_the_others() {
    let bases = "a: &a {k1: a1, k2: a2}\nb: &b {k2: b2, k3: b3}\nm:";
    let check = |merge: &str, expected: &str| {
        let value = load(format!("{bases} {merge}\n").as_bytes()).expect(merge);
        assert_eq!(show(value.get("m").expect("the map")), expected, "{merge}");
    };
    check("{own: 1, <<: [*a, *b]}", r#"{"k2": "a2", "k3": "b3", "k1": "a1", "own": 1}"#);
    check("{<< : *a, k2: own}", r#"{"k1": "a1", "k2": "own"}"#);
    check("{<<: {<<: *a, x: 1}, y: 2}", r#"{"k1": "a1", "k2": "a2", "x": 1, "y": 2}"#);
    check("{'<<': 1}", r#"{"<<": 1}"#);
}

#[test]
fn only_maps_merge_and_only_once() {
    fails("<<: 3", "1:5 merged");
    fails("<<: [{a: 1}, b]", "1:14 merged");
    fails("<<: {a: 1}\n<<: {b: 1}", "2:1 second merge key");
    check("<<: {}\n<<: {b: 1}", r#"{"b": 1}"#);
}

#[test]
fn anchors_and_aliases() {
    check("- &x {a: 1}\n- *x\n- &x 2\n- *x\n", r#"[{"a": 1}, {"a": 1}, 2, 2]"#);
    check("a: &x b\n*x : c\n", r#"{"a": "b", "b": "c"}"#);
    fails("a: *x", "1:4 `*x`");
    fails("a: &x [*x]", "1:4 contains itself");
    fails("a: &x [1]\n? *x\n: b\n", "1:4 used as a key");
}

#[test]
fn tags() {
    check("[!!str 1, !!int '3', !!float 1, !!bool yes, !!null x, ! '1']", r#"["1", 3, 1.0, true, null, 1]"#);
    check("!!binary aGVsbG8=", r#"b"hello""#);
    check(
        "[!!set {a, b}, !!omap [a: 1, b: 2], !!pairs [a: 1, a: 2]]",
        r#"[<"a", "b">, {"a": 1, "b": 2}, [("a", 1), ("a", 2)]]"#,
    );
    check("%TAG !e! tag:yaml.org,2002:\n---\n[!e!str 1, !<tag:yaml.org,2002:str> 2]", r#"["1", "2"]"#);
    fails("a: !foo 1", "1:4 `!foo` is unknown");
    fails("a: !!python/tuple [1]", "1:4 unknown");
    fails("a: !e!str 1", "1:4 `!e!` is not defined");
    fails("a: !!binary aGVsbG8", "1:4 base64");
    fails("a: !!map [1]", "1:4 collection");
}

#[test]
fn keys_may_be_scalars_and_lists_of_scalars() {
    check("? [1, b]\n: c\n", r#"{(1, "b"): "c"}"#);
    check("~: a\n1.5: b\n", r#"{null: "a", 1.5: "b"}"#);
    fails("? {a: 1}\n: b", "1:3 cannot be a key");
    fails("? [[a]]\n: b", "1:3 cannot be a key");
    check(&format!("{}: 1", "k".repeat(1024)), &format!(r#"{{"{}": 1}}"#, "k".repeat(1024)));
    fails(&format!("{}: 1", "k".repeat(1025)), "1:1026 a map value cannot start here");
    fails(&format!("a: 1\n{}: 1", "k".repeat(1025)), "2:1 within 1024");
    check(&format!("? {}\n: 1", "k".repeat(2000)), &format!(r#"{{"{}": 1}}"#, "k".repeat(2000)));
}

#[test]
fn nodes_and_keys_know_their_places() {
    let root = parse("a:\n  é: &x [1, {b: 2}]\nc: *x\n".as_bytes()).expect("YAML");
    let place = |position: Position| (position.line, position.column);
    let a = root.get("a").expect("a");
    assert_eq!((place(a.key_position), place(a.node.position)), ((1, 1), (2, 3)));
    let list = a.node.get("é").expect("é");
    assert_eq!((place(list.key_position), place(list.node.position)), ((2, 3), (2, 6)));
    let items = list.node.as_list().expect("a list");
    assert_eq!(place(items[1].get("b").expect("b").node.position), (2, 17));
    let alias = root.get("c").expect("c");
    assert_eq!((place(alias.key_position), place(alias.node.position)), ((3, 1), (2, 6)));
}

#[test]
fn nesting_has_a_limit() {
    let flow = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let block = |depth: usize| format!("{}x", "- ".repeat(depth));
    let pairs = |depth: usize| format!("{}{}", "[a: ".repeat(depth), "]".repeat(depth));
    assert!(load(flow(MAX_DEPTH).as_bytes()).is_ok());
    assert!(load(block(MAX_DEPTH - 1).as_bytes()).is_ok());
    for depth in [MAX_DEPTH + 1, 100_000] {
        for text in [flow(depth), block(depth), pairs(depth), "[".repeat(depth), "? ".repeat(depth)] {
            let error = load(text.as_bytes()).expect_err("too deep");
            assert!(error.message.contains("deeper than"), "{error}");
        }
    }
    let links = (1..1000).map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1));
    let chain: String = std::iter::once("a0: &a0 [x]\n".to_owned()).chain(links).collect();
    assert!(load(chain.as_bytes()).expect_err("too deep").message.contains("deeper than"));
}

#[test]
fn alias_and_merge_bombs_are_refused() {
    let bomb = |seed: &str, level_text: fn(&str) -> String| {
        let levels = (1..40).map(|level| format!("a{level}: &a{level} {}\n", level_text(&format!("*a{}", level - 1))));
        std::iter::once(format!("a0: &a0 {seed}\n")).chain(levels).collect::<String>()
    };
    let lists = bomb("[x]", |alias| format!("[{}]", [alias; 10].join(", ")));
    let merges = bomb("{x: 1}", |alias| format!("{{<<: [{alias}, {alias}]}}"));
    for bomb in [lists, merges] {
        let error = load(bomb.as_bytes()).expect_err("a bomb");
        assert!(error.message.contains("aliases expand"), "{error}");
    }
}

mod any_text {
    use proptest::prelude::*;

    use super::load;

    proptest! {
        #[test]
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(load(&bytes));
        }

        #[test]
        fn never_panics_on_what_looks_like_yaml(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)
        ) {
            drop(load(pieces.concat().as_bytes()));
        }
    }

    const PIECES: &[&str] = &[
        "a",
        "b",
        "1",
        "1.5",
        "~",
        "true",
        "é",
        " ",
        "  ",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "\t",
        ": ",
        ":",
        "- ",
        "-",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ", ",
        "'",
        "\"",
        "\\",
        "#",
        " #",
        "|",
        ">",
        "|2",
        "|-\n",
        ">+\n",
        "&a ",
        "*a",
        "<<: ",
        "<<: *a\n",
        "!",
        "!!str ",
        "!!set ",
        "!!binary ",
        "!<",
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "---",
        "\n---\n",
        "\n...\n",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "2020-01-01",
        "=",
        "\\x4",
        "%41",
        "\r\n",
        "\u{7f}",
    ];
}
