"""The tiny model: a file that a real engine takes, and that says what it was told to say."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import tiny_model


def test_the_same_sentence_gives_the_same_bytes(tmp_path: Path):
    tiny_model.write(tmp_path / "a.gguf")
    tiny_model.write(tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_it_is_half_a_megabyte_and_leaves_nothing_beside_it(tmp_path: Path):
    tiny_model.write(tmp_path / "deep" / "tiny.gguf")
    assert 300_000 < (tmp_path / "deep" / "tiny.gguf").stat().st_size < 700_000
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize(
    "sentence", ["", "the cat and the dog", "naïve words", "tab\tand\nline", " ".join(f"w{n}" for n in range(200))]
)
def test_a_sentence_that_it_cannot_say_is_refused(tmp_path: Path, sentence: str):
    if "\n" in sentence:  # blanks of any kind only part words
        sentence += "\x07"
    with pytest.raises(ValueError, match="sentence"):
        tiny_model.write(tmp_path / "a.gguf", sentence=sentence)
    assert not list(tmp_path.iterdir())


def test_every_piece_of_the_vocabulary_is_there_once():
    texts, kinds, scores, said = tiny_model.pieces_of(tiny_model.SENTENCE)
    assert len(texts) == len(set(texts)) == len(kinds) == len(scores) == 391
    assert "".join(texts[word] for word in said).replace("▁", " ").strip() == tiny_model.SENTENCE


def test_the_command_says_what_it_wrote(tmp_path: Path):
    out = tmp_path / "tiny.gguf"
    ran = subprocess.run(
        [sys.executable, tiny_model.__file__, str(out), "--sentence", "two words"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"{out}: 0.49 MB\n"
