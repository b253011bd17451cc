"""Every setting by all its names."""

from agent.settings import table


def test_every_setting_has_a_name_an_environment_variable_and_a_description():
    rows = table()
    assert len({row.env for row in rows}) == len(rows)
    assert all(row.description for row in rows)
    by_name = {row.name: row for row in rows}
    assert by_name["service.readTimeout"].env == "XMOD_SERVICE__READ_TIMEOUT"
    assert by_name["service.readTimeout"].default == "30s"
    assert by_name["agent.workers"].default == "4"
    assert by_name["plugins.defaultPipeline"].flag == "--goalset"
    assert by_name["policy"].env == "XMOD_POLICY"


def test_the_references_keys_are_there_with_its_defaults():
    shown = {row.name: row.default for row in table()}
    for name, default in {
        "service.port": "8080",
        "plugins.defaultShimlet": "docker",
        "plugins.defaultPipeline": "",
        "plugins.pluginDir": "",
        "logging.level": "info",
        "logging.output": "stdout",
    }.items():
        assert shown[name] == default
