//! Tables of the formats' rules. YAML has its own.

use super::*;
use crate::dvc::python_text::repr;

#[track_caller]
fn check(path: &str, text: &str, expected: &str) {
    let found = load(path, text.as_bytes()).map_or_else(|error| format!("error: {error}"), |value| repr(&value));
    assert_eq!(found, expected, "{text}");
}

/// Checks where and why a text is refused: `LINE:COLUMN part of the message`.
#[track_caller]
fn fails(path: &str, text: &str, expected: &str) {
    let error = load(path, text.as_bytes()).expect_err(text);
    let found = format!("{}:{} {}", error.position.line, error.position.column, error.message);
    let (place, message) = expected.split_once(' ').expect("a place and a message");
    assert!(found.starts_with(&format!("{place} ")) && found.contains(message), "{text:?}: {found}");
}

#[test]
fn the_extension_starts_at_the_first_dot() {
    let format = |path: &str| Format::of(path).name();
    assert_eq!(format("params.json"), "JSON");
    assert_eq!(format("a.b/params.JSON"), "JSON");
    assert_eq!(format(".json"), "JSON");
    assert_eq!(format("my.params.json"), "YAML");
    assert_eq!(format("p.toml"), "TOML");
    assert_eq!(format("p.Py"), "Python");
    for path in ["params.yaml", "params.yml", "json", "params", "p."] {
        assert_eq!(format(path), "YAML");
    }
}

#[test]
fn an_empty_or_false_file_is_an_empty_map() {
    for (path, text) in [("p.json", "[]"), ("p.json", " 0 "), ("p.toml", ""), ("p.py", "\n"), ("p.yaml", "")] {
        check(path, text, "{}");
    }
    fails("p.json", "", "1:1 expected a value");
}

#[test]
fn json_is_pythons() {
    check("p.json", r#"{"a": [1, -0, 1.5, 1e3, true, null]}"#, "{'a': [1, 0, 1.5, 1000.0, True, None]}");
    check("p.json", "[NaN, Infinity, -Infinity, 1e999]", "[nan, inf, -inf, inf]");
    check("p.json", "[123456789012345678901234567890]", "[123456789012345678901234567890]");
    check("p.json", r#"{"a": 1, "b": 2, "a": 3}"#, "{'a': 3, 'b': 2}");
    check("p.json", r#""\u00e9\ud83d\ude80\n\/""#, r"'é🚀\n/'");
    fails("p.json", "{\n \"a\": 01}", "2:8 `}`");
    fails("p.json", "[1,]", "1:4 expected a value");
    fails("p.json", "{\"a\" 1}", "1:6 `:`");
    fails("p.json", "{'a': 1}", "1:2 double quotes");
    fails("p.json", "1 2", "1:3 end of the file");
    fails("p.json", "\u{feff}1", "1:1 expected a value");
    fails("p.json", "\"a\tb\"", "1:3 control character");
    fails("p.json", r#""\ud800""#, "1:2 not a character");
    fails("p.json", "\"a", "1:1 does not end");
    fails("p.json", &"[".repeat(100_000), "1:202 nest deeper");
}

#[test]
fn toml_keeps_order_and_dates() {
    check("p.toml", "b = 1\na = [1.5, 'x']\n[t.u]\nk = true\n", "{'b': 1, 'a': [1.5, 'x'], 't': {'u': {'k': True}}}");
    check("p.toml", "[t.u]\n[b]\n[t]\nk = 1\n", "{'t': {'u': {}, 'k': 1}, 'b': {}}");
    check("p.toml", "a = 0xFF\nb = 99999999999999999999\nc = -1_0", "{'a': 255, 'b': 99999999999999999999, 'c': -10}");
    check(
        "p.toml",
        "a = 1979-05-27\nb = 1979-05-27 07:32:00.1234567Z\nc = 07:32:00\nd = 1979-05-27T07:32:00-07:30",
        "{'a': 1979-05-27, 'b': 1979-05-27 07:32:00.123456+00:00, 'c': 07:32:00, 'd': 1979-05-27 07:32:00-07:30}",
    );
    fails("p.toml", "a = 1\nb = \n", "2:5 ");
    fails("p.toml", "a = 1\na = 2\n", "2:1 duplicate");
}

#[test]
fn python_assignments_of_literals_count() {
    let check = |text: &str, expected: &str| check("p.py", text, expected);
    check("a = 1\nb: float = 1e-3  # c\nc = -0x1_0; d = 'x' \"y\"\n", "{'a': 1, 'b': 0.001, 'c': -16, 'd': 'xy'}");
    check("a = (1, [2, {'k': None}], {3}, ())", "{'a': (1, [2, {'k': None}], {3}, ())}");
    check("a = 1, 2\nb = (1)\nc = set()\nself.d = True", "{'a': (1, 2), 'b': 1, 'c': set(), 'd': True}");
    check("a = [\n  1,  # one\n  2,\n]\nb = \\\n  3\n", "{'a': [1, 2], 'b': 3}");
    check(
        r#"a = "\x41\101\u00e9\q\
b"; b = r'\n'; c = b'\xff'; d = """x
y'"""; e = u'z'"#,
        r#"{'a': 'AAé\\qb', 'b': '\\n', 'c': b'\xff', 'd': "x\ny'", 'e': 'z'}"#,
    );
    check("a = {1: 'x', True: 'y'}", "{'a': {1: 'y'}}");
}

#[test]
fn python_classes_are_maps_and_init_belongs_to_them() {
    let text = "
class A(Base, metaclass=M):
    '''doc'''
    x = 1
    class B: y = 2; z = 3
    def __init__(self, a: int = 1) -> None:
        local = 4
        self.q: int = 5
        if a:
            self.r = 6
    def other(self):
        self.s = 7
";
    check("p.py", text, "{'A': {'x': 1, 'B': {'y': 2, 'z': 3}, 'q': 5}}");
}

#[test]
fn python_that_is_no_literal_is_skipped() {
    let text = "
import os
a = b = 1
c = 1 + 2
d = f'{a}'
e = os.environ
f: int
g, h = 1, 2
i += 1
j = [k for k in x]
k = 1j
l = {**d}
if a:
    m = 1
else: n = 2
match a:
    case 1:
        o = 1
@decorated
def p(q=1): r = 1
s = 1 if a else 2
t = 3
";
    check("p.py", text, "{'t': 3}");
}

#[test]
fn python_tokens_and_blocks_have_to_be_right() {
    fails("p.py", "a = [1\nb = 2\n", "3:1 not closed");
    fails("p.py", "a = 1)\n", "1:6 closes none");
    fails("p.py", "a = 'x\n", "1:5 does not end");
    fails("p.py", "  a = 1\n", "1:3 unexpected indentation");
    fails("p.py", "class A:\na = 1\n", "2:1 indented block");
    fails("p.py", "if a:\n    b = 1\n  c = 2\n", "3:3 unindent");
    fails("p.py", "a = 017\n", "1:5 not a number");
    fails("p.py", "a = {[1]: 2}\n", "1:6 cannot be a key");
    fails("p.py", "a = ?\n", "1:5 unexpected character");
    fails("p.py", "a =\n", "1:1 behind `=`");
    fails("p.py", &format!("a = {}", "[".repeat(100_000)), "1:205 too many open brackets");
}

mod any_text {
    use proptest::prelude::*;

    use super::load;

    proptest! {
        #[test]
        fn never_panics(
            path in prop::sample::select(&["p.json", "p.toml", "p.py"]),
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)
        ) {
            drop(load(path, pieces.concat().as_bytes()));
        }
    }

    const PIECES: &[&str] = &[
        "a",
        "b",
        "é",
        "1",
        "0x",
        "1.5e",
        "1e5",
        "-",
        "+",
        ".",
        "_",
        " ",
        "\n",
        "\n    ",
        "\t",
        "\r\n",
        "=",
        ":",
        ",",
        ";",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "'",
        "\"",
        "\"\"\"",
        "\\",
        "\\u",
        "\\ud83d",
        "\\x4",
        "#",
        "b'",
        "rb\"",
        "class ",
        "def ",
        "__init__",
        "self.",
        "if ",
        "set()",
        "None",
        "null",
        "NaN",
        "-Infinity",
        "[t]\n",
        "[[t]]\n",
        "1979-05-27",
        "T07:32:00",
        "Z",
        "@",
        "\u{feff}",
    ];
}
