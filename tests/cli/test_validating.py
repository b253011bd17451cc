"""`validate` and `schema`, as CI and editors use them."""

import json

import pytest

GOOD = """\
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata: {{name: {name}}}
spec:
  container:
    image: mini
    port: 80
"""
BAD = GOOD.replace("image:", "imgae:")


@pytest.fixture
def specs(tmp_path):
    folder = tmp_path / "specs"
    folder.mkdir()
    return folder


def write(folder, name, content):
    file = folder / name
    file.write_text(content)
    return file


def test_a_valid_folder_ends_well(specs, xmod):
    write(specs, "a.yaml", GOOD.format(name="a"))
    write(specs, "b.yml", GOOD.format(name="b"))
    write(specs, "README.md", "not a spec")
    result = xmod("validate", specs)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 files, 2 services, 0 problems\n"


def test_an_error_has_file_line_column_field_and_what_was_expected(specs, xmod):
    file = write(specs, "a.yaml", BAD.format(name="a"))
    result = xmod("validate", specs)
    assert result.exit_code == 1
    assert result.stdout == f'{file}:6:5: spec.container.imgae: is not a known field; did you mean "image"?\n'


def test_all_errors_of_all_files_are_told_at_once(specs, xmod):
    write(specs, "a.yaml", BAD.format(name="A_") + "    cpu: 3\n")
    write(specs, "b.yaml", "kind: [\n")
    lines = xmod("validate", specs).stdout.splitlines()
    assert {line.split(":")[0].rpartition("/")[2] for line in lines} == {"a.yaml", "b.yaml"}
    assert len(lines) >= 4


def test_a_name_in_two_files_is_reported_at_both(specs, xmod):
    a, b = (write(specs, name, GOOD.format(name="same")) for name in ("a.yaml", "b.yaml"))
    lines = xmod("validate", specs).stdout.splitlines()
    assert lines == [
        f"{a}:1:1: metadata.name: the name same is taken: it is also in {b}:1; a name is one service",
        f"{b}:1:1: metadata.name: the name same is taken: it is also in {a}:1; a name is one service",
    ]


def test_a_file_named_twice_is_read_once(specs, xmod):
    file = write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, file, file)
    assert (result.exit_code, result.stderr) == (0, "1 file, 1 service, 0 problems\n")


def test_for_github_it_is_an_annotation(specs, xmod):
    file = write(specs, "a,b.yaml", BAD.format(name="a"))
    shown = str(file).replace(",", "%2C")
    result = xmod("validate", file, "--format", "github")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"::error file={shown},line=6,col=5::spec.container.imgae: is not a known field")


def test_for_programs_it_is_json(specs, xmod):
    file = write(specs, "a.yaml", BAD.format(name="a"))
    result = xmod("validate", file, "--format", "json")
    (found,) = json.loads(result.stdout)
    assert found["file"] == str(file)
    assert (found["line"], found["column"], found["field"]) == (6, 5, "spec.container.imgae")
    assert result.stderr == ""


def test_what_cannot_be_read_is_a_problem(specs, xmod):
    result = xmod("validate", specs / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml:1:1: cannot be read: No such file or directory" in result.stdout


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"#" * (1 << 20) + b"\n"])
def test_an_empty_a_binary_and_a_huge_file_are_problems(specs, xmod, content):
    (specs / "a.yaml").write_bytes(content)
    assert xmod("validate", specs / "a.yaml").exit_code == 1
    assert xmod("validate", specs).exit_code == 1


def test_the_settings_policy_holds(specs, tmp_path, xmod):
    config = tmp_path / "config.yaml"
    config.write_text("policy: {images: ['registry.example/*']}\n")
    write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, "--config", config)
    assert result.exit_code == 1
    assert "the rule policy.images does not allow it" in result.stdout


def test_a_mistake_in_the_policy_is_the_settings_not_the_specs(specs, tmp_path, xmod):
    config = tmp_path / "config.yaml"
    config.write_text("policy: {imgaes: []}\n")
    write(specs, "a.yaml", GOOD.format(name="a"))
    result = xmod("validate", specs, "--config", config)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert str(config) in result.stderr
    assert "policy.imgaes" in result.stderr


def test_a_folder_without_specs_has_no_problems(specs, xmod):
    result = xmod("validate", specs)
    assert (result.exit_code, result.stderr) == (0, "0 files, 0 services, 0 problems\n")


def test_the_schema_is_json_schema_of_a_deployspec(xmod):
    result = xmod("schema")
    schema = json.loads(result.stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "spec" in schema["properties"]
