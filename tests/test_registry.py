"""The doors for plugins, and what is said of those that do not fit."""

import sys
from types import SimpleNamespace

import pytest

from agent.contracts import Achieved, compose
from agent.registry import PluginError, PluginRow, Registry

GOALSET = """
from agent.contracts import Achieved, compose

class Holds:
    name = "holds"
    def is_achieved(self, ctx):
        return Achieved()
    def ensure(self, ctx):
        pass

def register(plugins):
    plugins.goalset(compose("mine").then(Holds()).removed_by("mine").also_known_as("my-own").build())
    plugins.shimlet("world", lambda owner, options, state_dir: None)
"""


class Holds:
    def __init__(self, name="holds"):
        self.name = name

    def is_achieved(self, ctx):
        return Achieved()

    def ensure(self, ctx):
        pass


def a_goalset(name="mine", removal=None, *aliases):
    return compose(name).then(Holds()).removed_by(removal or name).also_known_as(*aliases).build()


def refused(call, *args):
    with pytest.raises(PluginError) as caught:
        call(*args)
    return str(caught.value)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("xmod_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretend that a package with these entry points and this code is installed."""

    def install(package, entry_points, code):
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(entry_points)
        packages.append(package)

    packages = []
    monkeypatch.syspath_prepend(tmp_path)
    yield install
    for package in packages:
        sys.modules.pop(package, None)


def test_a_plugin_file_brings_shimlets_and_goalsets(registry, folder):
    (folder / "mine.py").write_text(GOALSET)
    registry.load_folder(folder)
    assert registry.shimlets == {"world"}
    assert registry.goalsets == {"mine", "my-own"}
    assert registry.goalset("my-own").name == "mine"
    assert registry.shimlet_factory("world")("me", {}, folder) is None
    assert registry.rows() == (
        PluginRow("shimlet", "world", f"{folder}/mine.py"),
        PluginRow("goalset", "mine", f"{folder}/mine.py"),
        PluginRow("goalset", "my-own", "alias of mine"),
    )


def test_hidden_files_and_files_of_other_kinds_are_left_alone(registry, folder):
    for name in ("_private.py", ".hidden.py", "README.md"):
        (folder / name).write_text("raise SystemExit")
    registry.load_folder(folder)
    assert registry.rows() == ()


def test_plugin_files_may_define_dataclasses_and_share_a_name_with_a_module(registry, folder):
    (folder / "json.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass A:\n    b: 'int' = 1\n\ndef register(plugins): A()\n"
    )
    registry.load_folder(folder)
    assert "dumps" in dir(__import__("json"))


@pytest.mark.parametrize(
    ("code", "line", "what"),
    [
        ("x = 1\ny = z\n", 2, "NameError: name 'z' is not defined"),
        ("def register(plugins:\n    pass\n", 1, "SyntaxError"),
        ("import nowhere_to_be_found\n", 1, "ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("def register(plugins):\n    plugins.nonsense()\n", 2, "AttributeError"),
        ("def register():\n    pass\n", None, "TypeError"),
    ],
)
def test_a_broken_plugin_is_named_with_file_and_line(registry, folder, code, line, what):
    file = folder / "broken.py"
    file.write_text(code)
    message = refused(registry.load_folder, folder)
    assert str(file) in message
    assert what in message
    if line:
        assert f"{file}, line {line}: " in message


def test_a_broken_plugin_leaves_no_module_behind(registry, folder):
    (folder / "broken.py").write_text("1 / 0\n")
    refused(registry.load_folder, folder)
    assert not [name for name in sys.modules if name.startswith("xmod_plugin_")]


def test_a_plugin_file_without_register_is_refused(registry, folder):
    (folder / "empty.py").write_text("")
    assert "must define register(plugins" in refused(registry.load_folder, folder)


def test_a_folder_that_is_not_there_is_refused(registry, folder):
    assert "no such folder of plugins" in refused(registry.load_folder, folder / "none")


def test_two_of_one_name_are_refused_with_both_places(registry, folder):
    (folder / "a.py").write_text(GOALSET)
    (folder / "b.py").write_text(GOALSET.replace('"mine"', '"other"').replace('"my-own"', '"others-own"'))
    message = refused(registry.load_folder, folder)
    assert message == f"shimlet 'world' comes from two places: {folder}/a.py and {folder}/b.py; remove or rename one"


def test_an_alias_that_is_taken_is_refused(registry):
    registry.door("a").goalset(a_goalset("one", None, "short"))
    assert "'short' comes from two places: a and b" in refused(registry.door("b").goalset, a_goalset("short"))


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-x", "x" * 64, 7])
def test_a_name_that_no_spec_could_use_is_refused(registry, name):
    assert "a name is lower-case" in refused(registry.door("here").shimlet, name, lambda *_: None)


def test_what_is_no_factory_or_goalset_is_refused(registry):
    door = registry.door("here")
    assert "a factory must be callable, got str" in refused(door.shimlet, "x", "docker")
    assert "must be an agent.contracts.GoalSet, got dict" in refused(door.goalset, {})


def test_a_goal_that_is_none_is_refused(registry):
    broken = compose("x").then(SimpleNamespace(name="half", is_achieved=lambda ctx: True)).build()
    assert "is no Goal: name, is_achieved(ctx), ensure(ctx)" in refused(registry.door("here").goalset, broken)


def test_a_goalset_must_be_undone_by_one_that_exists(registry):
    registry.door("here").goalset(a_goalset("mine", "service-delet"))
    assert refused(registry.check).startswith("here: goalset 'mine': there is no removal goalset 'service-delet'")
    registry.door("here").goalset(a_goalset("service-delet"))
    registry.check()


def test_an_unknown_name_is_refused_with_what_was_meant_and_what_is_known(registry):
    registry.door("here").shimlet("docker", lambda *_: None)
    assert refused(registry.shimlet_factory, "dokcer") == (
        "there is no shimlet 'dokcer'; did you mean docker? (known: docker)"
    )
    assert "is the package installed?" in refused(registry.goalset, "x")


def test_entry_points_of_an_installed_package_are_found_and_said_where_from(registry, installed):
    installed(
        "acme",
        "[xmod.shimlets]\nacme-world = acme:make\n[xmod.goalsets]\nacme-deploy = acme:DEPLOY\n",
        "from tests.test_registry import a_goalset\nDEPLOY = a_goalset('acme-deploy')\n"
        "def make(owner, options, state_dir): return (owner, options)\n",
    )
    registry.load_entry_points()
    rows = [row for row in registry.rows() if row.name.startswith("acme")]
    assert [(row.kind, row.name, row.origin) for row in rows] == [
        ("shimlet", "acme-world", "package acme 1.2"),
        ("goalset", "acme-deploy", "package acme 1.2"),
    ]
    assert registry.shimlet_factory("acme-world")("me", {}, None) == ("me", {})


def test_a_shimlet_is_imported_only_when_it_is_asked_for(registry, installed):
    installed("lazy_world", "[xmod.shimlets]\nlazy = lazy_world:make\n", "make = lambda *_: None\n")
    registry.load_entry_points()
    assert "lazy_world" not in sys.modules
    registry.shimlet_factory("lazy")
    assert "lazy_world" in sys.modules


def test_a_broken_entry_point_is_named_with_its_package_and_line(registry, installed):
    installed("broken_sets", "[xmod.goalsets]\nx = broken_sets:X\n", "\n\nX = 1 / 0\n")
    message = refused(registry.load_entry_points)
    assert message.startswith("package broken_sets 1.2: entry point x = broken_sets:X: ")
    assert "broken_sets.py, line 3: ZeroDivisionError" in message


def test_a_broken_shimlet_of_a_package_is_refused_when_it_is_wanted(registry, installed):
    installed("broken_world", "[xmod.shimlets]\nbw = broken_world:nothing\n", "")
    registry.load_entry_points()
    assert "AttributeError" in refused(registry.shimlet_factory, "bw")


def test_an_entry_point_must_be_named_like_its_goalset(registry, installed):
    installed(
        "misnamed",
        "[xmod.goalsets]\nother = misnamed:X\n",
        "from tests.test_registry import a_goalset\nX = a_goalset('real')\n",
    )
    assert "entry point other is the goalset real; name it so" in refused(registry.load_entry_points)


def test_the_built_in_plugins_come_through_the_same_door(registry):
    registry.load_entry_points()
    registry.check()
    assert {"docker", "process"} <= registry.shimlets
    assert registry.goalset("opensource-llm-deploy") is registry.goalset("llm-deploy")
    assert registry.goalset("opensource-llm-delete").name == "llm-delete"
    assert {"service-deploy", "service-delete"} <= registry.goalsets


def test_preload_takes_files_and_attributes(registry, folder, installed):
    (folder / "file.py").write_text(GOALSET)
    installed(
        "pre",
        "",
        "from tests.test_registry import a_goalset\nX = a_goalset('pre')\nclass World:\n    name = 'pre-world'\n",
    )
    registry.preload(
        [
            SimpleNamespace(type="goalset", path=str(folder / "file.py"), name=""),
            SimpleNamespace(type="pipeline", path="pre:X", name=""),
            SimpleNamespace(type="shimlet", path="pre:World", name=""),
            SimpleNamespace(type="shimlet", path="pre:World", name="second"),
        ]
    )
    assert registry.shimlets == {"world", "pre-world", "second"}
    assert registry.goalsets == {"mine", "my-own", "pre"}


def test_a_preload_that_is_neither_file_nor_attribute_is_refused(registry):
    def item(path):
        return [SimpleNamespace(type="goalset", path=path, name="")]

    assert 'must be a .py file or "module:attribute"' in refused(registry.preload, item("plugin.so"))
    assert "ModuleNotFoundError" in refused(registry.preload, item("no_such_module_here:x"))
    assert "No such file" in refused(registry.preload, item("/nowhere/x.py"))
