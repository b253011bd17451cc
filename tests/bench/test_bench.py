"""The bench measures what it says: its arithmetic, its stamps, and its in-process part on a small folder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import planning, specs
from bench.agent_process import ROOT
from bench.calls import Call, Calls
from bench.git_latency import WorkTree
from bench.table import Row, percentile, render
from tests.fakes.following import git


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (Row("x", 3.0, "s", limit=2.0), False),
        (Row("x", 3.0, "s", against=2.0, limit=2.0), True),
        (Row("x", 3.0, "s", against=2.0), None),
    ],
)
def test_a_budget_is_of_the_ratio_where_there_is_something_to_compare_with(row, kept):
    assert row.kept is kept


def test_a_missed_budget_is_seen_in_the_table():
    table = render([Row("slow", 3.0, "s", against=1.0, peer="bare", limit=1.3), Row("fine", 1.0, "ms")])
    slow = next(line for line in table.splitlines() if "slow" in line)
    assert all(word in slow for word in ("3 s", "1 s bare", "3.00 ×", "≤ 1.3 ×", "MISSED"))


def test_stamps_are_handed_out_once_and_only_when_they_are_whole(tmp_path):
    path = tmp_path / "calls"
    path.write_bytes(b"1500000000 list \n2000000000 apply a\n25")
    calls = Calls(path)
    assert calls.new() == [Call(1.5, "list", ""), Call(2.0, "apply", "a")]
    with path.open("ab") as more:
        more.write(b"00000000 observe a\n")
    assert calls.new() == [Call(2.5, "observe", "a")]
    calls.close()


def test_the_planning_part_measures_a_small_folder(tmp_path):
    specs.fill(tmp_path / "specs", 10)
    rows = list(planning._passes(tmp_path, 10, rounds=2))
    assert len(rows) == 4
    assert all(row.value > 0 for row in rows)
    assert [row.value for row in rows if "runtime calls" in row.what] == [1.0]


def test_an_unknown_part_is_refused_with_those_that_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "latency, git, docker, planning, idle" in done.stderr


def test_the_bench_leaves_its_scratch_folder_to_nobody(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from bench.workplace import Workplace\nwith Workplace() as p: print(p.folder('x'))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(done.stdout.strip()).exists()


def test_the_git_parts_branch_moves_when_it_says_so(tmp_path):
    tree = WorkTree(tmp_path / "specs")
    specs.put(tree.root, "a", "a: 1\n")
    first = tree.commit()
    tree.update(first)
    specs.put(tree.root, "a", "a: 2\n")
    second = tree.commit()
    assert git(tree.root, "rev-parse", "HEAD").strip() == first
    before = time.monotonic()
    assert before <= tree.update(second) <= time.monotonic()
    assert git(tree.root, "rev-list", "HEAD").split() == [second, first]
    assert git(tree.root, "status", "--porcelain") == ""
