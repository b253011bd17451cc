"""Records survive us, and their loss or corruption costs only themselves."""

import dataclasses
import logging

import pytest

from agent.contracts import Digest, Fate, Placement, ServiceName, Transient, Workload, encode
from shimlets.process.recording import Kept, Record, Records, Wish
from tests.contract.shimlet_contract import service_of
from tests.shimlets.process.place import folder_that_refuses

SERVICE = service_of("a", Workload(command=("x",)), shimlet="process", goalset="g")


def kept(index: int = 0, name: str = "a", **more: object) -> Kept:
    service = dataclasses.replace(SERVICE, name=ServiceName(name))
    placement = Placement(index, 18000 + index)
    return Kept(Record(encode(service, placement), "run", 1.0, **more), service, placement)


def test_a_record_is_read_by_others_as_it_was_written(tmp_path):
    one = kept(wish=Wish.STOP, finished=2.0, code=3, message="é\n")
    Records(tmp_path).write(one)
    assert Records(tmp_path).all() == {one.key: one}


def test_records_are_read_by_service(tmp_path):
    records = Records(tmp_path)
    for one in (kept(0), kept(1), kept(0, "b")):
        records.write(one)
    assert list(records.all(ServiceName("b"))) == [kept(0, "b").key]
    assert len(records.all()) == 3


def test_names_cannot_leave_the_folder(tmp_path):
    one = kept(name="../../x")
    records = Records(tmp_path / "deep" / "down")
    records.write(one)
    assert records.all() == {one.key: one}
    assert not list(tmp_path.glob("x*"))


def test_a_deleted_record_takes_its_log_and_the_last_one_the_fate(tmp_path):
    records = Records(tmp_path)
    for index in (0, 1):
        records.write(kept(index))
        records.log(kept(index).key).write_text("words")
    records.decide(SERVICE.name, SERVICE.digest, Fate.FAILED)
    records.delete(kept(0).key)
    assert records.fate(SERVICE.name, SERVICE.digest) is Fate.FAILED
    records.delete(kept(1).key)
    records.delete(kept(1).key)
    assert records.fate(SERVICE.name, SERVICE.digest) is Fate.NEW
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"mark": "x"}', '{"mark": "{}", "run": "", "started": 1}', "\0"])
def test_a_corrupt_record_is_set_aside_with_a_log_line(tmp_path, caplog, damage):
    records = Records(tmp_path)
    records.write(kept(0))
    records.write(kept(1))
    path = records.log(kept(0).key).with_suffix(".json")
    path.write_text(damage)
    with caplog.at_level(logging.ERROR):
        assert list(records.all()) == [kept(1).key]
    assert path.with_name(path.name + ".corrupt").exists()
    assert "set aside" in caplog.text
    caplog.clear()
    assert list(records.all()) == [kept(1).key]
    assert not caplog.text


def test_a_corrupt_fate_is_set_aside(tmp_path):
    records = Records(tmp_path)
    records.decide(SERVICE.name, SERVICE.digest, Fate.SERVED)
    (path,) = tmp_path.glob("**/fate.json")
    path.write_text('{"fate": "sunny"}')
    assert records.fate(SERVICE.name, SERVICE.digest) is Fate.NEW


def test_what_is_presumed_counts_until_it_is_decided_and_is_written_when_we_may(tmp_path):
    records, generation = Records(tmp_path), (SERVICE.name, SERVICE.digest)
    records.presume(*generation, write=False)
    assert (records.fate(*generation), records.decided(*generation)) == (Fate.SERVED, None)
    assert not list(tmp_path.iterdir())
    records.write_again()
    assert Records(tmp_path).fate(*generation) is Fate.SERVED
    records.decide(*generation, Fate.FAILED)
    records.presume(*generation, write=True)
    assert records.fate(*generation) is Fate.FAILED


def test_a_presumption_that_cannot_be_written_is_kept_and_written_later(tmp_path):
    root = tmp_path / "state"
    root.mkdir()
    records, generation = Records(root), (SERVICE.name, SERVICE.digest)
    with folder_that_refuses(root):
        records.presume(*generation, write=True)
        assert records.fate(*generation) is Fate.SERVED
    records.write_again()
    assert Records(root).fate(*generation) is Fate.SERVED


def test_a_presumption_ends_with_its_generation_and_when_the_records_come_back(tmp_path):
    root, aside = tmp_path / "state", tmp_path / "aside"
    records, generation = Records(root), (SERVICE.name, SERVICE.digest)
    records.presume(*generation, write=False)
    records.delete(kept().key)
    assert records.fate(*generation) is Fate.NEW
    records.write(kept())
    root.rename(aside)
    records.presume(*generation, write=False)
    records.note(kept(restarts=1), write=False)
    assert records.fate(*generation) is Fate.SERVED
    aside.rename(root)
    assert records.all() == {kept().key: kept()}
    assert records.fate(*generation) is Fate.NEW


def test_what_cannot_be_written_is_transient_and_names_the_path(tmp_path):
    root = tmp_path / "state"
    root.mkdir()
    records = Records(root)
    with folder_that_refuses(root):
        with pytest.raises(Transient, match=str(root)):
            records.write(kept())
        with pytest.raises(Transient, match=str(root)):
            records.decide(SERVICE.name, Digest("x"), Fate.SERVED)


def test_a_note_that_cannot_be_written_is_remembered_and_written_later(tmp_path):
    root = tmp_path / "state"
    records = Records(root)
    records.write(kept())
    ended = kept(finished=5.0)
    path = records.log(ended.key).with_suffix(".json")
    path.with_suffix(".new").mkdir()
    records.note(ended, write=True)
    assert records.all() == {ended.key: ended}
    assert Records(root).all() == {kept().key: kept()}
    path.with_suffix(".new").rmdir()
    records.write_again()
    assert Records(root).all() == {ended.key: ended}


def test_a_note_in_memory_yields_to_what_another_hand_wrote(tmp_path):
    looker, agent = Records(tmp_path), Records(tmp_path)
    agent.write(kept())
    looker.note(kept(finished=5.0), write=False)
    assert looker.all() == {kept().key: kept(finished=5.0)}
    agent.write(kept(wish=Wish.STOP))
    assert looker.all() == {kept().key: kept(wish=Wish.STOP)}
    agent.delete(kept().key)
    looker.note(kept(), write=False)
    agent.write(kept(restarts=2))
    assert looker.all() == {kept().key: kept(restarts=2)}
