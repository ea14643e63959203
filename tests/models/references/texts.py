"""Texts that tokenisers get wrong, and the prompts of the references.

None has a `▁` (U+2581): SentencePiece takes it for a space, and so cannot give it back.
"""

from __future__ import annotations

TRICKY = (
    "",
    " ",
    "a",
    "Hello, world!",
    " a leading space",
    "   three, and two at the end  ",
    "tabs\tand\nlines\r\n\n\nof text",
    "The year 2026 had 365 days, 12 months; 3.14159 isn't 22/7.",
    "naïve café Straße ŁÓDŹ",
    "e\u0301 is not é; a\u0308o\u0302\u0323",
    "日本語のテキストと中文，한국어",
    "العربية עברית हिन्दी ไทย",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽",
    "zero\u200bwidth\u00a0no-break\ufeff",
    "<s> </s> <unk> <pad> [CLS] [SEP] [MASK] <|endoftext|>",
    "<|im_start|>system<|im_end|> <start_of_turn>user<end_of_turn> >>fra<< __fr__ fra_Latn <extra_id_0>",
    "<0x0A> Ġ ## \u2580 _",
    "def f(x):\n    return {'a': x**2}  # 100%\n",
)

PROMPTS = (
    "The channel carries the water to the wheel",
    "A queue of messages, 3 workers and 12 lanes.",
    "Bonjour 🙂 naïve café 日本",
)

TRAINING = (
    "A headrace is the channel that carries the water to the wheel.",
    "The router decides which machine runs the next request, whenever a lane is free.",
    "Tokens stream back to the client while the worker computes the rest of the batch.",
    "Queues hold what was asked; outcomes are kept for a day, and nothing accepted is lost.",
    "The quick brown fox jumps over the lazy dog, and the dog does not notice.",
    "Once upon a time there was a mill by the river, and the miller had three sons.",
    "Numbers such as 1, 22, 333 and 2026 stand in the text, with commas and points.",
    "Le canal porte l'eau vers la roue; Wasser treibt das Rad, et la roue tourne.",
    "this that these those there then than them they their the a an and are as at be been",
)
"""What the tiny vocabularies are trained on."""
