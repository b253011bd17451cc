"""Only a signature by a key that the operator named is good, whatever the repository, its settings or the signer say."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from agent.source.git.command import Repository
from agent.source.git.object import Objects
from agent.source.git.signature import Finding, Keys, NoKeys, Verifier
from agent.source.snapshot import UNVERIFIED
from tests.fakes.following import git
from tests.fakes.signing import signed_commit, ssh_key


def content_of(root: Path, oid: str, kind: str = "commit") -> bytes:
    with Objects(Repository(("-C", str(root))), seconds=10) as objects:
        return objects.content(oid, kind)


def found(keys: Keys, content: bytes, kind: str = "commit", *, wide: bool = False) -> Finding:
    algorithm = hashlib.sha256 if wide else hashlib.sha1
    oid = algorithm(f"{kind} {len(content)}\0".encode() + content).hexdigest()
    with Verifier(keys.read()) as verifier:
        seen = verifier.finding(kind, oid, content)
    assert seen.reason in ("", *UNVERIFIED)
    return seen


def judged(repo, keys: Keys, name: str = "HEAD", kind: str = "commit") -> Finding:
    return found(keys, content_of(repo.root, repo.git("rev-parse", name).strip(), kind), kind)


def test_a_commit_by_a_named_ssh_key_is_good(repo, jane, signers):
    signed_commit(repo.root, jane.settings)
    assert judged(repo, Keys(signers)) == Finding("")


def test_a_commit_without_a_signature_is_not(repo, signers):
    assert judged(repo, Keys(signers)) == Finding("unsigned", "it is not signed")


def test_a_key_that_nobody_named_is_unknown_and_is_said(repo, mallory, signers):
    signed_commit(repo.root, mallory.settings)
    seen = judged(repo, Keys(signers))
    shown = subprocess.run(["ssh-keygen", "-lf", mallory.file], capture_output=True, text=True, check=True).stdout
    assert seen.reason == "unknown"
    assert shown.split()[1] in seen.why
    assert str(signers) in seen.why


def test_a_key_named_for_another_purpose_is_unknown(repo, jane, signers):
    signed_commit(repo.root, jane.settings)
    signers.write_text(jane.allowed(options='namespaces="file"'))
    assert judged(repo, Keys(signers)).reason == "unknown"
    signers.write_text(jane.allowed(options='namespaces="git"'))
    assert judged(repo, Keys(signers)).good


def test_a_signature_made_for_another_purpose_is_bad(repo, jane, signers, tmp_path):
    oid = signed_commit(repo.root, jane.settings)
    content = content_of(repo.root, oid)
    signature = content[content.index(b"gpgsig ") : content.index(b"-----END SSH SIGNATURE-----\n") + 28]
    (tmp_path / "payload").write_bytes(content.replace(signature, b""))
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(jane.file), str(tmp_path / "payload")]
    subprocess.run(words, check=True, capture_output=True)
    other = (tmp_path / "payload.sig").read_bytes().rstrip(b"\n").replace(b"\n", b"\n ")
    forged = content.replace(signature, b"gpgsig " + other + b"\n")
    assert found(Keys(signers), forged).reason == "bad"


def test_a_changed_commit_is_bad(repo, jane, signers):
    oid = signed_commit(repo.root, jane.settings, message="innocent")
    content = content_of(repo.root, oid)
    assert found(Keys(signers), content).good
    assert found(Keys(signers), content.replace(b"innocent", b"something")).reason == "bad"
    tree = content[5:45]
    assert found(Keys(signers), content.replace(tree, b"4b825dc642cb6eb9a060e54bf8d69288fbee4904")).reason == "bad"


def test_an_ssh_key_counts_in_its_time(repo, jane, signers):
    signers.write_text(jane.allowed(options='valid-after="20200101",valid-before="20210101"'))
    signed_commit(repo.root, jane.settings, at="2020-06-01T00:00:00Z")
    assert judged(repo, Keys(signers)).good
    for at in ("2019-06-01T00:00:00Z", "2021-06-01T00:00:00Z"):
        signed_commit(repo.root, jane.settings, at=at)
        assert judged(repo, Keys(signers)).reason == "expired"


def test_a_certificate_counts_for_its_principal_alone(repo, jane, tmp_path):
    authority = ssh_key(tmp_path / "ca")
    signer = ssh_key(tmp_path / "signer")
    words = ["ssh-keygen", "-q", "-s", str(authority.file), "-I", "t", "-n", "jane@example.com", f"{signer.file}.pub"]
    subprocess.run(words, check=True, capture_output=True)
    certified = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={signer.file}-cert.pub")
    (tmp_path / "signer-cert").write_bytes(signer.file.read_bytes())
    (tmp_path / "signer-cert").chmod(0o600)
    signed_commit(repo.root, certified)
    allowed = tmp_path / "allowed"
    allowed.write_text(authority.allowed(who="jane@example.com", options="cert-authority"))
    assert judged(repo, Keys(allowed)).good
    allowed.write_text(authority.allowed(who="joe@example.com", options="cert-authority"))
    assert judged(repo, Keys(allowed)).reason in ("unknown", "bad")


def test_a_signed_tag_is_judged_as_a_commit_is(repo, jane, mallory, signers):
    git(repo.root, *jane.settings, "tag", "-s", "-m", "one", "v1")
    git(repo.root, *mallory.settings, "tag", "-s", "-m", "two", "v2")
    git(repo.root, "tag", "-a", "-m", "three", "v3")
    assert judged(repo, Keys(signers), "v1", "tag").good
    assert judged(repo, Keys(signers), "v2", "tag").reason == "unknown"
    assert judged(repo, Keys(signers), "v3", "tag").reason == "unsigned"


def test_a_repository_of_sha256_is_judged_too(tmp_path, jane, signers):
    root = tmp_path / "wide"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    oid = signed_commit(root, jane.settings)
    assert found(Keys(signers), content_of(root, oid), wide=True).good


# gpg


def test_a_commit_by_a_key_of_the_keyring_is_good_and_no_other(repo, gpg, tmp_path):
    known, stranger = gpg.key("known"), gpg.key("stranger")
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(known))
    signed_commit(repo.root, gpg.settings(known))
    assert judged(repo, Keys(keyring=ring)) == Finding("")
    ring.write_bytes(gpg.gpg("--export", known))
    assert judged(repo, Keys(keyring=ring)).good, "not armoured"
    signed_commit(repo.root, gpg.settings(stranger))
    seen = judged(repo, Keys(keyring=ring))
    assert (seen.reason, stranger[-16:] in seen.why) == ("unknown", True)
    ring.write_bytes(gpg.exported(known) + gpg.exported(stranger))
    assert judged(repo, Keys(keyring=ring)).good, "two files in one"


def test_a_revoked_key_is_not_good_any_more(repo, gpg, tmp_path):
    key = gpg.key("leaver")
    signed_commit(repo.root, gpg.settings(key))
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(key))
    assert judged(repo, Keys(keyring=ring)).good
    certificate = (gpg.root / "openpgp-revocs.d" / f"{key}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
    with ring.open("a") as keys:
        keys.write(certificate[certificate.index("-----BEGIN") :])
    assert judged(repo, Keys(keyring=ring)).reason == "revoked"


def test_an_expired_key_is_not_good(repo, gpg, tmp_path):
    key = gpg.key("passing", expires="seconds=1")
    signed_commit(repo.root, gpg.settings(key))
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(key))
    for _ in range(300):
        if judged(repo, Keys(keyring=ring)).reason:
            break
    assert judged(repo, Keys(keyring=ring)).reason == "expired"


def test_a_digest_that_can_be_forged_is_not_good(repo, gpg, tmp_path):
    key = gpg.key("weak")
    program = gpg.root / "weak"
    program.write_text(f'#!/bin/sh\nexec gpg --homedir {gpg.root} --batch --digest-algo SHA1 "$@"\n')
    program.chmod(0o755)
    signed_commit(repo.root, (*gpg.settings(key), "-c", f"gpg.program={program}"))
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(key))
    assert judged(repo, Keys(keyring=ring)).reason == "bad"


def test_the_users_own_keyring_has_no_say(repo, gpg, tmp_path, monkeypatch):
    key = gpg.key("own")
    signed_commit(repo.root, gpg.settings(key))
    monkeypatch.setenv("GNUPGHOME", str(gpg.root))
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(gpg.key("other")))
    assert judged(repo, Keys(keyring=ring)).reason == "unknown"


def test_a_file_that_is_no_keyring_is_an_error(repo, gpg, tmp_path):
    signed_commit(repo.root, gpg.settings(gpg.key("any")))
    ring = tmp_path / "keys.asc"
    ring.write_text("nothing of the kind\n")
    seen = judged(repo, Keys(keyring=ring))
    assert seen.reason == "error"
    assert "holds no public keys" in seen.why


# what must not help


def test_a_form_whose_keys_were_not_given_is_unknown(repo, jane, gpg, signers, tmp_path):
    signed_commit(repo.root, gpg.settings(gpg.key("gpg-only")))
    seen = judged(repo, Keys(signers))
    assert (seen.reason, "source.keyring" in seen.why) == ("unknown", True)
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported())
    signed_commit(repo.root, jane.settings)
    assert judged(repo, Keys(keyring=ring)).reason == "unknown"


def test_settings_of_whoever_runs_the_agent_make_nothing_good(repo, mallory, signers, tmp_path, monkeypatch):
    """Nor do those of the repository, which is not even asked: see test_worktree."""
    signed_commit(repo.root, mallory.settings)
    others = tmp_path / "others"
    others.write_text(mallory.allowed())
    yes = tmp_path / "yes"
    yes.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho 'Good \"git\" signature for t with ED25519 key SHA256:x'\n")
    yes.chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f'[gpg]\nprogram={yes}\nminTrustLevel=never\n[gpg "ssh"]\nprogram={yes}\nallowedSignersFile={others}\n'
        f'[gpg "x509"]\nprogram={yes}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert judged(repo, Keys(signers)).reason == "unknown"
    assert not (tmp_path / "ran").exists()


def test_a_signature_in_the_message_or_of_x509_is_none(repo, jane, signers):
    content = content_of(repo.root, signed_commit(repo.root, jane.settings))
    signature = content[content.index(b"-----BEGIN") : content.index(b"-----END SSH SIGNATURE-----\n") + 28]
    unsigned = content.replace(b"gpgsig " + signature, b"")
    assert found(Keys(signers), unsigned + signature).reason == "unsigned"
    x509 = content.replace(b"SSH SIGNATURE", b"SIGNED MESSAGE")
    assert found(Keys(signers), x509).reason == "unknown"


def test_without_the_program_it_is_an_error_and_not_a_verdict(repo, jane, signers, monkeypatch, tmp_path):
    content = content_of(repo.root, signed_commit(repo.root, jane.settings))
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = found(Keys(signers), content)
    assert seen.reason == "error"
    assert "ssh-keygen is not installed" in seen.why


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), (" \n", "is empty")])
def test_a_file_of_keys_that_is_missing_or_empty_is_named(tmp_path, text, said):
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    for setting, keys in (("allowedSigners", Keys(file)), ("keyring", Keys(keyring=file))):
        with pytest.raises(NoKeys, match=rf"source\.{setting}: .*{said}"):
            keys.read()


def test_nothing_is_left_behind(repo, jane, signers, gpg, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    ring = tmp_path / "keys.asc"
    ring.write_bytes(gpg.exported(gpg.key("tidy")))
    signed_commit(repo.root, jane.settings)
    assert judged(repo, Keys(signers, ring)).good
    assert list(scratch.iterdir()) == []
