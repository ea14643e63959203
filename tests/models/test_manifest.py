from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.models.errors import BadManifest
from headrace.models.manifest import FileEntry, Manifest, parse_manifest, read_manifest

MANIFEST = Manifest(
    name="tiny",
    engine="ctranslate2",
    architecture="llama",
    context_length=128,
    vocab_size=300,
    end_token_ids=(2, 0),
    end_tokens=("<|im_end|>", "<|endoftext|>"),
    chat_template="{{ 'ü\n' }}",
    quantisation="int8",
    parameters=1234,
    source="pypi:tiny==1",
    licence="Apache-2.0",
).sealed({"b": FileEntry(sha256="22" * 32, size=2), "a": FileEntry(sha256="11" * 32, size=1)})


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(MANIFEST.to_json()), **fields})


def test_it_survives_json(tmp_path: Path) -> None:
    """Written and read again it is equal."""
    assert parse_manifest(MANIFEST.to_json(), tmp_path) == MANIFEST


def test_the_version_follows_from_the_files_alone() -> None:
    """Equal files give an equal version in whatever order; one other digest gives another."""
    files = dict(MANIFEST.files)
    assert MANIFEST.sealed(dict(reversed(files.items()))).version == MANIFEST.version
    assert len(MANIFEST.version) == 12
    files["a"] = FileEntry(sha256="33" * 32, size=1)
    assert MANIFEST.sealed(files).version != MANIFEST.version


def test_its_size_is_that_of_its_files() -> None:
    """`size` adds up the files."""
    assert MANIFEST.size == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "no 'format'"),
        ("{}", "no 'format'"),
        (changed(format=2), "manifest format 2; this version of Headrace reads format 1"),
        (changed(context_length="long"), "context_length"),
        (changed(engine="magic"), "engine"),
        (changed(colour="blue"), "colour"),
        (changed(files={"../../etc/passwd": {"sha256": "00", "size": 1}}), "outside"),
        (changed(files={"/etc/passwd": {"sha256": "00", "size": 1}}), "outside"),
        (changed(files={"a": {"sha256": "00"}}), "size"),
    ],
)
def test_a_malformed_one_is_a_clear_error(text: str, reason: str) -> None:
    """What is wrong is named, with the path."""
    with pytest.raises(BadManifest) as caught:
        parse_manifest(text, Path("store/tiny/manifest.json"))
    assert reason in caught.value.reason
    assert str(caught.value).startswith("store/tiny/manifest.json: ")


def test_all_faults_are_named() -> None:
    """Two faults, one error."""
    with pytest.raises(BadManifest, match=r"context_length.*vocab_size|vocab_size.*context_length"):
        parse_manifest(changed(context_length="x", vocab_size="y"), Path("m"))


def test_a_missing_or_binary_one_is_a_clear_error(tmp_path: Path) -> None:
    """No file, and a file that is no text."""
    with pytest.raises(BadManifest, match="missing"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadManifest, match="cannot be read"):
        read_manifest(tmp_path)
