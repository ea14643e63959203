"""References, and the desired state as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.contract.deployments import Assigned, Assignment, ModelState, NodeModel, NodeReport, Wish
from headrace.contract.deployments_document import read_assigned, read_report, read_wish, write_document
from headrace.contract.errors import InvalidRequest
from headrace.contract.references import Reference, is_reference, parse_reference

VERSION = "0123456789ab"
WISH = Wish(reference=f"m@{VERSION}", version=VERSION, size=7, labels={"zone": "a"}, replicas=2, asked_s=1.5)
ASSIGNED = Assigned(models=(Assignment(reference="m", version=VERSION, since_s=2.5),))
REPORT = NodeReport(
    node="w-1",
    labels={"zone": "a"},
    memory_bytes=9,
    models=(NodeModel(reference="m", version=VERSION, state=ModelState.FETCHING, progress=0.5),),
)


@pytest.mark.parametrize(
    ("text", "reference"),
    [("m", Reference("m")), ("m@0", Reference("m", "0")), (f"m-1_@{VERSION}", Reference("m-1_", VERSION))],
)
def test_a_reference_is_a_name_or_a_version_of_it(text: str, reference: Reference) -> None:
    """Read, and written again as it was."""
    assert parse_reference(text) == reference
    assert str(reference) == text
    assert is_reference(text) is (reference.exact or not reference.version)


@pytest.mark.parametrize(
    "text", ["", "@1", "m@", "m@x", "m@1@2", "a.b", "m@0123456789abc", "m@A", "m 1", "*@1"]
)
def test_what_is_no_reference_is_refused_by_its_field(text: str) -> None:
    """It never becomes part of a key, a path or a subject."""
    with pytest.raises(InvalidRequest) as caught:
        parse_reference(text, "reference")
    assert caught.value.field == "reference"
    assert not is_reference(text)


def test_the_documents_survive_their_way() -> None:
    """Written and read again they are equal, and what a newer version adds is left out."""
    assert read_wish(write_document(WISH)) == WISH
    assert read_assigned(write_document(ASSIGNED)) == ASSIGNED
    assert read_report(write_document(REPORT)) == REPORT
    assert read_wish(json.dumps({**json.loads(write_document(WISH)), "later": 1}).encode()) == WISH
    assert (WISH.key, WISH.exact) == (f"deploy.m.{VERSION}", f"m@{VERSION}")


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "a.b"},
        {"reference": "m@000000000000"},
        {"version": "0"},
        {"version": "../../../../"},
        {"size": -1},
        {"size": "7"},
        {"replicas": 10_001},
        {"replicas": 1.5},
        {"device": "tpu"},
        {"compute_type": "../x"},
        {"labels": {"zone": 1}},
        {"labels": []},
    ],
)
def test_a_wish_that_makes_no_sense_is_none(change: dict[str, Any]) -> None:
    """Whoever may write to the bucket may write anything."""
    with pytest.raises(ValueError, match="what it should be"):
        read_wish(json.dumps({**json.loads(write_document(WISH)), **change}).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"models": 1}', b'{"models": [1]}', b"\xff"])
def test_bytes_that_are_no_document_are_none(body: bytes) -> None:
    """For all three."""
    for read in (read_wish, read_report, read_assigned):
        with pytest.raises(ValueError):  # noqa: PT011
            read(body)
