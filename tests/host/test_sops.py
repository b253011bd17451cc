"""Decrypting with the real sops, and with programs that behave badly under its name."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from agent.host import sops
from agent.host.sops import Sops
from agent.spec.encrypted import Locked
from tests.fakes.program import eventually
from tests.fakes.sops import SEARCH, Key, encrypted, key

PLAIN = "a: shown\nenv:\n    - key: TOKEN\n      value: geheim\n"


@pytest.fixture
def mine() -> Key:
    return key()


def decrypter(tmp_path: Path, mine: Key, **more) -> Sops:
    return Sops({"PATH": SEARCH}, key_file=str(mine.into(tmp_path / "keys.txt")), **more)


def refusal(made: Sops, content: str) -> Locked:
    with pytest.raises(Locked) as told:
        made.plain(content.encode())
    return told.value


def named_sops(folder: Path, script: str) -> dict[str, str]:
    """An environment in which a shell script stands in sops' place."""
    folder.mkdir(exist_ok=True)
    program = folder / "sops"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.parametrize("only", ["", "^value$"])
def test_a_file_is_decrypted_with_the_key_file(tmp_path, mine, only):
    assert decrypter(tmp_path, mine).plain(encrypted(PLAIN, mine, only=only).encode()).decode() == PLAIN


def test_without_a_setting_keys_are_where_sops_looks(tmp_path, mine):
    content = encrypted(PLAIN, mine).encode()
    named = {"PATH": SEARCH, "SOPS_AGE_KEY_FILE": str(mine.into(tmp_path / "keys.txt"))}
    assert Sops(named).plain(content).decode() == PLAIN
    home = tmp_path / "home/.config/sops/age"
    home.mkdir(parents=True)
    mine.into(home / "keys.txt")
    assert Sops({"PATH": SEARCH, "HOME": str(tmp_path / "home")}).plain(content).decode() == PLAIN
    assert Sops({"PATH": SEARCH, "SOPS_AGE_KEY": mine.private}).plain(content).decode() == PLAIN


def test_a_key_that_does_not_fit_is_said_with_the_ones_that_would(tmp_path, mine):
    other = key()
    refused = refusal(decrypter(tmp_path, other), encrypted(PLAIN, mine))
    assert refused.passing
    assert str(refused) == (
        f"no age key in {tmp_path}/keys.txt opens it; it is encrypted for {mine.public}: "
        "put the private key of one of these there"
    )


def test_no_key_file_and_no_program_are_said_and_may_pass(tmp_path, mine):
    content = encrypted(PLAIN, mine)
    refused = refusal(Sops({"PATH": SEARCH}, key_file=str(tmp_path / "gone")), content)
    assert (str(tmp_path / "gone") in str(refused), "No such file" in str(refused), refused.passing) == (True,) * 3
    refused = refusal(Sops({"PATH": str(tmp_path)}), content)
    assert ("no program sops" in str(refused), refused.passing) == (True, True)
    refused = refusal(Sops({"PATH": SEARCH}), content)
    assert ("secrets.ageKeyFile" in str(refused), refused.passing) == (True, True)


@pytest.mark.parametrize(
    ("before", "after"),
    [("a: shown", "a: other"), ("type:str", "type:int"), ("data:", "data:AAAA"), ("key: TOKEN", "key: OTHER")],
)
def test_a_file_that_was_tampered_with_is_refused_for_good_and_nothing_of_it_is_told(tmp_path, mine, before, after):
    """With another type sops itself would print the plaintext."""
    refused = refusal(decrypter(tmp_path, mine), encrypted(PLAIN, mine).replace(before, after, 1))
    assert not refused.passing
    assert "not as sops wrote it" in str(refused)
    assert "geheim" not in str(refused)


def test_one_content_is_decrypted_once(tmp_path, mine):
    count = tmp_path / "count"
    real = shutil.which("sops", path=SEARCH)
    environment = named_sops(tmp_path / "bin", f'echo x >> {count}; exec {real} "$@"')
    made = Sops(environment, key_file=str(mine.into(tmp_path / "keys.txt")))
    content = encrypted(PLAIN, mine).encode()
    for _ in range(3):
        made.begin(content)
        assert made.plain(content).decode() == PLAIN
    assert count.read_text() == "x\n"


def test_nothing_secret_is_in_arguments_or_on_disk_and_the_environment_is_what_is_needed(tmp_path, mine):
    seen = f"cd {tmp_path}; exec 3<&0; env > env; readlink /proc/$$/fd/3 >> cwd"
    script = f'echo "$@" > {tmp_path}/words; pwd > {tmp_path}/cwd; {seen}; exit 1'
    environment = named_sops(tmp_path / "bin", script) | {
        "AWS_SECRET_ACCESS_KEY": "x",
        "VAULT_TOKEN": "x",
        "HOME": "/r",
    }
    refused = refusal(Sops(environment, key_file=str(mine.into(tmp_path / "keys.txt"))), encrypted(PLAIN, mine))
    assert "ended with 1" in str(refused)
    assert (tmp_path / "words").read_text().split()[-1] == "/dev/stdin"
    told = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert set(told) - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "SOPS_AGE_KEY_FILE"}
    assert (tmp_path / "cwd").read_text().startswith("/\n/memfd:"), "the ciphertext comes from memory, in no folder"


def test_a_config_file_beside_it_is_not_read(tmp_path, mine, monkeypatch):
    (tmp_path / ".sops.yaml").write_text(": [no config")
    monkeypatch.chdir(tmp_path)
    assert decrypter(tmp_path, mine).plain(encrypted(PLAIN, mine).encode()).decode() == PLAIN


@pytest.mark.parametrize(("script", "said"), [("sleep 60", "within 0.3 s"), ("exec yes", "more than 0 MiB")])
def test_what_does_not_end_is_ended_with_all_that_it_started(tmp_path, mine, monkeypatch, script, said):
    monkeypatch.setattr(sops, "_TIME", 0.3)
    monkeypatch.setattr(sops, "_OUTPUT", 1 << 16)
    began = time.monotonic()
    refused = refusal(Sops(named_sops(tmp_path / "bin", f"echo $$ > {tmp_path}/pid; {script}")), encrypted(PLAIN, mine))
    assert said in str(refused)
    assert time.monotonic() - began < 5
    group = (tmp_path / "pid").read_text().strip()
    alive = ["pgrep", "-r", "R,S,D", "-g", group]
    eventually(lambda: subprocess.run(alive, capture_output=True, check=False).stdout == b"", "its group is gone", 5)


def test_who_waits_in_vain_goes_on_and_is_woken(tmp_path, mine):
    woken = threading.Event()
    real = shutil.which("sops", path=SEARCH)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    environment = named_sops(tmp_path / "bin", f'read x < {gate}; exec {real} "$@"')
    made = Sops(environment, key_file=str(mine.into(tmp_path / "keys.txt")), patience=0.05, wake=woken.set)
    content = encrypted(PLAIN, mine)
    refused = refusal(made, content)
    assert ("not answered" in str(refused), refused.passing) == (True, True)
    gate.write_text("go\n")
    assert woken.wait(20)
    assert made.plain(content.encode()).decode() == PLAIN


def test_what_failed_is_tried_again_in_the_background_and_success_wakes(tmp_path, mine, monkeypatch):
    monkeypatch.setattr(sops, "_AGAIN", 0.0)
    woken = threading.Event()
    file = tmp_path / "keys.txt"
    made = Sops({"PATH": SEARCH}, key_file=str(file), wake=woken.set)
    content = encrypted(PLAIN, mine)
    assert "No such file" in str(refusal(made, content))
    mine.into(file)
    assert "No such file" in str(refusal(made, content)), "nobody waits for the second try"
    assert woken.wait(20)
    assert made.plain(content.encode()).decode() == PLAIN


def test_a_fresh_failure_is_not_tried_again(tmp_path, mine):
    count = tmp_path / "count"
    made = Sops(named_sops(tmp_path / "bin", f"echo x >> {count}; exit 1"))
    for _ in range(3):
        refusal(made, encrypted(PLAIN, mine) if not count.exists() else PLAIN)
    assert count.read_text() == "x\nx\n"


def test_many_are_decrypted_at_once_but_not_all(tmp_path, mine):
    running, most = tmp_path / "running", tmp_path / "most"
    running.mkdir()
    script = f"touch {running}/$$; ls {running} | wc -l >> {most}; sleep 0.2; rm {running}/$$; exit 1"
    made = Sops(named_sops(tmp_path / "bin", script))
    contents = [f"x: {number}".encode() for number in range(12)]
    for content in contents:
        made.begin(content)
    for content in contents:
        with pytest.raises(Locked):
            made.plain(content)
    assert 1 < max(map(int, most.read_text().split())) <= 4


def test_old_plaintexts_make_room(tmp_path, mine, monkeypatch):
    monkeypatch.setattr(sops, "_REMEMBERED", 100)
    made = Sops(named_sops(tmp_path / "bin", "head -c 80 /dev/zero"))
    first, second = b"1", b"2"
    assert len(made.plain(first)) == len(made.plain(second)) == 80
    assert list(made._answers) == [sops._key(second)]


def test_closing_ends_what_runs(tmp_path, mine):
    made = Sops(named_sops(tmp_path / "bin", f"echo $$ > {tmp_path}/pid; exec sleep 60"))
    made.begin(b"x")
    pid = eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "it runs")
    made.close()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is gone", 5)


def test_many_that_do_not_end_cost_a_reader_no_more_than_one_stretch(tmp_path, mine):
    made = Sops(named_sops(tmp_path / "bin", "exec sleep 60"), patience=0.4, together=0.6)
    contents = [f"{number}".encode() for number in range(10)]
    for content in contents:
        made.begin(content)
    began = time.monotonic()
    for content in contents:
        with pytest.raises(Locked):
            made.plain(content)
    took = time.monotonic() - began
    made.close()
    assert took < 2
