"""Pulls from a registry on loopback by the real engine, archives, and what errors mean."""

import base64
import contextlib
import io
import json
import os
import random
import tarfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.contracts import Cancelled, Credentials, Permanent, Placement, Transient, XmodError
from shimlets.docker.images import Progress, checked_archive, pull_error
from shimlets.docker.shimlet import DockerShimlet
from tests.fakes.registry import Registry
from tests.shimlets.docker.world import DockerPlace, Silent, free_port, import_image, root_file_system

# What lines and errors mean; no engine.


def test_progress_counts_the_bytes_of_all_layers():
    progress = Progress()
    lines: list[tuple[dict[str, Any], tuple[float, str]]] = [
        ({"status": "Pulling from x", "id": "latest"}, (-1.0, "latest Pulling from x")),
        ({"status": "Already exists", "id": "a", "progressDetail": {}}, (-1.0, "a Already exists")),
        (
            {"status": "Downloading", "id": "b", "progressDetail": {"current": 10**6, "total": 4 * 10**6}},
            (0.25, "downloading 1.0 of 4.0 MB in 1 layers"),
        ),
        (
            {"status": "Downloading", "id": "c", "progressDetail": {"current": 1, "total": 4 * 10**6}},
            (pytest.approx(0.125, abs=0.01), "downloading 1.0 of 8.0 MB in 2 layers"),
        ),
        (
            {"status": "Download complete", "id": "b"},
            (pytest.approx(0.5, abs=0.01), "download complete 4.0 of 8.0 MB in 2 layers"),
        ),
        (
            {"status": "Extracting", "id": "c", "progressDetail": {"current": 1, "total": 9}},
            (1.0, "extracting 8.0 of 8.0 MB in 2 layers"),
        ),
    ]
    for line, told in lines:
        assert progress.after(line) == told


@pytest.mark.parametrize(
    ("message", "refused", "kind", "reason"),
    [
        ("manifest for x:y not found: manifest unknown: manifest unknown", True, Permanent, "ImageNotFound"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            True,
            Permanent,
            "ImageDenied",
        ),
        ('Head "https://x": unauthorized: authentication required', False, Permanent, "ImageDenied"),
        ("no matching manifest for linux/arm64 in the manifest list entries", False, Permanent, "ImageNotFound"),
        ("invalid reference format", True, Permanent, "ImageInvalid"),
        ("something else that is refused", True, Permanent, "ImageInvalid"),
        ("toomanyrequests: You have reached your pull rate limit", False, Transient, "RateLimited"),
        ("write /var/lib/docker/x: no space left on device", False, Transient, "DiskFull"),
        ('Get "https://x/v2/": dial tcp: lookup x: no such host', False, Transient, "PullFailed"),
        ("filesystem layer verification failed for digest sha256:1", False, Transient, "PullFailed"),
        ("unexpected EOF", False, Transient, "PullFailed"),
    ],
)
def test_what_an_error_of_a_pull_means(message: str, refused: bool, kind: type[XmodError], reason: str):
    error = pull_error(f"docker: {message}", "x:y", refused=refused)
    assert (type(error), error.reason) == (kind, reason)
    assert str(error).startswith(f"docker: image x:y: {message}")


# The real engine and a registry.


def fat_image(place: DockerPlace, tag: str) -> bytes:
    """An archive of an image whose layer takes a while: it does not compress."""
    import_image(place.api, tag, ballast=random.Random(1).randbytes(3_000_000))
    saved = b"".join(place.api.get_image(tag))
    place.api.remove_image(tag, force=True)
    return saved


def forget(place: DockerPlace, ref: str) -> None:
    with contextlib.suppress(Exception):
        place.api.remove_image(ref, force=True)


@pytest.fixture
def registry(place: DockerPlace) -> Iterator[Registry]:
    with Registry() as registry:
        yield registry
        place.remove_containers()
        for name in registry.manifests:
            repository, _, tag = name.rpartition("/")
            forget(place, f"{registry.host}/{repository}:{tag}")


@pytest.mark.docker
def test_a_pull_brings_the_image_and_tells_how_far_it_is(
    place: DockerPlace, shimlet: DockerShimlet, registry: Registry
):
    registry.pace = 0.1
    ref = registry.add("team/mini", "v1", fat_image(place, f"xmod-test-{place.owner}:fat"))
    assert not shimlet.has_image(ref)
    task = Silent()
    shimlet.pull_image(ref, task)
    assert shimlet.has_image(ref)
    parts = [done for done, _ in task.reports if 0 <= done < 1]
    assert len(set(parts)) >= 2, task.reports
    assert parts == sorted(parts)
    assert "of 4" in " ".join(message for _, message in task.reports)
    service = place.of("a", place.workload("sleep 100", image=ref))
    place.up(shimlet, service, [Placement(0)])


@pytest.mark.docker
def test_a_pull_that_nobody_wants_any_more_ends(place: DockerPlace, shimlet: DockerShimlet, registry: Registry):
    registry.pace = 0.5
    ref = registry.add("slow", "v1", fat_image(place, f"xmod-test-{place.owner}:slow"))

    class Unwanted(Silent):
        def report(self, done: float, message: str) -> None:
            super().report(done, message)
            if done > 0:
                raise Cancelled("nobody wants it")

    with pytest.raises(Cancelled):
        shimlet.pull_image(ref, Unwanted())
    assert not shimlet.has_image(ref)


@pytest.mark.docker
def test_a_tag_that_does_not_exist_is_permanent(shimlet: DockerShimlet, registry: Registry):
    with pytest.raises(Permanent, match="manifest unknown") as caught:
        shimlet.pull_image(f"{registry.host}/nothing:v1", Silent())
    assert caught.value.reason == "ImageNotFound"


@pytest.mark.docker
def test_a_reference_without_a_tag_is_its_latest_and_not_all_tags(shimlet: DockerShimlet, registry: Registry):
    with pytest.raises(Permanent):
        shimlet.pull_image(f"{registry.host}/nothing", Silent())
    assert any(request.endswith("/manifests/latest") for request in registry.requests)


@pytest.mark.docker
def test_a_registry_that_does_not_answer_is_transient(shimlet: DockerShimlet):
    with pytest.raises(Transient, match="connection refused") as caught:
        shimlet.pull_image(f"127.0.0.1:{free_port()}/x:y", Silent())
    assert caught.value.reason == "PullFailed"


@pytest.mark.docker
def test_a_reference_that_is_none_is_permanent(shimlet: DockerShimlet):
    with pytest.raises(Permanent, match="invalid reference format"):
        shimlet.pull_image("Not A Reference", Silent())


@pytest.mark.docker
def test_an_error_inside_a_good_answer_is_raised(place: DockerPlace, shimlet: DockerShimlet, registry: Registry):
    ref = registry.add("broken", "v1", fat_image(place, f"xmod-test-{place.owner}:broken"))
    layer = json.loads(registry.manifests["broken/v1"])["layers"][0]["digest"]
    del registry.blobs[layer]  # the config comes, and then the layer is not there: the answer has long begun
    with pytest.raises(Transient, match="unknown blob"):
        shimlet.pull_image(ref, Silent())
    assert not shimlet.has_image(ref)


@pytest.mark.docker
def test_credentials_come_from_the_operators_file_and_without_them_it_is_denied(
    place: DockerPlace, registry: Registry, tmp_path: Path
):
    registry.login = "robot:s3cret"
    ref = registry.add("private", "v1", fat_image(place, f"xmod-test-{place.owner}:private"))
    with pytest.raises(Permanent, match="needs credentials") as caught:
        place.shimlet().pull_image(ref, Silent())
    assert caught.value.reason == "ImageDenied"
    file = tmp_path / "credentials.json"
    place.options["credentialsFile"] = str(file)
    shimlet = place.shimlet()
    with pytest.raises(Transient, match="no such file"):
        shimlet.pull_image(ref, Silent())
    auth = base64.b64encode(registry.login.encode()).decode()
    file.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    shimlet.pull_image(ref, Silent())
    assert shimlet.has_image(ref)


@pytest.mark.docker
def test_credentials_come_from_dockers_own_config_as_it_is_at_the_time(
    place: DockerPlace, shimlet: DockerShimlet, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    registry.login = "robot:s3cret"
    ref = registry.add("private", "v2", fat_image(place, f"xmod-test-{place.owner}:private"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    auth = base64.b64encode(registry.login.encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    shimlet.pull_image(ref, Silent())
    assert shimlet.has_image(ref)


LOGIN = Credentials("robot", "s3cret-4711")


@pytest.fixture
def private_ref(place: DockerPlace, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An image that only LOGIN may pull, for a user who has no login of Docker's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    registry.login = f"{LOGIN.username}:{LOGIN.password}"
    return registry.add("private", "v3", fat_image(place, f"xmod-test-{place.owner}:private"))


@pytest.mark.docker
@pytest.mark.parametrize("bearer", [False, True])
def test_a_spec_may_bring_its_own_login(shimlet: DockerShimlet, registry: Registry, private_ref: str, *, bearer: bool):
    registry.bearer = bearer
    for login in (None, Credentials("robot", "wrong")):
        with pytest.raises(Permanent, match="imageCredentials") as refusal:
            shimlet.pull_image(private_ref, Silent(), login)
        assert refusal.value.reason == "ImageDenied"
    assert not shimlet.has_image(private_ref)
    shimlet.pull_image(private_ref, Silent(), LOGIN)
    assert shimlet.has_image(private_ref)
    assert any(request.startswith("GET /token") for request in registry.requests) == bearer


@pytest.mark.docker
def test_the_operators_login_for_a_registry_is_read_at_each_pull(
    place: DockerPlace, registry: Registry, private_ref: str, tmp_path: Path
):
    file = tmp_path / "password"
    place.options["registries"] = {registry.host: {"username": "robot", "passwordFile": str(file)}}
    shimlet = place.shimlet()
    with pytest.raises(Transient, match=r"passwordFile .*No such file") as refusal:
        shimlet.pull_image(private_ref, Silent())
    assert refusal.value.reason == "Credentials"
    file.write_text("wrong")
    with pytest.raises(Permanent):
        shimlet.pull_image(private_ref, Silent())
    file.write_text(f"{LOGIN.password}\n")
    shimlet.pull_image(private_ref, Silent())
    assert shimlet.has_image(private_ref)


@pytest.mark.docker
@pytest.mark.parametrize("own", [False, True])
def test_a_registry_that_echoes_what_it_was_shown_is_not_quoted(
    shimlet: DockerShimlet,
    registry: Registry,
    private_ref: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    own: bool,
):
    """Neither a spec's login, nor Docker's own."""
    registry.echoes = True
    wrong = None if own else Credentials("robot", "falsch-4711")
    auth = base64.b64encode(b"robot:falsch-4711").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(XmodError) as refusal:
        shimlet.pull_image(private_ref, Silent(), wrong)
    told = "".join(traceback.format_exception(refusal.value))
    assert "…" in told, "else this test proves nothing"
    for secret in ("falsch-4711", base64.b64encode(b"robot:falsch-4711").decode()):
        assert secret not in told


# Archives.


@pytest.fixture
def archive(place: DockerPlace, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mini.tar"
    path.write_bytes(fat_image(place, f"xmod-test-{place.owner}:saved"))
    yield path
    place.remove_containers()
    forget(place, f"xmod-test-{place.owner}:saved")
    for image in place.api.images(name="xmod.local/archive"):
        for tag in image["RepoTags"] or ():
            if tag in place.archives:
                forget(place, tag)


@pytest.mark.docker
def test_an_archive_is_loaded_once_and_runs(place: DockerPlace, shimlet: DockerShimlet, archive: Path):
    ref = f"archive:{archive}"
    assert not shimlet.has_image(ref)
    task = Silent()
    shimlet.pull_image(ref, task)
    place.archives.add(shimlet._images.local(ref))
    assert shimlet.has_image(ref)
    assert [done for done, _ in task.reports] == sorted(done for done, _ in task.reports)
    assert any("loading" in message for _, message in task.reports)
    place.up(shimlet, place.of("a", place.workload("sleep 100", image=ref)), [Placement(0)])
    assert place.shimlet().has_image(ref), "the hash is remembered in the state folder"
    again = Silent()
    shimlet.pull_image(ref, again)
    assert not again.reports


@pytest.mark.docker
def test_an_archive_that_changed_is_another_image_and_what_runs_stays(
    place: DockerPlace, shimlet: DockerShimlet, archive: Path
):
    ref = f"archive:{archive}"
    shimlet.pull_image(ref, Silent())
    place.archives.add(shimlet._images.local(ref))
    service = place.of("a", place.workload("sleep 100", image=ref))
    place.up(shimlet, service, [Placement(0)])
    tag = f"xmod-test-{place.owner}:saved"
    import_image(place.api, tag, another=b"1")
    archive.write_bytes(b"".join(place.api.get_image(tag)))
    assert not shimlet.has_image(ref)
    shimlet.pull_image(ref, Silent())
    place.archives.add(shimlet._images.local(ref))
    assert "has moved" in shimlet.observe(service.name).generations[0].notice


@pytest.mark.docker
def test_a_missing_archive_is_transient_and_named(shimlet: DockerShimlet):
    with pytest.raises(Transient, match=r"archive /no/such\.tar: .*No such file"):
        shimlet.has_image("archive:/no/such.tar")
    with pytest.raises(Transient):
        shimlet.pull_image("archive:/no/such.tar", Silent())


def tar_of(**files: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no image archive"),
        (os.urandom(5000), "is no image archive"),
        (root_file_system(), "no manifest.json in it; `docker save IMAGE -o FILE` makes one"),
        (tar_of(**{"manifest.json": b"{"}), "is no image archive"),
        (tar_of(**{"manifest.json": b"[]"}), "must hold exactly one image"),
        (tar_of(**{"manifest.json": b"[{},{}]"}), "must hold exactly one image"),
    ],
)
def test_what_is_no_image_archive_is_permanent_and_says_how_to_make_one(content: bytes, complaint: str, tmp_path: Path):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(Permanent, match=complaint):
        checked_archive(path)
