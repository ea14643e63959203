from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.contract.errors import InvalidRequest, UnknownModel
from headrace.models.errors import DamagedModel, StoreFailed
from headrace.models.manifest import Manifest
from headrace.models.seal import digest_file
from headrace.models.store import Builder, ModelStore, StoredModel, default_root

MANIFEST = Manifest(
    name="tiny",
    engine="fake",
    architecture="fake",
    context_length=128,
    vocab_size=300,
    end_token_ids=(2,),
    end_tokens=("</s>",),
    quantisation="none",
    parameters=0,
    source="test",
    licence="none",
)


def builder(name: str = "tiny", text: str = "weights") -> Builder:
    def build(folder: Path) -> Manifest:
        (folder / "model.bin").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub/more.txt").write_text("more")
        return dataclasses.replace(MANIFEST, name=name)

    return build


def visible(store: ModelStore) -> list[str]:
    """Everything in the store's root but its locks; of a version's folder the name alone."""
    names = {p.name.partition("@")[0] for p in store.root.iterdir() if p.name not in (".locks", ".uses")}
    return sorted(names)


def test_an_installed_model_is_listed_opened_and_whole(store: ModelStore) -> None:
    """install → list, open and verify all see it, with the digests of its files."""
    installed = store.install("tiny", builder())
    assert [m.name for m in store.list()] == ["tiny"] == list(store.names())
    assert store.open("tiny") == installed == store.verify("tiny")
    assert installed.path == store.root / f"tiny@{installed.manifest.version}"
    assert (store.root / "tiny").resolve() == installed.path.resolve(), "by its name it is found as ever"
    assert {f: e.size for f, e in installed.manifest.files.items()} == {"model.bin": 7, "sub/more.txt": 4}
    assert visible(store) == ["tiny"]


def test_an_empty_or_missing_root_holds_no_models(store: ModelStore) -> None:
    """A store that nobody has used yet is empty, not an error."""
    assert list(store.list()) == []
    with pytest.raises(UnknownModel, match="available: none"):
        store.open("tiny")


def test_an_unknown_model_is_named_with_the_known_ones(store: ModelStore) -> None:
    """The error says which models there are."""
    store.install("tiny", builder())
    store.install("other", builder("other"))
    for ask in (store.open, store.verify, store.remove):
        with pytest.raises(UnknownModel) as caught:
            ask("smollm9")
        assert caught.value.known == ("other", "tiny")


@pytest.mark.parametrize("name", ["", "a.b", "a*", "a>", "a b", "../tiny", "/etc", "ü", "x" * 65])
def test_a_name_is_one_subject_token(store: ModelStore, name: str) -> None:
    """What cannot be one token of a subject cannot be installed, and is unknown when asked for."""
    with pytest.raises(InvalidRequest):
        store.install(name, builder(name))
    with pytest.raises(UnknownModel):
        store.open(name)


def test_a_failed_build_leaves_nothing(store: ModelStore) -> None:
    """The builder's error comes through; the former model is untouched."""
    store.install("tiny", builder(text="old"))

    def failing(folder: Path) -> Manifest:
        (folder / "model.bin").write_text("half")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        store.install("tiny", failing)
    assert visible(store) == ["tiny"]
    assert (store.verify("tiny").path / "model.bin").read_text() == "old"


def test_an_interrupted_build_is_cleared_by_the_next(store: ModelStore) -> None:
    """A process that is killed while it builds leaves no model, and what it left goes with the next install."""
    code = f"""
import os, signal
from pathlib import Path
from headrace.models.store import ModelStore
def build(folder):
    (folder / "model.bin").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
ModelStore(Path({str(store.root)!r})).install("tiny", build)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(visible(store)) == 1
    assert list(store.list()) == []
    store.install("other", builder("other"))
    assert any(name.startswith(".partial") for name in visible(store)), (
        "another model's install must not touch it: its owner may be at work"
    )
    store.install("tiny", builder())
    assert visible(store) == ["other", "tiny"]


def test_replacing_keeps_the_old_one_until_the_new_one_is_whole(store: ModelStore) -> None:
    """While the new model is built its name means the old one; afterwards the new one, and the old one is beside it."""
    old = store.install("tiny", builder(text="old"))

    def looking(folder: Path) -> Manifest:
        assert store.verify("tiny") == old
        return builder(text="new")(folder)

    new = store.install("tiny", looking)
    assert new.manifest.version != old.manifest.version
    assert (store.verify("tiny").path / "model.bin").read_text() == "new"
    assert (store.verify(old.reference).path / "model.bin").read_text() == "old"
    assert visible(store) == ["tiny"]


def test_a_swap_that_was_cut_off_is_undone(store: ModelStore) -> None:
    """Killed between the two renames of a replacement: whoever takes the lock next finds the former model again."""
    as_before_versions(store, "tiny", text="old")
    (store.root / "tiny").rename(store.root / ".replaced.tiny")
    with store.locked("tiny"):
        assert (store.verify("tiny").path / "model.bin").read_text() == "old"
    assert visible(store) == ["tiny"]


def as_before_versions(store: ModelStore, name: str, text: str) -> StoredModel:
    """A model as a store held it before there were versions: a folder of its name."""
    installed = store.install(name, builder(name, text))
    (store.root / name).unlink()
    installed.path.rename(store.root / name)
    return store.open(name)


def test_a_model_from_before_there_were_versions_is_served_and_moved_over(store: ModelStore) -> None:
    """It is found by its name and by its version as it lies; with the next version it becomes one beside that."""
    old = as_before_versions(store, "tiny", text="old")
    assert old.path == store.root / "tiny"
    assert store.verify(old.reference) == old == store.verify("tiny")
    assert [model.reference for model in store.versions()] == [old.reference]
    new = store.install("tiny", builder(text="new"))
    assert store.verify("tiny") == new
    assert store.verify(old.reference).path == store.root / old.reference
    assert {model.reference for model in store.versions()} == {old.reference, new.reference}


@pytest.mark.parametrize("moved", [False, True])
def test_moving_over_survives_a_kill(store: ModelStore, moved: bool) -> None:
    """Killed on either side of the rename: whoever takes the lock next finds the model under its name."""
    old = as_before_versions(store, "tiny", text="old")
    (store.root / ".link.tiny").symlink_to(old.reference)
    if moved:
        old.path.rename(store.root / old.reference)
    with store.locked("tiny"):
        assert (store.verify("tiny").path / "model.bin").read_text() == "old"
    assert visible(store) == ["tiny"]


def test_a_version_is_found_by_its_first_digits(store: ModelStore) -> None:
    """As many as tell it apart; digits of none, or of several, are an error that says which there are."""
    versions = [store.install("tiny", builder(text=str(n))) for n in range(20)]
    for model in versions:
        assert store.open(model.reference) == model
    last = versions[-1].manifest.version
    others = [model.manifest.version for model in versions[:-1]]
    digits = next(n for n in range(1, 13) if not any(other.startswith(last[:n]) for other in others))
    assert store.open(f"tiny@{last[:digits]}") == versions[-1]
    shared = next(v[0] for v in others if sum(w[0] == v[0] for w in others) > 1)
    with pytest.raises(InvalidRequest, match="give more digits"):
        store.open(f"tiny@{shared}")
    with pytest.raises(UnknownModel, match=f"tiny@{last}"):
        store.open(f"tiny@{'0123456789ab'}")


def test_the_same_version_again_is_one_version(store: ModelStore) -> None:
    """What is built anew from the same files takes the place of what may have been damaged."""
    first = store.install("tiny", builder())
    (first.path / "model.bin").write_text("damage")
    second = store.install("tiny", builder())
    assert second.reference == first.reference
    store.verify("tiny")
    assert len(store.versions()) == 1


def test_one_version_is_removed_and_the_others_stay(store: ModelStore) -> None:
    """The name stays with the version that it means, and goes with it."""
    old, new = store.install("tiny", builder(text="old")), store.install("tiny", builder(text="new"))
    store.remove(old.reference)
    assert store.verify("tiny") == new
    store.remove(f"tiny@{new.manifest.version[:6]}")
    assert list(store.names()) == []
    assert list(store.versions()) == []


def test_a_manifest_that_lists_other_files_is_found(store: ModelStore) -> None:
    """Whoever changes a file and its digest in the manifest has changed what the version is of."""
    model = store.install("tiny", builder())
    changed(model.path / "sub/more.txt")
    entry = model.manifest.files["sub/more.txt"]
    forged = dataclasses.replace(entry, sha256=digest_file(model.path / "sub/more.txt"))
    manifest = dataclasses.replace(model.manifest, files={**model.manifest.files, "sub/more.txt": forged})
    (model.path / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(DamagedModel, match="version"):
        store.verify("tiny")


def test_installs_of_one_model_wait_for_each_other(store: ModelStore) -> None:
    """A second install of the same name is told that it waits, and begins when the first has ended; others go on."""
    inside, waiting, leave = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow(folder: Path) -> Manifest:
        inside.set()
        assert leave.wait(10)
        order.append("first")
        return builder()(folder)

    def second() -> None:
        with store.locked("tiny", waiting=waiting.set):
            order.append("second")

    threads = [threading.Thread(target=lambda: store.install("tiny", slow)), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert waiting.wait(10)
    store.install("other", builder("other"))
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def missing(file: Path) -> None:
    file.unlink()


def changed(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"X")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(missing, "missing"), (changed, "SHA-256"), (truncated, "3 bytes instead of 4")],
)
def test_damage_is_found_and_named(store: ModelStore, damage: Callable[[Path], None], reason: str) -> None:
    """A file that is missing, changed or truncated is named, with the way out."""
    damage(store.install("tiny", builder()).path / "sub/more.txt")
    with pytest.raises(DamagedModel) as caught:
        store.verify("tiny")
    assert (caught.value.model, caught.value.file) == ("tiny", "sub/more.txt")
    assert reason in caught.value.reason
    assert "headrace model pull tiny" in str(caught.value)


def test_a_damaged_manifest_is_an_error_on_opening(store: ModelStore) -> None:
    """It is found by open, and the model is left out of the list."""
    manifest = store.install("tiny", builder()).path / "manifest.json"
    manifest.write_text("{")
    with pytest.raises(DamagedModel, match=r"manifest\.json: not JSON"):
        store.open("tiny")
    assert list(store.list()) == []
    manifest.unlink()
    with pytest.raises(DamagedModel, match=r"manifest\.json: missing"):
        store.open("tiny")


def test_a_folder_under_another_name_is_damaged(store: ModelStore) -> None:
    """A model's folder that somebody renamed is refused: its name is part of subjects and metrics."""
    store.install("tiny", builder()).path.rename(store.root / "other")
    with pytest.raises(DamagedModel, match="manifest of 'tiny'"):
        store.open("other")


def test_a_builder_must_make_what_it_was_asked_for(store: ModelStore) -> None:
    """A manifest of another name is our own bug, and installs nothing."""
    with pytest.raises(ValueError, match="'other'"):
        store.install("tiny", builder("other"))
    assert visible(store) == []


def test_a_root_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """A store that cannot be used says why and where."""
    (tmp_path / "file").write_text("")
    store = ModelStore(tmp_path / "file")
    with pytest.raises(StoreFailed, match="file"):
        store.list()
    with pytest.raises(StoreFailed, match="file"):
        store.install("tiny", builder())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """No permission is an error of the store, with its path."""
    tmp_path.chmod(0o500)
    with pytest.raises(StoreFailed, match="Permission denied"):
        ModelStore(tmp_path / "store").install("tiny", builder())


def test_removing_takes_the_model_away(store: ModelStore) -> None:
    """remove → gone."""
    store.install("tiny", builder())
    store.remove("tiny")
    assert visible(store) == []


def test_the_default_root_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_CACHE_HOME decides where models are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "headrace/models"
