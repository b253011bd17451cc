"""Options that several commands share."""

import pytest

from agent.cli.options import labels


def test_labels_are_key_and_value():
    assert labels(["gpu=h100", "note=a=b", "empty="]) == {"gpu": "h100", "note": "a=b", "empty": ""}
    assert labels(None) is None
    assert labels([]) is None


@pytest.mark.parametrize("word", ["gpu", "=h100", ""])
def test_what_is_no_label_is_refused(word, xmod, tmp_path):
    result = xmod("run", tmp_path, "--label", word)
    assert result.exit_code == 1
    assert result.stderr == f"xmod-agent: --label {word}: must be KEY=VALUE\n"
