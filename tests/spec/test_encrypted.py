"""Encrypted specs: what sops wrote is recognised, held to age, and read without giving anything away."""

import json
import re
from dataclasses import replace

import pytest

from agent.contracts import ImageLogin, SecretRef, decode, digest_of, encode
from agent.contracts.workload import Placement
from agent.spec.encrypted import Locked
from agent.spec.hosts import HostId
from agent.spec.resolve import FileReading
from tests.fakes.sops import Key, encrypted, key
from tests.spec.making import resolver

SPEC = """\
apiVersion: xmod.dev/v1
kind: DeploySpec
metadata:
    name: web
spec:
    container:
        image: mini:1
        port: 8080
    env:
        - key: TOKEN
          value: geheim {port}
        - key: COLOUR
          value: ""
    replicaCount: 2
"""
MINE = key()


class Keyring:
    """Stands where the program stands: knows the plaintext of each file it encrypted for a test."""

    def __init__(self, **plaintexts: str) -> None:
        self.plaintexts = {b"": ""}
        self.asked: list[bytes] = []
        self.begun: list[bytes] = []

    def encrypt(self, text: str, *, only: str = "^(value|password)$", keys: tuple[Key, ...] = (MINE,)) -> str:
        sealed = encrypted(text, *keys, only=only)
        self.plaintexts[sealed.encode()] = text
        return sealed

    def begin(self, content: bytes) -> None:
        self.begun.append(content)

    def plain(self, content: bytes) -> bytes:
        self.asked.append(content)
        if content not in self.plaintexts:
            raise Locked("no key opens it", passing=True)
        return self.plaintexts[content].encode()


@pytest.fixture
def ring() -> Keyring:
    return Keyring()


def read(ring: Keyring, content: str) -> FileReading:
    return replace(resolver(), decrypter=ring).read_file("a.yaml", content.encode())


def says(ring: Keyring, content: str) -> list[str]:
    return [str(problem) for problem in read(ring, content).problems]


@pytest.mark.parametrize("only", ["", "^value$"])
def test_an_encrypted_env_value_is_a_secret_of_the_service(ring, only):
    reading = read(ring, ring.encrypt(SPEC, only=only))
    (wanted,) = reading.wanted
    assert dict(wanted.service.workload.env) == {"COLOUR": "", "TOKEN": SecretRef("sops", "web/TOKEN")}
    assert wanted.secrets == {"web/TOKEN": "geheim {port}"}
    assert (wanted.service.name, wanted.service.replicas, wanted.service.workload.image) == ("web", 2, "mini:1")


@pytest.mark.parametrize("only", ["", "^value$"])
def test_a_secret_is_in_no_digest_no_mark_and_no_repr(ring, only):
    """Two values, one digest; and a file that was only encrypted anew is the same spec."""
    one = read(ring, ring.encrypt(SPEC, only=only)).wanted[0]
    two = read(ring, ring.encrypt(SPEC.replace("geheim", "other"), only=only, keys=(key(), MINE))).wanted[0]
    assert (one.service.digest, one.service.spec_digest) == (two.service.digest, two.service.spec_digest)
    assert one.secrets != two.secrets
    assert digest_of(one.service.workload) == one.service.digest
    assert "geheim" not in repr(one) + encode(one.service, Placement(0))


def test_other_encrypted_fields_are_the_plain_spec_that_they_are(ring):
    plain = read(ring, SPEC.replace("geheim {port}", '""')).wanted[0].service
    all_of_it = read(ring, ring.encrypt(SPEC.replace("geheim {port}", '""'), only="")).wanted[0].service
    assert replace(all_of_it, file="") == replace(plain, file="")


def test_json_files_are_read_too(ring, tmp_path):
    text = json.dumps(
        {"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": "web"}}
        | {"spec": {"container": {"image": "mini"}, "env": [{"key": "A", "value": "geheim"}]}},
        indent="\t",
    )
    sealed = encrypted(text, MINE, more=("--output-type", "json"))
    ring.plaintexts[sealed.encode()] = text
    assert read(ring, sealed).wanted[0].secrets == {"web/A": "geheim"}


def test_several_documents_are_each_decrypted_in_their_place(ring):
    sealed = ring.encrypt(SPEC + "---\n" + SPEC.replace("name: web", "name: api").replace("geheim", "other"))
    one, two = read(ring, sealed).wanted
    assert (one.secrets, two.secrets) == ({"web/TOKEN": "geheim {port}"}, {"api/TOKEN": "other {port}"})
    assert sealed.splitlines()[two.line - 1].startswith("apiVersion"), "lines are those of the file"


def test_what_cannot_be_decrypted_says_so_where_sops_wrote_its_part(ring):
    sealed = encrypted(SPEC, MINE)
    reading = read(ring, sealed)
    (problem,) = reading.problems
    assert sealed.splitlines()[problem.line - 1] == "sops:"
    assert str(problem).endswith(": sops: no key opens it")
    assert (reading.wanted, reading.passing) == ((), True)
    assert not replace(resolver()).read_file("a", sealed.encode()).passing


KMS = "    kms:\n        - {arn: 'arn:aws:kms:eu-west-1:1:key/2', enc: AQ==, created_at: '2026-01-01T00:00:00Z'}\n"
VAULT = "    hc_vault:\n        - {vault_address: 'http://198.51.100.7:8200', engine_path: transit, key_name: x}\n"


@pytest.mark.parametrize(
    "more",
    [
        KMS,
        KMS.replace("kms", "gcp_kms", 1),
        KMS.replace("kms", "azure_kv", 1),
        KMS.replace("kms", "hckms", 1),
        KMS.replace("kms", "pgp", 1),
        VAULT,
        "    key_groups:\n        - hc_vault: [{vault_address: 'http://198.51.100.7'}]\n",
        "    shamir_threshold: 2\n",
        "    tomorrows_kms: [x]\n",
        "    mac_only_encrypted: true\n",
    ],
)
def test_a_file_that_names_anything_but_age_keys_is_given_to_nobody(ring, more):
    sealed = ring.encrypt(SPEC).replace("sops:\n", f"sops:\n{more}")
    ring.plaintexts[sealed.encode()] = SPEC
    (said,) = says(ring, sealed)
    resolved = replace(resolver(), decrypter=ring)
    resolved.begin([sealed.encode()])
    assert (ring.asked, ring.begun) == ([], [])
    field = more.split(":")[0].strip()
    assert f": sops.{field}: " in said
    assert not read(ring, sealed).passing


def test_empty_lists_of_other_keys_as_older_versions_wrote_them_are_nothing(ring):
    sealed = ring.encrypt(SPEC).replace(
        "sops:\n", "sops:\n    kms: []\n    gcp_kms: []\n    pgp: []\n    hc_vault: []\n"
    )
    ring.plaintexts[sealed.encode()] = SPEC
    assert read(ring, sealed).problems == ()


@pytest.mark.parametrize(
    "trick",
    [
        "!!binary c29wcw==:\n    kms: [{arn: x}]\n",  # "sops" to the other parser
        "a: &x 1\n",
        "a: &x 1\nb: *x\n",
        "!!str b: 1\n",
        "a: !!binary c29wcw==\n",
    ],
)
def test_what_another_parser_may_read_otherwise_is_given_to_nobody(ring, trick):
    sealed = trick + ring.encrypt(SPEC)
    ring.plaintexts[sealed.encode()] = SPEC
    assert any("tag" in said for said in says(ring, sealed))
    assert ring.asked == []


def test_the_metadata_of_every_document_counts(ring):
    sealed = ring.encrypt(SPEC + "---\n" + SPEC.replace("name: web", "name: api"))
    at = sealed.rindex("sops:\n") + len("sops:\n")
    assert len(says(ring, sealed[:at] + KMS + sealed[at:])) == 1
    for other in ("--- {sops: 1}\n", "--- word\n"):
        assert "must be a mapping that sops wrote" in says(ring, ring.encrypt(SPEC) + other)[0]
    assert ring.asked == []


@pytest.mark.parametrize(
    "plain",
    [
        SPEC.replace("        image: mini:1\n", ""),
        SPEC.replace("replicaCount", "replicas"),
        SPEC + "---\n" + SPEC,
        "a: [",
        SPEC.replace("    env:\n", "    env: []\n    x:\n"),
        "[]",
        SPEC.replace('        - key: COLOUR\n          value: ""\n', ""),
    ],
)
def test_plaintext_that_is_not_of_this_file_is_not_taken(ring, plain):
    sealed = ring.encrypt(SPEC)
    ring.plaintexts[sealed.encode()] = plain
    assert ["not this file" in said for said in says(ring, sealed)] == [True]


def test_values_that_were_not_encrypted_are_taken_from_the_file_itself(ring):
    """The program writes a date in its own way."""
    text = SPEC.replace("    name: web\n", "    name: web\n    annotations: {note: 2026-11-01}\n")
    sealed = ring.encrypt(text)
    assert "2026-11-01T00:00:00Z" in sealed
    ring.plaintexts[sealed.encode()] = sealed.split("sops:")[0].replace("2026-11-01T00:00:00Z", "2026-11-01")
    assert read(ring, sealed).problems == ()


WRONG = {
    "replicaCount": ("replicaCount: 2", "replicaCount: 4711"),
    "type": ("replicaCount: 2", "replicaCount: verraten"),
    "image": ("image: mini:1", "image: ' verraten'"),
    "engine": ("    replicaCount: 2", "    engine: verraten"),
    "name": ("name: web", "name: VERRATEN"),
    "env key": ("key: COLOUR", "key: verr-aten"),
    "twice": ("key: COLOUR", "key: TOKEN"),
    "not a text": ("value: geheim {port}", "value: 4711"),
    "secret file": ('value: ""', "valueFrom: {file: /verraten/x}"),
    "secret env": ('value: ""', "valueFrom: {env: VERRATEN}"),
    "port": ("    replicaCount: 2", "    hostPort: 4711"),
    "address": ("    replicaCount: 2", "    bindAddress: 4.7.1.1"),
    "volume": ("        port: 8080", "        volumes: [{hostPath: /verraten/y, mountPath: /x}]"),
    "argument": ("        port: 8080", "        args: ['verraten {port}']"),
    "model": ("    replicaCount: 2", "    engine: llama.cpp\n    modelFile: /verraten/z"),
    "option": ("    replicaCount: 2", "    docker: {network: verraten}"),
    "kind": ("kind: DeploySpec", "kind: DeploySpecs"),
    "suspend": ("    name: web", "    name: web\n    annotations: {xmod.dev/suspend: verraten}"),
    "restarted": ("    name: web", "    name: web\n    annotations: {xmod.dev/restartedAt: verraten}"),
    "long": ("image: mini:1", "image: '" + "verraten " * 20 + "'"),
    "health": ("        port: 8080", "        health: {startupDeadline: verraten}"),
    "devices": ("    replicaCount: 2", "    resourceRequirements: {acceleratorCount: 47, acceleratorIds: [verraten]}"),
    "model source": ("    replicaCount: 2", "    model: {source: 'hf://verraten'}"),
    "strategy": ("    replicaCount: 2", "    rollout: {strategy: verraten}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_messages_quote_no_value_that_was_encrypted_and_say_where_it_is(ring, case):
    """Each is wrong in plain, with the value quoted; encrypted, the same fields are to blame, and no value is."""
    text = SPEC.replace(*WRONG[case])
    assert text != SPEC
    told = re.compile("verraten|VERRATEN|verr-aten|4711|4\\.7\\.1\\.1|DeploySpecs|\\b47\\b|geheim")
    plain = read(ring, text).problems
    sealed = ring.encrypt(text, only="")
    reading = read(ring, sealed)
    assert plain
    fields = {problem.field for problem in plain if "{port}" not in problem.message or "args" in problem.field}
    assert {problem.field for problem in reading.problems} == fields, "nothing is filled in in a secret"
    for problem in reading.problems:
        assert not told.search(str(problem)), str(problem)
        assert problem.message
        last = re.split(r"[./\[]", problem.field)[-1].rstrip(']"')
        assert last in sealed.splitlines()[problem.line - 1] or "- " in sealed.splitlines()[problem.line - 1]


def test_what_was_not_encrypted_is_quoted_as_ever(ring):
    assert says(ring, ring.encrypt(SPEC.replace("replicaCount: 2", "replicaCount: 4711"))) == [
        "14:19: spec.replicaCount: must be at most 64, not 4711; to stop a service, delete its document"
    ]


def test_a_file_of_another_program_with_a_key_sops_is_no_encrypted_one(ring):
    assert "sops: is not a known field" in says(ring, SPEC + "sops: {colour: blue}\n")[0]
    assert ring.asked == []


def test_what_will_be_read_is_begun_and_only_that(ring):
    sealed = ring.encrypt(SPEC).encode()
    replace(resolver(), decrypter=ring).begin([SPEC.encode(), sealed, b"sops: [", b"sops: {mac: 1", b""])
    assert ring.begun == [sealed]


def test_overrides_for_other_hosts_bring_their_own_secrets_and_change_no_digest(ring):
    """A list replaces a list: each host has the value that is for it."""
    here, there = HostId("here"), HostId("there")
    override = "    overrides:\n        - hosts: [there]\n          spec: {env: [{key: TOKEN, value: anders}]}\n"
    sealed = ring.encrypt(SPEC.replace("    env:\n", f"{override}    env:\n"))
    read_as = {
        host.name: replace(resolver(), decrypter=ring, host=host).read_file("a.yaml", sealed.encode()).wanted[0]
        for host in (here, there)
    }
    assert read_as["here"].secrets == {"web/TOKEN": "geheim {port}"}
    assert read_as["there"].secrets == {"web/TOKEN": "anders"}
    alone = replace(resolver(), decrypter=ring, host=here).read_file("a.yaml", ring.encrypt(SPEC).encode()).wanted[0]
    assert alone.service.spec_digest == read_as["here"].service.spec_digest


PRIVATE = SPEC.replace(
    "        port: 8080\n", "        port: 8080\n        imageCredentials: {username: robot, password: ein-pass}\n"
)


def test_an_encrypted_image_password_is_a_secret_that_is_in_no_digest(ring):
    wanted = read(ring, ring.encrypt(PRIVATE)).wanted[0]
    assert wanted.service.image_login == ImageLogin("robot", SecretRef("sops", "web/image.password"))
    assert wanted.secrets["web/image.password"] == "ein-pass"
    plain = read(ring, ring.encrypt(SPEC)).wanted[0].service
    assert plain.digest == wanted.service.digest
    mark = encode(wanted.service, Placement(0))
    assert "ein-pass" not in mark
    assert decode(mark)[0] == wanted.service


def test_an_image_password_in_plain_text_is_refused_and_not_quoted(ring):
    for content in (PRIVATE, ring.encrypt(PRIVATE, only="^value$")):
        (said,) = [said for said in says(ring, content) if "imageCredentials" in said]
        assert "imageCredentials.password: would be in git for all to read" in said
        assert "ein-pass" not in said
