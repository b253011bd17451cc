"""How the layers are merged, and whose each error is."""

import platform
from pathlib import Path

import pytest

from agent.settings import SettingsError, load


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.yaml"


def loaded(file=None, environ=None, **flags):
    return load(directory=Path("specs"), file=file, environ=environ or {}, flags=flags)


def problems(file=None, environ=None, **flags):
    with pytest.raises(SettingsError) as caught:
        loaded(file, environ, **flags)
    return list(caught.value.problems)


def test_without_anything_the_defaults_hold():
    settings = loaded()
    assert settings.service.port == 8080
    assert settings.agent.instance == "default"
    assert settings.ports.range == (18000, 18999)
    assert settings.prune.fraction == 0.25
    assert settings.prune.window == 600
    assert settings.directory == Path("specs")
    assert settings.file is None


def test_the_files_of_a_repositorys_access_are_relative_to_the_settings_file(file):
    file.write_text("source: {repo: 'https://h.example/x', tokenFile: token, knownHosts: ~/hosts, interval: 1m}\n")
    settings = load(directory=None, file=file, environ={})
    assert settings.source.token_file == file.parent / "token"
    assert settings.source.known_hosts == Path("~/hosts").expanduser()
    assert settings.source.interval == 60
    assert settings.directory == settings.agent.state_dir / "specs"


def test_settings_of_a_repository_need_one(file):
    file.write_text("source: {ref: main, tokenFile: token}\n")
    assert problems(file) == ["source.ref, source.tokenFile: only of use with source.repo (--repo)"]
    assert problems(**{"source.repo": "https://h.example/x", "source.mode": "folder"}) == [
        "source.mode folder (--source folder) is for DIR, not for source.repo (--repo)"
    ]
    with pytest.raises(SettingsError, match="DIR, or --repo URL"):
        load(directory=None, environ={})


def test_a_demand_for_signatures_is_never_dropped(tmp_path):
    keys = str(tmp_path / "keys")
    assert problems(**{"source.allowedSigners": keys}) == [
        "source.allowedSigners: only of use with source.verify (--verify commit or tag)"
    ]
    assert problems(**{"source.verify": "commit"}) == [
        "source.verify commit: needs source.allowedSigners or source.keyring: whose signatures count?"
    ]
    given = {"source.verify": "tag", "source.keyring": keys, "source.mode": "folder"}
    assert problems(**given) == ["source.verify tag: a folder has no commits; drop source.mode folder (--source)"]


def test_each_layer_wins_over_those_before_it(file):
    file.write_text("service: {port: 1001}\nagent: {workers: 2, instance: from-file}\nlogging: {level: debug}\n")
    environ = {"XMOD_SERVICE__PORT": "1002", "XMOD_AGENT__WORKERS": "3"}
    settings = loaded(file, environ, **{"service.port": 1003})
    assert settings.service.port == 1003
    assert settings.agent.workers == 3
    assert settings.agent.instance == "from-file"
    assert settings.logging.level == "debug"


def test_a_flag_that_was_not_given_changes_nothing(file):
    file.write_text("service: {port: 1001}\n")
    assert loaded(file, **{"service.port": None}).service.port == 1001


def test_an_unknown_key_is_refused_with_its_place_and_what_was_meant(file):
    file.write_text("service:\n  prot: 3\nagent:\n  stateDIR: /x\nporst: {}\n")
    assert problems(file) == [
        f"{file}:2:3: service.prot: unknown key; did you mean service.port?",
        f"{file}:4:3: agent.stateDIR: unknown key; did you mean agent.stateDir?",
        f"{file}:5:1: porst: unknown key; did you mean ports?",
    ]


def test_a_key_in_the_wrong_block_is_named_where_it_belongs(file):
    file.write_text("port: 80\nservice: {pluginDir: x}\n")
    assert problems(file) == [
        f"{file}:1:1: port: unknown key; did you mean service.port?",
        f"{file}:2:11: service.pluginDir: unknown key; did you mean plugins.pluginDir?",
    ]


def test_all_problems_of_all_layers_are_told_at_once(file):
    file.write_text("service: {port: 70000, readTimeout: soon}\nbogus: 1\n")
    found = problems(file, {"XMOD_AGENT__WORKERS": "many"}, **{"logging.level": "loud"})
    assert len(found) == 5
    text = "\n".join(found)
    assert f"{file}:1:11: service.port: must be less than or equal to 65535, got 70000" in text
    assert f"{file}:1:24: service.readTimeout: must be a duration" in text
    assert "environment XMOD_AGENT__WORKERS: agent.workers: must be a valid integer" in text
    assert "--log-level: logging.level: must be 'debug', 'info', 'warning' or 'error', got 'loud'" in text


def test_a_misspelt_variable_is_refused_but_other_names_are_not_ours():
    assert problems(environ={"XMOD_SERVICE__PROT": "1"}) == [
        "environment XMOD_SERVICE__PROT: no such setting; did you mean XMOD_SERVICE__PORT?"
    ]
    assert loaded(environ={"XMOD_TOKEN": "s", "XMOD_CONFIG": "x", "SERVICE__PORT": "1"}).service.port == 8080


def test_an_empty_variable_counts_as_unset():
    assert loaded(environ={"XMOD_SERVICE__PORT": ""}).service.port == 8080


def test_lists_and_blocks_can_come_from_the_environment():
    settings = loaded(
        environ={
            "XMOD_ACCELERATORS__DEVICES": "gpu-0, gpu-1",
            "XMOD_POLICY": '{"images": ["a/*"]}',
            "XMOD_PLUGINS__PRELOAD": '[{"type": "goalset", "path": "m:x"}]',
            "XMOD_SERVICE__ALLOW_REMOTE": "true",
        }
    )
    assert settings.accelerators.devices == ("gpu-0", "gpu-1")
    assert settings.policy == {"images": ["a/*"]}
    assert settings.plugins.preload[0].path == "m:x"
    assert settings.service.allow_remote is True


def test_a_block_in_the_environment_that_is_no_json_is_said_so():
    assert problems(environ={"XMOD_POLICY": "images"})[0].startswith("environment XMOD_POLICY: policy: must be JSON")


def test_the_raw_blocks_are_handed_on_as_written(file):
    file.write_text("policy: {programs: [/bin/x]}\nshimlets: {docker: {host: tcp}}\nengines: {mine: {image: i}}\n")
    settings = loaded(file)
    assert settings.policy == {"programs": ["/bin/x"]}
    assert settings.shimlets["docker"] == {"host": "tcp"}
    assert settings.engines == {"mine": {"image": "i"}}


def test_an_unknown_key_inside_preload_is_refused_with_the_items_place(file):
    file.write_text("plugins:\n  preload:\n    - {type: gaolset, path: x.py}\n")
    assert problems(file) == [
        f"{file}:2:3: plugins.preload.0.type: must be 'shimlet', 'goalset' or 'pipeline', got 'gaolset'"
    ]


def test_paths_in_the_file_are_relative_to_it_and_others_to_here(file, tmp_path):
    file.write_text(
        "plugins: {pluginDir: ./plugins, preload: [{path: a.py}, {path: 'm:x'}]}\n"
        "agent: {stateDir: state, socket: /run/x.sock}\nlogging: {output: log/agent.log}\n"
    )
    settings = loaded(file)
    assert settings.plugins.plugin_dir == tmp_path / "plugins"
    assert [item.path for item in settings.plugins.preload] == [str(tmp_path / "a.py"), "m:x"]
    assert settings.agent.state_dir == tmp_path / "state"
    assert settings.agent.socket == Path("/run/x.sock")
    assert settings.logging.output == str(tmp_path / "log/agent.log")
    assert loaded(**{"plugins.pluginDir": Path("p")}).plugins.plugin_dir == Path.cwd() / "p"


def test_the_socket_follows_the_instance(monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: 7)
    settings = loaded(environ={"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}, **{"agent.instance": "b"})
    assert settings.agent.socket == Path("/run/user/7/xmod-agent/b.sock")
    assert settings.agent.state_dir == Path("/home/u/.local/state/xmod-agent/b")


def test_other_machines_are_let_in_only_on_purpose(file):
    file.write_text("service:\n  bind: 0.0.0.0\n")
    (sentence,) = problems(file)
    assert sentence == (
        f"{file}:2:3: service.bind: bind 0.0.0.0 lets other machines read status and metrics without a password;"
        " if that is meant, set service.allowRemote: true (XMOD_SERVICE__ALLOW_REMOTE=true)"
    )
    file.write_text("service: {bind: 0.0.0.0, allowRemote: true}\n")
    assert loaded(file).service.bind == "0.0.0.0"


def test_a_value_where_a_block_belongs_is_refused(file):
    file.write_text("service: 8080\npolicy: [a]\n")
    found = problems(file)
    assert f"{file}:1:1: service: must be a mapping, got 8080" in found
    assert any(line.startswith(f"{file}:2:1: policy: must be a valid") for line in found)


def test_an_empty_block_or_key_is_as_if_it_were_not_there(file):
    file.write_text("service:\nagent:\n  workers:\n")
    assert loaded(file).agent.workers == 4


def test_a_missing_file_is_one_sentence(tmp_path):
    assert problems(tmp_path / "none.yaml") == [f"{tmp_path}/none.yaml: No such file or directory"]


def test_a_host_is_called_as_its_machine_is_unless_it_is_said(file):
    assert loaded().agent.host == platform.node()
    assert loaded(environ={"XMOD_AGENT__HOST": "edge-01"}).agent.host == "edge-01"
    file.write_text("agent: {host: edge-02.example.com, labels: {gpu: h100}}\n")
    settings = loaded(file)
    assert (settings.agent.host, settings.agent.labels) == ("edge-02.example.com", {"gpu": "h100"})
    environ = {"XMOD_AGENT__LABELS": '{"gpu": "h200", "site": "berlin"}'}
    assert loaded(file, environ).agent.labels == {"gpu": "h200", "site": "berlin"}
    assert loaded(file, environ, **{"agent.labels": {"a": "b"}}).agent.labels == {"a": "b"}


def test_a_label_is_a_text_and_a_host_has_a_name(file):
    file.write_text("agent: {labels: {gpu: true}}\n")
    assert problems(file) == [f"{file}:1:9: agent.labels.gpu: must be a valid string, got True"]
    assert problems(environ={"XMOD_AGENT__HOST": "edge 01"})


def test_the_file_of_age_keys_is_relative_to_the_settings_file(file):
    file.write_text("secrets: {ageKeyFile: keys.txt}\n")
    assert loaded(file).secrets.age_key_file == file.parent / "keys.txt"
    assert (
        loaded(environ={"XMOD_SECRETS__AGE_KEY_FILE": "keys.txt"}).secrets.age_key_file == Path("keys.txt").absolute()
    )
