"""Tiny vocabularies of each kind, as the files of a Hugging Face folder, and what the original libraries make of texts.

Needs the extra `convert` and the package sentencepiece.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from tests.models.references.texts import TRAINING

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, kw_only=True)
class TinyVocabulary:
    """A vocabulary whose files stand in a folder."""

    size: int
    encode: Encode
    """As the original library does; special tokens in text are text."""
    begin: int | None
    end: int
    settings: dict[str, Any]
    """For config.json."""
    pieces: sentencepiece.SentencePieceProcessor | None = None


def _train_pieces(kind: str, size: int, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name=options.pop("rule", "identity"),
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return model.getvalue()


def llama(folder: Path) -> TinyVocabulary:
    """SentencePiece's BPE with bytes, as Llama 2 and Mistral have it: only tokenizer.model."""
    data = _train_pieces(
        "bpe", 384, byte_fallback=True, remove_extra_whitespaces=False, character_coverage=1.0
    )
    (folder / "tokenizer.model").write_bytes(data)
    _write(folder, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True})
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    return TinyVocabulary(
        size=pieces.get_piece_size(),
        encode=lambda text: pieces.encode(text),
        begin=1,
        end=2,
        settings={"bos_token_id": 1, "eos_token_id": 2},
        pieces=pieces,
    )


def gemma(folder: Path) -> TinyVocabulary:
    """As Gemma has it: no space of its own in front, newlines and runs of spaces as tokens of the makers' own."""
    data = _train_pieces(
        "bpe",
        400,
        byte_fallback=True,
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        eos_piece="<eos>",
        control_symbols=["<start_of_turn>", "<end_of_turn>"],
        user_defined_symbols=["\n", "\n\n", "▁▁", "▁▁▁", "<table>"],
    )
    (folder / "tokenizer.model").write_bytes(data)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    own = {pieces.piece_to_id(text): text for text in ("\n", "\n\n", "▁▁", "▁▁▁", "<table>")}
    added = {str(i): {"content": text, "special": False, "normalized": False} for i, text in own.items()}
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "add_bos_token": True}
    _write(folder, {**special, "added_tokens_decoder": added})
    return TinyVocabulary(
        size=pieces.get_piece_size(),
        encode=lambda text: pieces.encode(text),
        begin=2,
        end=1,
        settings={"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        pieces=pieces,
    )


def unigram(folder: Path) -> TinyVocabulary:
    """SentencePiece's unigram without bytes, as T5 has it: only spiece.model."""
    data = _train_pieces("unigram", 160, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(data)
    _write(folder, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    return TinyVocabulary(
        size=pieces.get_piece_size(),
        encode=lambda text: pieces.encode(text),
        begin=None,
        end=1,
        settings={"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
        pieces=pieces,
    )


def xlm_roberta(folder: Path) -> TinyVocabulary:
    """SentencePiece's unigram with fairseq's ids, as XLM-R has it: only sentencepiece.bpe.model."""
    data = _train_pieces("unigram", 160)
    (folder / "sentencepiece.bpe.model").write_bytes(data)
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>"}
    _write(folder, {f"{key}_token": value for key, value in names.items()})
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    # <s> <pad> </s> <unk>, then the pieces from the fourth on, one further; <mask> last.
    return TinyVocabulary(
        size=pieces.get_piece_size() + 2,
        encode=lambda text: [i + 1 if i else 3 for i in pieces.encode(text)],
        begin=0,
        end=2,
        settings={"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        pieces=pieces,
    )


def marian(folder: Path) -> TinyVocabulary:
    """A vocabulary that two SentencePiece models share, as Marian has it: source.spm, target.spm and vocab.json."""
    source = _train_pieces("unigram", 140)
    target = _train_pieces("unigram", 120, seed_sentencepiece_size=400)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    first, second = (sentencepiece.SentencePieceProcessor(model_proto=data) for data in (source, target))
    texts = ["</s>", "<unk>"]
    for pieces in (second, first):
        texts += [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
    order = [*dict.fromkeys(texts), "<pad>"]
    ids = {text: i for i, text in enumerate(order)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    _write(folder, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})
    pad = ids["<pad>"]
    return TinyVocabulary(
        size=len(order),
        encode=lambda text: [ids.get(piece, 1) for piece in first.encode(text, out_type=str)],
        begin=None,
        end=0,
        settings={"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad},
        pieces=first,
    )


def m2m100(folder: Path) -> TinyVocabulary:
    """SentencePiece's BPE with ids of its own and tokens for languages, as M2M100 has it."""
    data = _train_pieces("bpe", 150)
    (folder / "sentencepiece.bpe.model").write_bytes(data)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    order = ["<s>", "<pad>", "</s>", "<unk>"]
    order += [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
    order += ["__de__", "__en__", "__fr__"]
    ids = {text: i for i, text in enumerate(order)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
    _write(folder, {f"{key}_token": value for key, value in names.items()})
    return TinyVocabulary(
        size=len(order),
        encode=lambda text: [ids.get(piece, 3) for piece in pieces.encode(text, out_type=str)],
        begin=None,
        end=2,
        settings={"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
        pieces=pieces,
    )


def byte_level(
    special: Sequence[str], *, pattern: str = "", composed: bool = False
) -> Callable[[Path], TinyVocabulary]:
    """Byte-level BPE, as GPT-2 and its kin have it: tokenizer.json. The last of `special` ends a text."""

    def write(folder: Path) -> TinyVocabulary:
        tokenizer = Tokenizer(BPE())
        if composed:
            tokenizer.normalizer = normalizers.NFC()
        if pattern:
            from tokenizers import Regex

            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
            show_progress=False,
        )
        tokenizer.train_from_iterator(TRAINING, trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
        end = tokenizer.token_to_id(special[-1])
        assert end is not None
        _write(folder, {"eos_token": special[-1], "bos_token": special[0]})
        tokenizer.encode_special_tokens = True
        return TinyVocabulary(
            size=tokenizer.get_vocab_size(with_added_tokens=True),
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            begin=None,
            end=end,
            settings={"eos_token_id": end, "bos_token_id": tokenizer.token_to_id(special[0])},
        )

    return write


def bert(folder: Path) -> TinyVocabulary:
    """WordPiece, as BERT has it: only vocab.txt."""
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Not trained: the library's trainer makes another one each time.
    words = re.findall(r"\w+|[^\w\s]", " ".join(TRAINING).lower())
    letters = sorted(set("".join(words)))
    tokens = [
        *special,
        *letters,
        *(f"##{letter}" for letter in letters),
        *sorted({*words} - {*letters}),
        "##ing",
    ]
    found = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    _write(folder, {"do_lower_case": True})
    original = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True)
    original.backend_tokenizer.encode_special_tokens = True
    return TinyVocabulary(
        size=len(found),
        encode=lambda text: original.backend_tokenizer.encode(text, add_special_tokens=False).ids,
        begin=found["[CLS]"],
        end=found["[SEP]"],
        settings={"pad_token_id": 0},
    )


def _write(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
