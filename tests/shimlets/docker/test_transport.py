"""What is taken of the SDK: its sockets, its idea of errors, its reading of credentials."""

import base64
import gc
import json
import warnings
from pathlib import Path

import pytest
import requests

from shimlets.docker import transport


def test_a_socket_that_cannot_be_connected_is_closed(tmp_path: Path):
    session = transport.session(f"unix://{tmp_path}/nothing.sock", 1.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(requests.exceptions.ConnectionError):
            session.get("http+docker://localhost/_ping")
        session.close()
        gc.collect()
    assert [str(w.message) for w in told if "socket" in str(w.message)] == []


def test_a_host_that_cannot_be_understood_is_an_error_of_the_sdk():
    with pytest.raises(transport.SdkError):
        transport.session("what://ever", 1.0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.exceptions.ReadTimeout("x"), "hung"),
        (requests.exceptions.ConnectionError("UnixHTTPConnectionPool: Read timed out."), "hung"),
        (requests.exceptions.ConnectionError("('Connection aborted.', PermissionError(13, 'denied'))"), "denied"),
        (requests.exceptions.ConnectionError("('Connection aborted.', ConnectionRefusedError(111, 'x'))"), "gone"),
        (requests.exceptions.ChunkedEncodingError("x"), "gone"),
    ],
)
def test_what_a_failed_call_says_of_the_engine(error: Exception, kind: str):
    assert transport.kind_of(error) == kind


@pytest.mark.parametrize(
    ("ref", "key"),
    [
        ("registry.example:5000/team/x:v1", "registry.example:5000"),
        ("registry.example/x@sha256:" + "a" * 64, "registry.example"),
        ("library-image:latest", "https://index.docker.io/v1/"),
    ],
)
def test_credentials_are_those_of_the_images_registry(ref: str, key: str, tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {key: {"auth": base64.b64encode(b"me:secret").decode()}}}))
    header = transport.registry_header(ref, str(file))
    told = json.loads(base64.urlsafe_b64decode(header["X-Registry-Auth"]))
    assert (told["username"], told["password"]) == ("me", "secret")
    assert transport.registry_header("elsewhere.example/x", str(file)) == {}
