"""Tokenizers made here: the same texts give the same tokens, and texts survive them."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny

from bitter_retrieval.models.vocabulary import fit_bpe_tokenizer, fit_word_tokenizer, fit_wordpiece_tokenizer
from bitter_retrieval.records import passage_texts

TEXTS = list(passage_texts(tiny.world(24)).values())
FITS = [fit_word_tokenizer, fit_bpe_tokenizer, fit_wordpiece_tokenizer]


@pytest.mark.parametrize("size", [60, 4000])
@pytest.mark.parametrize("fit", FITS)
def test_same_texts_same_tokens(fit: Callable[..., Any], size: int) -> None:
    """The tokenizers library orders its hash tables anew each time, within one process too."""
    assert len({fit(TEXTS, size).backend_tokenizer.to_str() for _ in range(6)}) == 1


@pytest.mark.parametrize("fit", FITS)
def test_vocabulary_is_bounded(fit: Callable[..., Any]) -> None:
    assert len(fit(TEXTS, 300)) <= 300
    assert len(fit_word_tokenizer(TEXTS, 12)) == 12


@pytest.mark.parametrize("text", [*tiny.ODD_ANSWERS, TEXTS[0], " \n two  spaces\t", "naïve – «Straße» 🇩🇪"])
def test_byte_level_pairs_spell_any_text(text: str) -> None:
    tokenizer = fit_bpe_tokenizer(TEXTS, 300)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_words_are_lower_cased_and_unknown_ones_share_a_token() -> None:
    tokenizer = fit_word_tokenizer(TEXTS, 200)
    assert tokenizer.tokenize("Aldan owns a zebra, 北京.") == ["aldan", "owns", "a", "<unk>", "<unk>", "<unk>", "."]


def test_wordpiece_has_berts_layout_and_spells_unknown_words() -> None:
    tokenizer = fit_wordpiece_tokenizer(TEXTS, 4000)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Aldan owns a GOAT; brandog").input_ids)
    assert tokens[:5] == ["[CLS]", "aldan", "owns", "a", "goat"] and tokens[-1] == "[SEP]"
    assert tokens[5] == "[UNK]" and "".join(tokens[6:-1]).replace("##", "") == "brandog"  # ; never occurred
