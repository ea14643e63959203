"""Makes the references of texts: SentencePiece models with rules for characters, and what SentencePiece makes of texts.

python -m tests.models.references.make_pieces

Needs the package sentencepiece. Unigram models have no digits and no tokens of the makers' own: there, ways of equal
score are told apart by the last bits of sums.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import sentencepiece

from tests.models.references.reference import FOLDER
from tests.models.references.texts import TRAINING, TRICKY

PIECES = FOLDER / "pieces"
_SEED = 20261129
_TEXTS = 150
_OWN = ["<table>", "\n\n", "▁▁▁", "d\u0323"]

_MODELS: dict[str, dict[str, Any]] = {
    "bpe": {"rule": "nmt_nfkc", "own": _OWN, "byte_fallback": True},
    "bpe-spaces-kept": {
        "rule": "nfkc_cf",
        "own": _OWN,
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
    },
    "unigram": {"rule": "nmt_nfkc_cf", "model_type": "unigram", "byte_fallback": True},
}

_ALPHABETS = (
    range(0x21, 0x7F),
    range(0x300, 0x370),  # combining marks
    range(0x1E00, 0x1FFF),  # letters with up to three
    range(0x1100, 0x1200),  # Hangul in parts
    range(0xAC00, 0xAC50),  # and whole
    range(0xFF00, 0xFFEF),  # full and half width
    range(0xF900, 0xFAFF),  # ideographs that are written as others
    range(0x900, 0xA00),
    range(0x1D400, 0x1D500),  # letters of mathematics, beyond 16 bits
    range(0x1F600, 0x1F640),
    range(1, 0x300),
    [9, 10, 13, 32, 32, 32, 0xA0, 0xAD, 0x200B, 0x2028, 0x2581, 0x3000, 0xFDFA, 0xFEFF],
    [ord(c) for c in "aeiouAEIOUsd  "],
)


def make_texts(seed: int, count: int) -> list[str]:
    """Texts that mix a few alphabets, words of the training, runs of spaces and the makers' own tokens."""
    dice = random.Random(seed)
    words = " ".join(TRAINING).split(" ")

    def part(alphabets: list[Any]) -> str:
        kind = dice.random()
        if kind < 0.3:
            return dice.choice(words)
        if kind < 0.4:
            return dice.choice(
                ["<table>", "\n\n", "   ", "  ", "\r\n", "o\u0302\u0323", "\u1112\u1161\u11ab"]
            )
        return chr(dice.choice(dice.choice(alphabets)))

    found = []
    for _ in range(count):
        alphabets = dice.sample(_ALPHABETS, 3)
        found.append("".join(part(alphabets) for _ in range(dice.randint(1, 12))))
    return [text for text in (*TRICKY, *found) if "<unk>" not in text and "<s>" not in text]


def train(options: dict[str, Any]) -> bytes:
    model = io.BytesIO()
    options = dict(options)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(re.sub(r"\d", "", line) for line in TRAINING),
        model_writer=model,
        normalization_rule_name=options.pop("rule"),
        user_defined_symbols=options.pop("own", []),
        vocab_size=400,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **{"model_type": "bpe", **options},
    )
    return model.getvalue()


def main() -> None:
    PIECES.mkdir(exist_ok=True)
    for name, options in _MODELS.items():
        model = train(options)
        theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
        Path(PIECES / f"{name}.model.gz").write_bytes(gzip.compress(model, mtime=0))
        lines = [
            json.dumps([text, theirs.encode(text)], separators=(",", ":"))
            for text in make_texts(_SEED, _TEXTS)
        ]
        (PIECES / f"{name}.json").write_text("[" + ",\n".join(lines) + "]\n")


if __name__ == "__main__":
    main()
