"""Tiny networks of each architecture with random weights, made by transformers. Needs the extra `convert`.

Every number that a config can have and a converter could overlook is not the default: bases of rotary embeddings,
epsilons, groups of heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.models.references import tiny_vocabularies as vocabularies
from tests.models.references.tiny_vocabularies import TinyVocabulary

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    "tie_word_embeddings": False,
}
_ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "scale_embedding": True,
}
_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 130,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-3,
}
_ENDOFTEXT = vocabularies.byte_level(["<|endoftext|>"])


@dataclass(frozen=True, kw_only=True)
class TinyNetwork:
    """How to make one."""

    config: str
    model: str
    vocabulary: Callable[[Path], TinyVocabulary]
    settings: dict[str, Any]


NETWORKS = {
    "llama": TinyNetwork(
        config="LlamaConfig", model="LlamaForCausalLM", vocabulary=vocabularies.llama, settings=_LLAMA
    ),
    "mistral": TinyNetwork(
        config="MistralConfig",
        model="MistralForCausalLM",
        vocabulary=vocabularies.llama,
        settings={**_LLAMA, "head_dim": 8, "sliding_window": None},
    ),
    "qwen2": TinyNetwork(
        config="Qwen2Config",
        model="Qwen2ForCausalLM",
        vocabulary=vocabularies.byte_level(
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pattern=_QWEN, composed=True
        ),
        settings={**_LLAMA, "tie_word_embeddings": True},
    ),
    "qwen3": TinyNetwork(
        config="Qwen3Config",
        model="Qwen3ForCausalLM",
        vocabulary=vocabularies.byte_level(
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pattern=_QWEN, composed=True
        ),
        settings={**_LLAMA, "head_dim": 12, "tie_word_embeddings": True},
    ),
    "gemma3": TinyNetwork(
        config="Gemma3TextConfig",
        model="Gemma3ForCausalLM",
        vocabulary=vocabularies.gemma,
        settings={
            **{key: value for key, value in _LLAMA.items() if key != "rope_parameters"},
            "num_hidden_layers": 7,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 96,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
    ),
    "gpt2": TinyNetwork(
        config="GPT2Config",
        model="GPT2LMHeadModel",
        vocabulary=_ENDOFTEXT,
        settings={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "layer_norm_epsilon": 1e-3},
    ),
    "gptj": TinyNetwork(
        config="GPTJConfig",
        model="GPTJForCausalLM",
        vocabulary=_ENDOFTEXT,
        settings={
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 128,
            "rotary_dim": 8,
            "layer_norm_epsilon": 1e-3,
        },
    ),
    "bloom": TinyNetwork(
        config="BloomConfig",
        model="BloomForCausalLM",
        vocabulary=_ENDOFTEXT,
        settings={
            "hidden_size": 32,
            "n_layer": 2,
            "n_head": 4,
            "layer_norm_epsilon": 1e-3,
            "seq_length": 128,
        },
    ),
    "falcon": TinyNetwork(
        config="FalconConfig",
        model="FalconForCausalLM",
        vocabulary=_ENDOFTEXT,
        settings={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "layer_norm_epsilon": 1e-3,
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
            "bias": False,
        },
    ),
    "opt": TinyNetwork(
        config="OPTConfig",
        model="OPTForCausalLM",
        vocabulary=_ENDOFTEXT,
        settings={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 128,
            "word_embed_proj_dim": 24,
            "pad_token_id": 1,
        },
    ),
    "marian": TinyNetwork(
        config="MarianConfig",
        model="MarianMTModel",
        vocabulary=vocabularies.marian,
        settings={**_ENCODER_DECODER, "activation_function": "swish"},
    ),
    "m2m100": TinyNetwork(
        config="M2M100Config",
        model="M2M100ForConditionalGeneration",
        vocabulary=vocabularies.m2m100,
        settings=_ENCODER_DECODER,
    ),
    "t5": TinyNetwork(
        config="T5Config",
        model="T5ForConditionalGeneration",
        vocabulary=vocabularies.unigram,
        settings={
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "n_positions": 128,
            "feed_forward_proj": "gated-gelu",
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
            "layer_norm_epsilon": 1e-3,
        },
    ),
    "bert": TinyNetwork(
        config="BertConfig", model="BertModel", vocabulary=vocabularies.bert, settings=_ENCODER
    ),
    "xlm-roberta": TinyNetwork(
        config="XLMRobertaConfig",
        model="XLMRobertaModel",
        vocabulary=vocabularies.xlm_roberta,
        settings={**_ENCODER, "type_vocab_size": 1},
    ),
}


def make_network(network: TinyNetwork, folder: Path, seed: int) -> tuple[Any, TinyVocabulary]:
    """Writes the network and its vocabulary to `folder`, weights in float16, and returns it in float32.

    Its weights are numbers that float16 has, so what is stored is what is computed with.
    """
    folder.mkdir(parents=True)
    vocabulary = network.vocabulary(folder)
    settings = {**network.settings, **vocabulary.settings, "vocab_size": vocabulary.size}
    model = getattr(transformers, network.model)(getattr(transformers, network.config)(**settings)).eval()
    _randomise(model, seed)
    model.half().save_pretrained(folder)
    # Not just turned back: what is computed beside the weights, such as rotations, has lost digits.
    return type(model).from_pretrained(folder, dtype=torch.float32).eval(), vocabulary


def _randomise(model: Any, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    centre = 0.0 if "Gemma" in type(model).__name__ else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                scale = 1.2 * parameter.shape[-1] ** -0.5
                values = torch.randn(parameter.shape, generator=dice) * scale
            elif name.endswith("bias"):
                values = torch.randn(parameter.shape, generator=dice) * 0.1
            else:
                values = centre + torch.rand(parameter.shape, generator=dice) - 0.5
            parameter.copy_(values.half().float())
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0  # as trained ones have it
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.copy_((torch.randn(buffer.shape, generator=dice) * 0.1).half().float())
