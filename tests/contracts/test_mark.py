"""The mark: one text for one value, read by older and newer agents alike."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contracts import (
    Accelerators,
    Check,
    Digest,
    ImageLogin,
    Model,
    Mount,
    Placement,
    SecretRef,
    Service,
    ServiceName,
    Workload,
    canonical,
    decode,
    digest_of,
    encode,
    seal,
    unsealed_by,
)

FULL = Service(
    name=ServiceName("web"),
    workload=Workload(
        image="mini:latest",
        program="/bin/x",
        command=("a", "b"),
        args=("{port}", "ü"),
        port=8080,
        env=(("A", "plain"), ("B", SecretRef("file", "/run/secret")), ("C", SecretRef("env", "X"))),
        mounts=(Mount("/srv", "/data", read_only=False), Mount("/etc", "/etc")),
        model=Model("/models/x", "main", "abc"),
        served_name="qwen",
        accelerators=Accelerators("NVIDIA GPU", 2, 1 << 34, ("0", "1")),
        check=Check("/health", False, 1.5, 2.5, 600.0, (503, 425), "{}"),
        cpu=1.5,
        memory=1 << 30,
        shm=1 << 20,
        options='{"gpus":"all"}',
    ),
    digest=Digest("d" * 64),
    spec_digest=Digest("s" * 64),
    shimlet="docker",
    goalset="llm-deploy",
    replicas=3,
    port=18080,
    bind="0.0.0.0",
    strategy="side-by-side",
    priority=5,
    protected=True,
    image_login=ImageLogin("robot", SecretRef("sops", "web/image.password")),
    depends_on=(ServiceName("db"),),
    revision="r1",
    source="folder:/specs",
    file="a.yaml",
    host="edge-01",
)
PLAIN = Service(ServiceName("web"), Workload(), Digest("d"), Digest("s"), "docker", "service-deploy")
PLACE = Placement(2, 18082, ("g1", "g0"), "/models/x")


@pytest.mark.parametrize("service", [FULL, PLAIN])
@pytest.mark.parametrize("placement", [PLACE, Placement(0)])
def test_a_mark_is_read_as_it_was_written(service: Service, placement: Placement) -> None:
    assert decode(encode(service, placement)) == (service, placement)


def test_every_field_of_a_service_is_in_the_mark() -> None:
    """A field that this test does not fill would be lost unseen."""
    assert all(getattr(FULL, field.name) != field.default for field in fields(Service))
    assert all(getattr(FULL.workload, field.name) != field.default for field in fields(Workload))


def test_one_value_has_one_text() -> None:
    assert canonical({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"ü"],"b":1}'
    assert canonical(Placement(0)) == '{"index":0}', "defaults are left out"
    assert encode(PLAIN, Placement(0)) == (
        '{"placement":{"index":0},"service":{"digest":"d","goalset":"service-deploy","name":"web",'
        '"shimlet":"docker","spec_digest":"s","workload":{}}}'
    )


def test_a_newer_agents_mark_is_read() -> None:
    data = json.loads(encode(FULL, PLACE))
    data["service"]["colour"] = "blue"
    data["service"]["workload"]["colour"] = {"deep": [1]}
    data["placement"]["rack"] = 7
    data["more"] = True
    assert decode(json.dumps(data)) == (FULL, PLACE)


def test_an_older_agents_mark_is_read() -> None:
    data = json.loads(encode(FULL, PLACE))
    del data["service"]["priority"], data["service"]["workload"]["shm"], data["placement"]["model_path"]
    service, placement = decode(json.dumps(data))
    assert service == replace(FULL, priority=0, workload=replace(FULL.workload, shm=0))
    assert placement == replace(PLACE, model_path="")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"service": {}}',
        '{"service": [], "placement": {}}',
        '{"service": {"name": "web"}, "placement": {"index": 0}}',
        '{"service": "x", "placement": "y"}',
        '{"placement":{"index":0},"service":{"digest":"d","goalset":"g","name":"w","shimlet":"x","spec_digest":"s","workload":7}}',
        '{"placement":{"index":0},"service":{"digest":"d","goalset":"g","name":"w","shimlet":"x","spec_digest":"s","workload":{"mounts":7}}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own error is one, too
        decode(text)


def test_a_digest_is_of_what_runs_and_of_nothing_else() -> None:
    assert len(digest_of(FULL.workload)) == 64
    assert digest_of(FULL.workload) == digest_of(replace(FULL.workload))
    different = {
        digest_of(workload)
        for workload in (
            FULL.workload,
            replace(FULL.workload, image="mini:2"),
            replace(FULL.workload, args=("{port}",)),
            replace(FULL.workload, env=FULL.workload.env[:1]),
            replace(FULL.workload, env=tuple(reversed(FULL.workload.env))),
            replace(FULL.workload, port=None),
            replace(FULL.workload, cpu=2.0),
            replace(FULL.workload, check=Check()),
            Workload(),
        )
    }
    assert len(different) == 9


def test_a_digest_stays_what_it_was() -> None:
    """An upgrade restarts nothing: these two must never change."""
    assert digest_of(Workload()) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest_of(FULL.workload) == "dee9c56e9ef416a161f1bbc7e094aafa6185dfc230991e500d4ff8a1aecbb64c"


def test_a_plain_value_and_a_reference_are_told_apart() -> None:
    plain = Workload(env=(("A", "x"),))
    secret = Workload(env=(("A", SecretRef("env", "x")),))
    assert digest_of(plain) != digest_of(secret)
    service = replace(PLAIN, workload=secret)
    assert decode(encode(service, PLACE))[0] == service


@settings(max_examples=60, deadline=None)
@given(
    args=st.lists(st.text(max_size=8), max_size=4),
    env=st.lists(
        st.tuples(
            st.text(max_size=5),
            st.one_of(st.text(max_size=5), st.builds(SecretRef, st.text(max_size=3), st.text(max_size=3))),
        ),
        max_size=4,
    ),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    replicas=st.integers(0, 9),
    devices=st.lists(st.text(max_size=3), max_size=3),
)
def test_any_service_survives_its_mark(
    args: list[str], env: list[tuple[str, str | SecretRef]], port: int | None, replicas: int, devices: list[str]
) -> None:
    workload = Workload(args=tuple(args), env=tuple(env), port=port)
    service = replace(PLAIN, workload=workload, replicas=replicas, port=port)
    placement = Placement(replicas, port, tuple(devices))
    again = decode(encode(service, placement))
    assert again == (service, placement)
    assert digest_of(again[0].workload) == digest_of(workload)


# Secrets.


def test_a_seal_tells_whether_values_changed_and_nothing_else() -> None:
    sealed = seal({"A": "geheim", "B": "auch"})
    assert "geheim" not in sealed
    assert unsealed_by({"B": "auch", "A": "geheim"}, sealed)
    assert not unsealed_by({"A": "geheim"}, sealed)
    assert not unsealed_by({"A": "geheim", "B": "anders"}, sealed)
    assert not unsealed_by({}, sealed)


def test_a_seal_is_salted() -> None:
    assert seal({"A": "x"}) != seal({"A": "x"})


def test_no_secrets_have_no_seal() -> None:
    assert seal({}) == ""
    assert unsealed_by({}, "")
    assert not unsealed_by({"A": "x"}, "")


@pytest.mark.parametrize("forged", ["x", "zz:zz", ":", "ü:ü", "00"])
def test_a_forged_seal_is_no_seal(forged: str) -> None:
    assert not unsealed_by({"A": "x"}, forged)
