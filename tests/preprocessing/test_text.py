"""`preprocessing.text`: cutting, numbering and hashing of words, and the tokenizer's way through JSON."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import preprocessing
from minikeras.preprocessing.text import (
    Tokenizer,
    hashing_trick,
    one_hot,
    text_to_word_sequence,
    tokenizer_from_json,
)

TEXTS = ["The cat sat on the mat.", "The dog sat on the log!", "Dogs and cats living together"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ["hello", "world's", "end"]),
        ({"lower": False}, ["Hello", "World's", "end"]),
        ({"filters": ""}, ["hello,", "world's\tend"]),
        ({"split": "o"}, ["hell", " w", "rld's", "end"]),
        ({"split": "::"}, ["hello", " world's", "end"]),
    ],
)
def test_words_of_a_text(arguments, words):
    assert text_to_word_sequence("Hello, World's\tend", **arguments) == words


def test_words_of_other_alphabets():
    assert text_to_word_sequence("ÜBER ali!veli Ðü") == ["über", "ali", "veli", "ðü"]
    assert text_to_word_sequence("") == []


def test_hashes():
    words = ["a", "b", "a"]
    expected = [int(hashlib.md5(word.encode()).hexdigest(), 16) % 9 + 1 for word in words]
    assert hashing_trick("A b, a", 10, "md5") == expected
    assert hashing_trick("A b, a", 10, len) == [2, 2, 2]
    assert hashing_trick("A b, a", 10) == one_hot("A b, a", 10) == [hash(word) % 9 + 1 for word in words]
    assert hashing_trick("abc", 100, ord, analyzer=list) == [98, 99, 1]
    assert one_hot("xAyA", 50, filters="A", lower=False, split="A") == [hash(word) % 49 + 1 for word in "xy"]


def test_words_are_numbered_by_frequency_then_by_first_occurrence():
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(TEXTS)
    assert list(tokenizer.word_index.items())[:4] == [("the", 1), ("sat", 2), ("on", 3), ("cat", 4)]
    assert list(tokenizer.word_counts.items())[:3] == [("the", 4), ("cat", 1), ("sat", 2)]
    assert tokenizer.word_docs["the"] == 2 and tokenizer.index_docs[1] == 2 and tokenizer.document_count == 3
    assert tokenizer.index_word[1] == "the" and len(tokenizer.word_index) == 12
    tokenizer.fit_on_texts(["log log log log log log"])
    assert tokenizer.word_index["log"] == 1 and tokenizer.word_index["the"] == 2


def test_words_beyond_the_vocabulary():
    tokenizer = Tokenizer(num_words=4)
    tokenizer.fit_on_texts(TEXTS)
    assert tokenizer.texts_to_sequences(["the mat sat on nothing"]) == [[1, 2, 3]]
    assert tokenizer.sequences_to_texts([[1, 2, 9, 100, 3]]) == ["the sat on"]
    tokenizer = Tokenizer(num_words=4, oov_token="<oov>")
    tokenizer.fit_on_texts(TEXTS)
    assert tokenizer.texts_to_sequences(["the mat sat on nothing"]) == [[2, 1, 3, 1, 1]]
    assert tokenizer.sequences_to_texts([[2, 9, 100]]) == ["the <oov> <oov>"]


def test_lists_characters_and_analyzers():
    tokenizer = Tokenizer(char_level=True)
    tokenizer.fit_on_texts(["aAb", "b c"])
    assert tokenizer.texts_to_sequences(["ab z"]) == [[1, 2, 3]]
    tokenizer = Tokenizer(lower=False)
    tokenizer.fit_on_texts([["New York", "a"], ["New York"]])
    assert tokenizer.word_index == {"New York": 1, "a": 2}
    tokenizer = Tokenizer(analyzer=lambda text: text.split("-"))
    tokenizer.fit_on_texts(["B-a.-B"])
    assert tokenizer.word_index == {"B": 1, "a.": 2}


def test_matrices():
    tokenizer = Tokenizer(num_words=5)
    tokenizer.fit_on_texts(TEXTS)
    text = ["the the cat sat nowhere mat"]
    np.testing.assert_array_equal(tokenizer.texts_to_matrix(text), [[0, 1, 1, 0, 1]])
    np.testing.assert_array_equal(tokenizer.texts_to_matrix(text, "count"), [[0, 2, 1, 0, 1]])
    np.testing.assert_array_equal(tokenizer.texts_to_matrix(text, "freq"), [[0, 0.5, 0.25, 0, 0.25]])
    weights = [0, (1 + np.log(2)) * np.log(2), np.log(2), 0, np.log(2.5)]
    np.testing.assert_allclose(tokenizer.texts_to_matrix(text, "tfidf"), [weights])
    np.testing.assert_array_equal(tokenizer.sequences_to_matrix([[], [7, 1]]), [[0] * 5, [0, 1, 0, 0, 0]])


def test_sequences_alone():
    tokenizer = Tokenizer(num_words=4)
    tokenizer.fit_on_sequences([[1, 2, 2], [2, 3]])
    matrix = tokenizer.sequences_to_matrix([[1, 2]], "tfidf")
    np.testing.assert_allclose(matrix, [[0, np.log(2), np.log(1 + 2 / 3), 0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tokenizer().sequences_to_matrix([[1]]), "how many columns"),
        (lambda: Tokenizer(num_words=3).sequences_to_matrix([[1]], "tfidf"), "has seen no texts"),
        (lambda: Tokenizer(num_words=3).sequences_to_matrix([[1]], "sum"), "Unknown vectorization mode 'sum'"),
        (lambda: tokenizer_from_json("{}"), "not the JSON of a Tokenizer"),
        (lambda: tokenizer_from_json("[1, 2"), "not the JSON of a Tokenizer"),
        (lambda: tokenizer_from_json('{"config": {"word_counts": "{}"}}'), "not the JSON of a Tokenizer"),
    ],
)
def test_what_cannot_be_done_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_arguments_of_other_times():
    with pytest.warns(UserWarning, match="num_words"):
        assert Tokenizer(nb_words=7).num_words == 7
    with pytest.raises(TypeError, match="'words'"):
        Tokenizer(words=7)


@given(
    st.lists(st.text("abAé .,\n", max_size=12), max_size=5),
    st.sampled_from([None, 3]),
    st.sampled_from([None, "?"]),
    st.booleans(),
    st.booleans(),
)
def test_json_and_back(texts, num_words, oov_token, char_level, lower):
    tokenizer = Tokenizer(num_words, oov_token=oov_token, char_level=char_level, lower=lower)
    tokenizer.fit_on_texts(texts)
    again = tokenizer_from_json(tokenizer.to_json(indent=1))
    assert again.get_config() == tokenizer.get_config()
    assert again.texts_to_sequences(texts) == tokenizer.texts_to_sequences(texts)
    for one in (tokenizer, again):
        one.fit_on_texts(["new words", *texts])
    assert again.get_config() == tokenizer.get_config()


def test_json_is_that_of_keras():
    tokenizer = Tokenizer(10)
    tokenizer.fit_on_texts(["a b a"])
    description = json.loads(tokenizer.to_json())
    assert description["class_name"] == "Tokenizer"
    assert description["config"]["word_counts"] == '{"a": 2, "b": 1}'
    assert description["config"]["index_word"] == '{"1": "a", "2": "b"}'


def test_other_names():
    import minikeras._legacy.preprocessing.sequence as legacy_sequence
    import minikeras._legacy.preprocessing.text as legacy_text

    assert legacy_text.Tokenizer is Tokenizer is preprocessing.text.Tokenizer
    assert legacy_sequence.skipgrams is preprocessing.sequence.skipgrams
    assert {"text", "sequence"} <= set(dir(preprocessing))
    with pytest.raises(AttributeError, match="nothing"):
        preprocessing.nothing  # noqa: B018
    script = "import sys, minikeras.preprocessing, minikeras._legacy.preprocessing; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Tokenizer(num_words=-1), "num_words must be a whole number of at least 0 or None, got -1"),
        (lambda: Tokenizer(num_words="x"), "num_words must be a whole number of at least 0 or None, got 'x'"),
        (lambda: Tokenizer(filters=3), "filters must be a string of characters, got 3"),
        (lambda: Tokenizer(split=""), "split must be a string of at least one character, got ''"),
        (lambda: Tokenizer(split=None), "split must be a string of at least one character, got None"),
        (lambda: Tokenizer(analyzer="x"), "analyzer must be a function or None, got 'x'"),
        (lambda: Tokenizer(oov_token=1), "oov_token must be a string or None, got 1"),
        (
            lambda: Tokenizer().fit_on_texts("a text"),
            "Texts come as a list of them, got 'a text'; put a single one in a",
        ),
        (lambda: Tokenizer().fit_on_texts(3), "Texts come as a list of them, got 3"),
        (lambda: Tokenizer().fit_on_texts([3]), "A text is a string or a list of words, got 3"),
        (lambda: Tokenizer().texts_to_sequences("a"), "Texts come as a list of them, got 'a'"),
        (lambda: text_to_word_sequence(None), "A text is a string, got None"),
        (lambda: hashing_trick("a b", 1), "n must be a whole number of at least 2, got 1"),
        (lambda: hashing_trick("a b", 2.5), "n must be a whole number of at least 2, got 2.5"),
        (lambda: hashing_trick("a b", 5, "sha"), "hash_function must be 'md5', a function or None, got 'sha'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
