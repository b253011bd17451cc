"""Secrets in files: lines, rotation, and what is said when there is none."""

import logging
import os

import pytest

from agent.surface.secret_file import NoSecret, SecretFile


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)
    return path


def refusal(file) -> str:
    with pytest.raises(NoSecret) as refused:
        SecretFile(file, "webhook.secretFile").read()
    return str(refused.value)


def test_a_line_is_a_secret_and_blanks_around_it_are_none(file):
    file.write_text("  old \r\n\nnew\n")
    assert SecretFile(file, "x").read() == ("old", "new")


def test_it_is_read_anew_each_time(file):
    file.write_text("old")
    secret = SecretFile(file, "x")
    secret.read()
    file.write_text("new")
    assert secret.read() == ("new",)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"a\nb\nc\n", b"x" * 5000, b"\xff\xfe", b"\0" * 32, b"x\0\n"])
def test_what_is_no_secret_is_refused_by_setting_and_file_without_its_content(file, content):
    file.write_bytes(content)
    sentence = refusal(file)
    assert sentence.startswith(f"webhook.secretFile: {file} ")
    assert "xxx" not in sentence
    assert "xff" not in sentence


def test_a_missing_file_is_told_by_its_reason(file):
    file.unlink()
    assert "No such file" in refusal(file)


def test_a_pipe_without_a_writer_is_empty_and_nobody_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is empty" in refusal(tmp_path / "pipe")


def test_a_file_that_all_may_read_is_warned_of_once(file, caplog):
    file.write_text("s3cr3t")
    secret = SecretFile(file, "x")
    secret.read()
    assert not caplog.records
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        secret.read()
        secret.read()
    assert [record.file for record in caplog.records] == [str(file)]
    assert "s3cr3t" not in caplog.text
