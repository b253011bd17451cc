"""Bytes to documents: YAML 1.2 core, what stops us and where, and limits that hold before anything is expanded."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.spec.reading import Limits, Positions, read


def one(text: str | bytes, **limits: int) -> str:
    """The only problem of a file."""
    reading = read(text if isinstance(text, bytes) else text.encode(), Limits(**limits))
    assert len(reading.problems) == 1, reading
    return str(reading.problems[0])


def data(text: str) -> object:
    reading = read(text.encode())
    assert reading.problems == ()
    return reading.documents[0].data


EMPTY = "1:1: the file is empty; delete it if its services are to go"


@pytest.mark.parametrize("text", ["", "\n", "   \n\n", "# only a comment\n", "---\n", "---\n---\n...\n", "~", "\ufeff"])
def test_an_empty_file_is_invalid_because_git_truncates_before_it_writes(text: str):
    assert one(text) == EMPTY


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1: the key 'a' is already on line 1; one of them must go"),
        ("x:\n  - {k: 1, k: 2}\n", "2:12: the key 'k' is already on line 2; one of them must go"),
        ("a:\n\tb: 1\n", "2:1: this is not YAML: a tab cannot begin a line's content; indent with spaces"),
        (
            "a: [1, 2\n",
            "2:1: this is not YAML: did not find expected ',' or ']' (while parsing a flow sequence, begun on line 1)",
        ),
        (
            "a: 'open\nb: c\n",
            (
                "3:1: this is not YAML: the file ends in the middle of this; a closing quote is missing"
                " (while scanning a quoted scalar, begun on line 1)"
            ),
        ),
        (
            "a: 1\n b: 2\n",
            "2:3: this is not YAML: a ':' where none can be; quote the value, or mend the indentation",
        ),
        ("a: @b\n", "1:4: this is not YAML: a value cannot begin with '@' unless it is in quotes"),
        ("a: %b\n", "1:4: this is not YAML: a value cannot begin with '%' unless it is in quotes"),
        (b"a: \xff\n", "1:4: this is not UTF-8 text (byte 0xff); save the file as UTF-8"),
        ("é: 1\nä: ü\n".encode("latin-1"), "1:1: this is not UTF-8 text (byte 0xe9); save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "1:1: this is not UTF-8 text (byte 0xff); save the file as UTF-8"),
        (b"ok: yes\nb: \x00\n", "2:4: character U+0000 is not allowed; is this a binary file?"),
        (b"\x7fELF\x02\x01\x01\x00", "1:1: character U+007F is not allowed; is this a binary file?"),
        ('a: "\\0"\n', '1:4: a NUL character ("\\0") cannot be part of any field'),
        ("a: *b\n", "1:4: the alias *b stands for nothing that is complete before it"),
        ("a: &b [*b]\n", "1:8: the alias *b stands for nothing that is complete before it"),
        ("a: &x 1\n---\nb: *x\n", "3:4: the alias *x stands for nothing that is complete before it"),
        ("a: !Foo b\n", "1:4: the tag !Foo is not known here; only YAML's core tags are"),
        ("a: !!binary eA==\n", "1:4: the tag !!binary is not known here; only YAML's core tags are"),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "1:4: the tag !!python/object/apply:os.system is not known here; only YAML's core tags are",
        ),
        ("a: !!int x\n", "1:4: 'x' is not !!int"),
        ("a:\n  <<: {b: 1}\n", "2:3: merge keys (<<) are not part of YAML 1.2; write the fields out"),
        ("? [a]\n: 1\n", "1:3: a key must be a word, not a list or a mapping"),
        ("%YAML 3.0\n---\na: 1\n", "1:1: this is not YAML: found incompatible YAML document"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str | bytes, problem: str):
    assert one(text) == problem


def test_all_duplicate_keys_are_said_at_once():
    reading = read(b"a: 1\na: 2\nb: {c: 1, c: 2}\n---\na: !x 1\n")
    assert [(problem.line, problem.column) for problem in reading.problems] == [(2, 1), (3, 11), (5, 4)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: yes", "yes"),
        ("a: 22:22", "22:22"),
        ("a: 2026-11-01", "2026-11-01"),
        ("a: 0755", 755),
        ("a: 0o755", 493),
        ("a: 0x1F", 31),
        ("a: 1e3", 1000.0),
        ("a: .5", 0.5),
        ("a: -.INF", float("-inf")),
        ("a: 1_000", "1_000"),
        ("a: ~", None),
        ("a:", None),
        ("a: 'null'", "null"),
        ("a: !!str 5", "5"),
        ("a: !!float 5", 5),
        ("a: +12", 12),
        ("a: .", "."),
        ("a: '-'", "-"),
        ("a: |\n  x\n  y\n", "x\ny\n"),
        ("a: " + "9" * 5000, "9" * 5000),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object):
    assert data(text) == {"a": value}


def test_keys_are_taken_as_written():
    assert data("1: a\non: b\n~: c\n") == {"1": "a", "on": "b", "~": "c"}


def test_json_with_tabs_and_escapes_is_read_too():
    assert data('{"a": [1,\t2.5, null, true],\n\t"b": "\\u00e9"}') == {"a": [1, 2.5, None, True], "b": "é"}


def test_a_byte_order_mark_is_no_harm():
    assert data("\ufeffa: 1") == {"a": 1}


def test_documents_know_their_number_and_line_and_empty_ones_are_left_out():
    reading = read(b"# hello\n\na: 1\n---\n---\n# more\nb: 2\n")
    assert [(found.index, found.line, found.data) for found in reading.documents] == [
        (0, 3, {"a": 1}),
        (2, 7, {"b": 2}),
    ]


def test_a_document_says_whether_a_value_is_null():
    assert [found.complete for found in read(b"a: 1\n---\nb:\n---\nc: [~]\n").documents] == [True, False, False]


def test_an_alias_is_the_value_it_stands_for():
    assert data("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_a_file_of_50_mb_is_refused_before_it_is_looked_at():
    began = time.perf_counter()
    assert one(b"x" * 50_000_000) == "1:1: the file has 47.7 MiB; the limit is 1 MiB"
    assert time.perf_counter() - began < 0.5


def test_a_billion_laughs_are_refused_before_they_are_expanded():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefghi", "bcdefghij", strict=False)
    ]
    began = time.perf_counter()
    assert one("\n".join(lines)).endswith("aliases that stand for more than 10000 values; write them out")
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("text", ["[" * 1_000_000, "- " * 500_000, "{a: " * 250_000, "? " * 500_000, "[{a: " * 200_000])
def test_nesting_is_refused_early_and_without_recursion(text: str):
    began = time.perf_counter()
    assert "nested deeper than 32 levels" in one(text)
    assert time.perf_counter() - began < 0.5


def test_32_levels_are_not_too_deep():
    assert read(b"[" * 32 + b"]" * 32).problems == ()
    assert one("[" * 33 + "]" * 33) == "1:33: nested deeper than 32 levels"


def test_the_101st_document_is_too_many():
    assert read(b"---\na: 1\n" * 100).problems == ()
    assert one("---\na: 1\n" * 101) == "202:1: more than 100 documents in one file; split it"


def test_not_more_than_100_problems_are_listed():
    assert len(read(b"a: 1\n" * 50_000).problems) == 100


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(content: bytes):
    reading = read(content)
    assert reading.documents or reading.problems


@given(st.text(alphabet="abc:-[]{}&*!|>'\"%@#?, \n\t0.", max_size=80))
def test_no_yaml_makes_it_raise_and_it_takes_only_what_the_c_loader_takes(text: str):
    reading = read(text.encode())
    if not reading.problems:
        list(yaml.compose_all(text, Loader=yaml.CSafeLoader))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(st.characters(codec="utf-8", exclude_categories=("C",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_json_writes_is_read_back_the_same(value: object):
    reading = read(json.dumps({"v": value}, ensure_ascii=False).encode())
    assert [found.data for found in reading.documents] == [{"v": value}]


def test_positions_lead_to_values_keys_and_what_would_hold_a_missing_field():
    content = b"a: 1\n---\nspec:\n  env:\n    - {key: A,\n       value: 1}\n"
    positions = Positions(content)
    assert positions.of(1, ("spec", "env", 0, "value")) == (6, 15)
    assert positions.of(1, ("spec", "env", 0, "value"), key=True) == (6, 8)
    assert positions.of(1, ("spec", "env", 0, "valueFrom")) == (5, 7)
    assert positions.of(1, ("spec", "container")) == (3, 1)
    assert positions.of(1, ("metadata",)) == (3, 1)
    assert positions.of(0, ()) == (1, 1)
