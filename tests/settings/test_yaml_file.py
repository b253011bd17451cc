"""The settings file's reader."""

import pytest

from agent.settings.yaml_file import Place, Unreadable, read


@pytest.fixture
def file(tmp_path):
    return tmp_path / "c.yaml"


def said(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Unreadable) as caught:
        read(file)
    return str(caught.value).removeprefix(str(file))


def test_words_mean_what_yaml_1_2_says(file):
    file.write_text(
        "a: no\nb: 0755\nc: 22:22\nd: true\ne: ~\nf: 1e3\ng: 2026-01-01\nh:\ni: '1'\nj: truest\nk: -5\nl: 1.5\n"
    )
    assert read(file).value == {
        "a": "no",
        "b": 755,
        "c": "22:22",
        "d": True,
        "e": None,
        "f": 1000.0,
        "g": "2026-01-01",
        "h": None,
        "i": "1",
        "j": "truest",
        "k": -5,
        "l": 1.5,
    }


def test_every_key_keeps_its_place(file):
    file.write_text("a:\n  b: 1\n  c: {d: 2}\n")
    root = read(file)
    assert root.children["a"].children["b"].place == Place(2, 3)
    assert root.children["a"].children["c"].children["d"].place == Place(3, 7)


def test_json_is_read_too(file):
    file.write_text('{"a": {"b": [1, "x", null, true]}}')
    assert read(file).value == {"a": {"b": [1, "x", None, True]}}


def test_an_empty_file_says_nothing(file):
    file.write_text("# only a comment\n")
    assert read(file).value == {}


def test_a_key_given_twice_is_refused(file):
    assert said(file, "a: 1\nb: 2\na: 3\n") == ":3:1: a: given twice, first on line 1"


def test_what_is_no_yaml_is_refused_with_its_place(file):
    assert said(file, "a: [1\nb: 2\n").startswith(":2:2: ")
    assert said(file, "a: b: c\n").startswith(":1:5: ")


def test_a_list_or_a_word_is_no_settings_file(file):
    assert said(file, "- a\n") == ":1:1: must be a mapping of settings"
    assert said(file, "hello\n") == ":1:1: must be a mapping of settings"


def test_two_documents_are_refused(file):
    assert "document" in said(file, "a: 1\n---\nb: 2\n")


def test_tags_aliases_and_depth_are_refused(file):
    assert said(file, "a: !!python/object/apply:os.system ['x']\n").endswith(
        "the tag tag:yaml.org,2002:python/object/apply:os.system means nothing here"
    )
    assert "means nothing here" in said(file, "a: !mine x\n")
    assert said(file, "a: !!int x\n") == ":1:4: 'x' is no int"
    assert said(file, "? [a, b]\n: 1\n") == ":1:3: a key must be a word"
    assert "aliases (*x) are not used in settings" in said(file, "a: &x 1\nb: *x\n")
    assert said(file, "[" * 200_000) == ":1:41: nested deeper than 40 levels"


def test_bytes_that_are_no_text_and_files_that_are_too_large_are_refused(file):
    assert said(file, b"a: \xff\n") == ": not UTF-8 text, at byte 3"
    assert "larger than 1 MiB" in said(file, "#" * (1 << 20) + "\n")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(Unreadable, match="Is a directory"):
        read(tmp_path)
