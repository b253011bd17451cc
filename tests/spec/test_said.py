"""What documents say, by name: their text counts, their layout does not."""

import pytest

from agent.contracts import ServiceName
from agent.spec.said import said
from tests.fakes.folder import RESOLVER, document, service_of

WEB = ServiceName("web")


def words(text: str) -> str:
    return said(text.encode())[WEB].words


def test_layout_comments_and_order_do_not_count():
    plain = document("web")
    other = "# hello\n---\nkind: DeploySpec\nspec:\n  container:\n    port: 8080\n    health: {path: /}\n"
    other += "    command: [/bin/httpd]\n    image: mini:v1\nmetadata:\n  annotations: {}\n  name: web\n"
    other += "apiVersion: xmod.dev/v1\n"
    assert said(plain.encode()) == said(other.encode())


@pytest.mark.parametrize(
    "changed",
    [
        document("web", "v2"),
        document("web", suspend="true"),
        document("web").replace("{name: web,", "{name: web, labels: {a: b},"),
    ],
)
def test_everything_else_counts(changed):
    assert words(changed) != words(document("web"))


def test_the_specs_digest_is_the_marks_own():
    assert said(document("web").encode())[WEB].spec == service_of(document("web")).spec_digest


def test_what_is_refused_says_something_and_what_cannot_be_parsed_nothing():
    refused = document("web").replace("8080", "eighty")
    assert RESOLVER.read_file("a.yaml", refused.encode()).problems
    assert set(said(refused.encode())) == {WEB}
    assert said(b"]: {") == said(b"") == said(b"\xff") == {}
    assert said(b"kind: Note\n---\n- 1\n---\napiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: 3\n") == {}


def test_two_documents_of_one_name_count_together():
    both = document("web") + "---\n" + document("web", "v2")
    assert len({words(both), words(document("web")), words(document("web", "v2"))}) == 3


@pytest.mark.parametrize("value", ["9" * 5000, "1e999", ".nan", "0x" + "f" * 5000, "2020-01-01", "~"])
def test_no_value_is_too_much(value):
    text = f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: web}}\nspec: {{x: {value}}}\n"
    assert set(said(text.encode())) == {WEB}
