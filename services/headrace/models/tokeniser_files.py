"""The tokeniser in a model's folder, from whichever of its files can say what it is.

`tokenizer.json` comes first: it is what the model's makers use now. Else a SentencePiece model, which for Marian and
M2M100 is joined with the `vocab.json` that has the ids; else `vocab.json` and `merges.txt` (GPT-2), or `vocab.txt`
(BERT).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece

from headrace.models.errors import BadCheckpoint, BadTokeniser
from headrace.models.json_file import load_json
from headrace.models.sentencepiece import Piece, PieceKind, PieceModel, tokeniser_of
from headrace.models.sentencepiece_file import read_piece_model
from headrace.models.tokeniser import TOKENISER_NAME
from headrace.models.tokeniser_check import check_tokeniser, load_tokenizer

_PIECE_MODELS = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm")
_FAIRSEQ_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
_MOST_UNNAMED = 16_384
"""Embeddings without a token that a network may have. The usual ones have some hundreds, so that sizes are round."""
_UNLIKELY = 1000.0
"""Below the worst score of the source language's pieces: those that only the target has are the last way out."""


def read_tokeniser(folder: Path, size: int, model_type: str = "") -> Tokenizer:
    """The tokeniser in `folder`, of exactly `size` tokens. Raises BadTokeniser, BadCheckpoint.

    Where the network has more tokens than the tokeniser, those that are missing are added: nothing is encoded as them,
    and they stand for no text. Where it has fewer, the makers' added tokens beyond it are dropped.
    """
    tokenizer = _find(folder, model_type)
    # Some files ask for both; a text that is too long is the sender's to know of.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer = _sized(folder, tokenizer, size)
    try:
        check_tokeniser(tokenizer)
    except ValueError as error:
        raise BadTokeniser(folder, str(error)) from error
    return tokenizer


def _find(folder: Path, model_type: str) -> Tokenizer:
    if (path := folder / TOKENISER_NAME).exists():
        try:
            return load_tokenizer(path)
        except (OSError, ValueError) as error:
            raise BadTokeniser(path, f"it cannot be read as a tokeniser ({error})") from error
    for name in _PIECE_MODELS:
        if (path := folder / name).exists():
            pieces = _with_ids(folder, read_piece_model(path), model_type)
            try:
                return tokeniser_of(pieces)
            except Exception as error:  # the Rust library raises plain Exception
                raise BadTokeniser(path, "its pieces do not fit together") from error
    if (path := folder / "vocab.json").exists():
        return _gpt2(folder, path)
    if (path := folder / "vocab.txt").exists():
        return _bert(folder, path)
    names = ", ".join((TOKENISER_NAME, *_PIECE_MODELS, "vocab.json", "vocab.txt"))
    raise BadCheckpoint(folder, f"it has no tokeniser; looked for {names}")


def _with_ids(folder: Path, model: PieceModel, model_type: str) -> PieceModel:
    """`model` with its pieces in the order of the network's ids, where these are not the pieces' own."""
    pieces = list(model.pieces)
    if (path := folder / "vocab.json").exists():
        order = _vocabulary(path)
    elif model_type == "xlm-roberta":
        order = [*_FAIRSEQ_FIRST, *(piece.text for piece in pieces[3:]), "<mask>"]
    else:
        return model
    there = {piece.text: piece for piece in pieces}
    unlikely = min(piece.score for piece in pieces) - _UNLIKELY
    control = {"<s>", "<pad>", "</s>", "<mask>"}
    ordered = []
    for text in order:
        if text in there:
            ordered.append(there[text])
        else:
            ordered.append(Piece(text, unlikely, PieceKind.CONTROL if text in control else PieceKind.NORMAL))
    return PieceModel(
        pieces=ordered,
        unigram=model.unigram,
        charsmap=model.charsmap,
        leading_space=model.leading_space,
        squeeze_spaces=model.squeeze_spaces,
    )


def _gpt2(folder: Path, path: Path) -> Tokenizer:
    merges_path = folder / "merges.txt"
    try:
        lines = merges_path.read_text(encoding="utf-8").splitlines()
        merges = [(a, b) for a, _, b in (line.partition(" ") for line in lines if line[:9] != "#version:")]
        bpe = BPE(vocab={t: i for i, t in enumerate(_vocabulary(path))}, merges=[m for m in merges if all(m)])
    except OSError as error:
        raise BadTokeniser(merges_path, error.strerror or str(error)) from error
    except Exception as error:  # the Rust library raises plain Exception
        raise BadTokeniser(merges_path, "it does not fit vocab.json") from error
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t in ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>") if tokenizer.token_to_id(t)]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def _bert(folder: Path, path: Path) -> Tokenizer:
    try:
        tokens = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadTokeniser(path, "it cannot be read") from error
    if "[UNK]" not in tokens:
        raise BadTokeniser(path, "it has no [UNK]")
    settings = read_json(folder / "tokenizer_config.json", default={})
    lower = bool(settings.get("do_lower_case", True))
    tokenizer = Tokenizer(WordPiece(vocab={t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in tokens]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


def _vocabulary(path: Path) -> Sequence[str]:
    """The tokens in a `vocab.json`, by id."""
    found = read_json(path)
    if not all(type(i) is int for i in found.values()):
        raise BadTokeniser(path, "its ids are no whole numbers")
    by_id = sorted(found, key=lambda token: found[token])
    if [found[token] for token in by_id] != list(range(len(by_id))):
        raise BadTokeniser(path, "its ids are not 0 … n-1")
    return by_id


def _sized(folder: Path, tokenizer: Tokenizer, size: int) -> Tokenizer:
    there = tokenizer.get_vocab_size(with_added_tokens=True)
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    if ids != list(range(there)):
        raise BadCheckpoint(folder, f"the ids of its tokeniser are not 0 … {there - 1}")
    if there + _MOST_UNNAMED < size:
        raise BadCheckpoint(folder, f"its tokeniser has {there} tokens and its network {size}")
    if there < size:
        names = [f"<unused{i}>" for i in range(there, size)]
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        there = tokenizer.get_vocab_size(with_added_tokens=True)
    elif there > size and tokenizer.get_vocab_size(with_added_tokens=False) <= size:
        tokenizer = _without(tokenizer, size)
        there = tokenizer.get_vocab_size(with_added_tokens=True)
    if there != size:
        raise BadCheckpoint(folder, f"its tokeniser has {there} tokens and its network {size}")
    return tokenizer


def _without(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """`tokenizer` without the added tokens from id `size` on."""
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] < size]
    document["post_processor"] = None  # it may name them, and we add no tokens by it
    return Tokenizer.from_str(json.dumps(document))


def read_json(path: Path, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The object in a JSON file. Raises BadCheckpoint; where the file is missing, only without a default."""
    try:
        found = load_json(path)
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise BadCheckpoint(path.parent, f"it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(path.parent, f"{path.name} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise BadCheckpoint(path.parent, f"{path.name} is no JSON object")
    return found
