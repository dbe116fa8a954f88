"""A tokenizer's special tokens: which stand before every text, which a text may hold; and where tokens lie in a text.

beginning(tokenizer)                  [128000]: Llama 3's <|begin_of_text|>
special_texts(tokenizer)              a pattern of <|begin_of_text|>, <|eot_id|>, …
token_places(tokenizer, ["a goat"])   [[(0, 1), (1, 6)]]
"""

import re
from collections.abc import Sequence
from typing import Any


def beginning(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer puts before every text: [BOS] for most, none for some."""
    # A tokenizer may drop "a": then its words are tried until one has tokens.
    for text in ("a", *tokenizer.get_vocab()):
        plain, whole = (tokenizer(text, add_special_tokens=special).input_ids for special in (False, True))
        if plain:
            break
    return next(whole[:n] for n in range(len(whole) + 1) if whole[n : n + len(plain)] == plain)


def special_texts(tokenizer: Any) -> re.Pattern[str]:
    """Texts of the special tokens; (?!), which matches nothing, if there are none."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)")


def special_ids(tokenizer: Any) -> set[int]:
    """Special tokens without the unknown one, which any text may have."""
    added = tokenizer.added_tokens_decoder
    return {place for place, token in added.items() if token.special and place != tokenizer.unk_token_id}


def token_places(tokenizer: Any, texts: Sequence[str], **how: Any) -> list[list[tuple[int, int]]]:
    """First and last place of each text's tokens; of its characters, if the tokenizer does not tell (a slow one)."""
    if tokenizer.is_fast:
        return tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False, **how).offset_mapping
    return [[(place, place + 1) for place in range(len(text))] for text in texts]
