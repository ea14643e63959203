"""What a router makes tokens for: by name, by what is wanted, and by what workers have."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.models.fake import FakeTiming, install_fake_model
from headrace.models.store import ModelStore, StoredModel
from headrace.router.models import RouterModels


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def version(store: ModelStore, step_s: float, context_length: int = 4096) -> StoredModel:
    return install_fake_model(store, timing=FakeTiming(step_s=step_s), context_length=context_length)


def test_a_name_means_what_the_store_says_and_what_is_wanted_goes_before(store: ModelStore) -> None:
    """A version that is wanted is known by its reference, too; one that is not here is missing, and changes nothing."""
    old, new = version(store, 0.1), version(store, 0.2)
    models = RouterModels(store)
    assert models.look()
    assert not models.look()
    assert models.names() == {"fake"}
    assert models.serves("fake", new.manifest.version)
    assert not models.serves(old.reference, old.manifest.version)
    assert models.look({"fake": old.manifest.version, new.reference: new.manifest.version})
    assert models.names() == {"fake", new.reference}
    meant = models.get("fake")
    assert meant is not None
    assert meant.manifest.version == old.manifest.version
    models.look({"fake": "0" * 12, "other": "1" * 12})
    assert models.names() == {"fake"}, "what a name means goes on until the wanted version is here"
    assert models.missing == {("fake", "0" * 12), ("other", "1" * 12)}


def test_while_a_version_changes_both_are_served(store: ModelStore) -> None:
    """Where they have the same words; with another context length a request that was prepared for one may not fit the
    other.
    """
    old, new, longer = version(store, 0.1), version(store, 0.2), version(store, 0.3, context_length=99)
    models = RouterModels(store)
    offered = {("fake", model.manifest.version) for model in (old, new, longer)}
    models.look({"fake": new.manifest.version}, offered)
    assert models.serves("fake", new.manifest.version)
    assert models.serves("fake", old.manifest.version)
    assert not models.serves("fake", longer.manifest.version)
    assert not models.serves("other", new.manifest.version)
