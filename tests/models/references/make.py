"""Makes the references anew, with transformers. Needs the extra `convert` and the package sentencepiece.

The GGUF files are then those of our own writer; `make_gguf` has llama.cpp write them, as the committed ones are.

python -m tests.models.references.make [--into FOLDER] [ARCHITECTURE …]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from headrace.models.transformers_import import import_checkpoint
from tests.models.references.gguf_writing import GGUF_ARCHITECTURE, write_gguf
from tests.models.references.reference import COMPARED, FOLDER, GENERATED, Reference, Run
from tests.models.references.texts import PROMPTS, TRICKY
from tests.models.references.tiny_networks import NETWORKS, make_network
from tests.models.references.tiny_vocabularies import TinyVocabulary

SEED = 20261129


def make(architecture: str, into: Path, checkpoint: Path) -> Reference:
    """Makes the network in `checkpoint`, and its reference and importable form in `into`."""
    torch.set_num_threads(1)
    model, vocabulary = make_network(NETWORKS[architecture], checkpoint, SEED)
    if architecture in GGUF_ARCHITECTURE:
        write_gguf(into / "model.gguf", architecture, model, vocabulary, checkpoint)
        task = "generate"
    else:
        manifest = import_checkpoint(
            checkpoint,
            into,
            name=architecture,
            source="tests.models.references.make",
            licence="Apache-2.0",
            progress=lambda done, total: None,
            # Marian's and M2M100's positions are computed, and are no numbers of float16.
            quantisation="float32" if architecture in ("m2m100", "marian") else "float16",
        )
        task = manifest.task
        (into / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    runs, logits = [], []
    for text in PROMPTS:
        run, values = _run(architecture, task, model, vocabulary, text)
        runs.append(run)
        logits.append(values[-COMPARED:])
    reference = Reference(
        architecture=architecture,
        task=task,
        runs=runs,
        logits=logits,
        texts={text: vocabulary.encode(text) for text in TRICKY},
    )
    reference.save(into)
    return reference


def _run(architecture: str, task: str, model: Any, vocabulary: TinyVocabulary, text: str) -> tuple[Run, Any]:
    ids = vocabulary.encode(text)
    with torch.no_grad():
        if task == "embed":
            assert vocabulary.begin is not None
            ids = [vocabulary.begin, *ids, vocabulary.end]
            values = model(torch.tensor([ids])).last_hidden_state[0]
            return Run(text=text, ids=ids, target=[], greedy=[]), values.numpy()
        if task == "translate":
            return _translate(architecture, model, vocabulary, text, ids)
        if vocabulary.begin is not None:
            ids = [vocabulary.begin, *ids]
        greedy: list[int] = []
        while len(greedy) < GENERATED:
            values = model(torch.tensor([ids + greedy])).logits[0]
            chosen = int(values[-1].argmax())
            if chosen == vocabulary.end:
                break
            greedy.append(chosen)
        return Run(text=text, ids=ids, target=[], greedy=greedy), values.numpy()


def _translate(
    architecture: str, model: Any, vocabulary: TinyVocabulary, text: str, ids: list[int]
) -> tuple[Run, Any]:
    ids = [*ids, vocabulary.end]
    target = [model.config.decoder_start_token_id]
    if architecture == "m2m100":
        # English to French: the tokens of the two are the last but one, and the last.
        ids = [vocabulary.size - 2, *ids]
        target.append(vocabulary.size - 1)
    greedy: list[int] = []
    while len(greedy) < GENERATED:
        values = model(
            input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([target + greedy])
        ).logits[0]
        if architecture == "marian":
            values = values[:, : model.config.pad_token_id]  # the engine leaves the last token out
        chosen = int(values[-1].argmax())
        if chosen == vocabulary.end:
            break
        greedy.append(chosen)
    return Run(text=text, ids=ids, target=target, greedy=greedy), values.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=FOLDER)
    parser.add_argument("architectures", nargs="*", default=list(NETWORKS))
    asked = parser.parse_args()
    for architecture in asked.architectures:
        folder = asked.into / architecture
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            reference = make(architecture, folder, Path(scratch) / "checkpoint")
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{architecture}: {size / 1000:.0f} kB, greedy {[len(run.greedy) for run in reference.runs]}")


if __name__ == "__main__":
    main()
