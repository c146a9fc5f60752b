"""Text to token ids and back: byte-level BPE trained here, characters, or tiktoken's encodings.

>>> tokenizer = build("bpe", "low lower lowest " * 20, vocab_size=264)
>>> tokenizer.decode(tokenizer.encode("a lower tide: 潮"))
'a lower tide: 潮'
"""

from __future__ import annotations

import heapq
import json
import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tiktoken

END_OF_TEXT = "<|endoftext|>"

# A word, up to three digits or a run of symbols, each with at most one space in front, or a run of
# whitespace: no token reaches across these. Every character falls in one alternative, so that
# nothing is lost; and without look-around tiktoken's engine need not backtrack, so that a million
# spaces in a row cost linear time and no stack.
PATTERN = (
    r" ?[\p{L}\p{M}]+(?:['\u2019][\p{L}\p{M}]+)*"
    r"| ?\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s+"
)


class Tokenizer(Protocol):
    """What the trainer and the generator need of a tokenizer; ids are ints in [0, n_vocab)."""

    name: str
    n_vocab: int
    end_of_text: int | None  # the token between two documents

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; a special token's name in it is ordinary text, never an error."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; an id out of range raises ValueError, broken UTF-8 is U+FFFD."""

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 of one id, perhaps a part of a character; ValueError if it is out of range."""

    def to_json(self) -> dict[str, Any]:
        """All that ``from_json`` needs to rebuild this tokenizer without the corpus."""


class _EncodingTokenizer:
    """A tokenizer whose work is done by a ``tiktoken.Encoding``, in Rust.

    Lone surrogates are not text in UTF-8: they come back from a round trip as U+FFFD.
    """

    def __init__(self, name: str, encoding: tiktoken.Encoding) -> None:
        self.name = name
        self.encoding = encoding
        self.n_vocab = encoding.n_vocab
        self.end_of_text: int | None = encoding.eot_token

    def encode(self, text: str) -> list[int]:
        return self.encoding.encode_ordinary(text)

    def decode(self, ids: Iterable[int]) -> str:
        checked = _checked(ids, self.n_vocab)
        try:
            return self.encoding.decode(checked, errors="replace")
        except KeyError:
            # Some encodings leave ids in their range unassigned; an untrained model may draw one.
            return b"".join(map(self._bytes, checked)).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return self._bytes(*_checked([token], self.n_vocab))

    def _bytes(self, token: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(token)
        except KeyError:
            return "\N{REPLACEMENT CHARACTER}".encode()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, n_vocab={self.n_vocab})"


class BPETokenizer(_EncodingTokenizer):
    """Byte-level byte-pair encoding (Sennrich et al., 2016; on bytes: Radford et al., 2019, GPT-2).

    Ids 0 to 255 are the bytes, then come the ``tokens`` (each of two bytes or more) in the order in
    which they were merged, and ``<|endoftext|>`` is the last. ``train_bpe`` learns the tokens.

    >>> BPETokenizer([b"he", b"hel"]).encode("hello")
    [257, 108, 111]
    """

    def __init__(self, tokens: Sequence[bytes], pattern: str = PATTERN) -> None:
        import tiktoken

        ranks = {bytes([byte]): byte for byte in range(256)}
        ranks |= {token: rank for rank, token in enumerate(tokens, start=256)}
        if len(ranks) != 256 + len(tokens) or b"" in ranks:
            raise ValueError("BPE tokens must be distinct and at least two bytes long")
        self.tokens = list(tokens)
        self.pattern = pattern
        super().__init__(
            "bpe",
            tiktoken.Encoding(
                "bpe",
                pat_str=pattern,
                mergeable_ranks=ranks,
                special_tokens={END_OF_TEXT: len(ranks)},
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """The tokens as Latin-1, one character a byte: readable where they are ASCII."""
        return {
            "tokenizer": self.name,
            "pattern": self.pattern,
            "tokens": [token.decode("latin-1") for token in self.tokens],
        }


class CharTokenizer:
    """One id per distinct character of ``characters``, in sorted order.

    A character that was not among them raises ValueError.

    >>> CharTokenizer("banana").encode("nab")
    [2, 0, 1]
    """

    name = "char"
    end_of_text: int | None = None

    def __init__(self, characters: str) -> None:
        if not characters:
            raise ValueError("a character tokenizer needs a text of at least one character")
        self.characters = "".join(sorted(set(characters)))
        self.n_vocab = len(self.characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}

    def encode(self, text: str) -> list[int]:
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"the character {character!r} (U+{ord(character):04X}) is not among the "
                f"{self.n_vocab} that this tokenizer knows; the tokenizer 'bpe' takes any text"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.characters[i] for i in _checked(ids, self.n_vocab))

    def token_bytes(self, token: int) -> bytes:
        return self.decode([token]).encode(errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"tokenizer": self.name, "characters": self.characters}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_vocab={self.n_vocab})"


class TiktokenTokenizer(_EncodingTokenizer):
    """An encoding that tiktoken knows by name: gpt2, r50k_base, cl100k_base, o200k_base, ...

    tiktoken downloads the rank file once, unless the folder ``TIKTOKEN_CACHE_DIR`` has it. An
    unknown name raises ValueError, a rank file that cannot be had RuntimeError.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, _encoding(name))

    def to_json(self) -> dict[str, Any]:
        return {"tokenizer": self.name}


def train_bpe(
    text: str | Iterable[str],
    vocab_size: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> BPETokenizer:
    """Learn ``vocab_size`` tokens from ``text``, counting the 256 bytes and ``<|endoftext|>``.

    Repeatedly merges the most frequent pair of neighbouring tokens, of equals the one with the
    smallest ids, and ends early when no pair occurs twice: ``n_vocab`` is what was reached. A text
    in pieces must be cut where ``PATTERN`` cuts it (``stream.separated``).
    ``progress(reached, vocab_size)`` is called after every merge. A ``vocab_size`` below 257 raises
    ValueError. Sennrich et al., 2016, algorithm 1.

    >>> train_bpe("low lower lowest " * 20, vocab_size=260).tokens
    [b'lo', b'low', b' low']
    """
    if vocab_size < 257:
        raise ValueError(
            f"vocab_size is {vocab_size}, but the 256 bytes and {END_OF_TEXT} alone make 257"
        )
    frequency: Counter[str] = Counter()
    for piece in [text] if isinstance(text, str) else text:
        frequency.update(_words(piece).findall(piece))
    # A word is a text of one character for each token, so that Python's own search finds pairs.
    words = [word.encode("utf-8", errors="replace").decode("latin-1") for word in frequency]
    weights = list(frequency.values())

    counts: dict[str, int] = defaultdict(int)
    where: dict[str, list[int]] = defaultdict(list)  # pair → words; may be out of date
    for index, (word, weight) in enumerate(zip(words, weights)):
        for pair in map(operator.add, word, word[1:]):
            counts[pair] += weight
            where[pair].append(index)

    # A merge raises only the counts of pairs with the new token in them, which are pushed when it
    # is complete. The others can only fall: an entry in the heap is at worst too high, and is put
    # right when it comes up.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) + 1 < vocab_size and heap:
        count, pair = heapq.heappop(heap)
        if -count < 2:
            break
        if -count != counts[pair]:
            heapq.heappush(heap, (-counts[pair], pair))
            continue
        new = chr(len(tokens))
        tokens.append(tokens[ord(pair[0])] + tokens[ord(pair[1])])
        before: dict[str, list[int]] = defaultdict(list)  # what stands there → in which words
        after: dict[str, list[int]] = defaultdict(list)
        for index in dict.fromkeys(where.pop(pair)):  # once, however often it is there
            word, end = words[index], 0
            while (start := word.find(pair, end)) >= 0:
                if start:
                    before[new if start == end else word[start - 1]].append(index)
                end = start + 2
                if end < len(word):
                    after[word[end]].append(index)
            if end:
                words[index] = word.replace(pair, new)
        born = [(token + pair[0], token + new, found) for token, found in before.items()]
        born += [(pair[1] + token, new + token, found) for token, found in after.items()]
        for old, neighbour, found in born:
            weight = sum(weights[index] for index in found)
            counts[old] -= weight
            counts[neighbour] += weight
            where[neighbour] += found
        for neighbour in {neighbour for _, neighbour, _ in born}:
            heapq.heappush(heap, (-counts[neighbour], neighbour))
        if progress is not None:
            progress(len(tokens) + 1, vocab_size)
    return BPETokenizer(tokens[256:])


def _words(text: str) -> Any:
    """``PATTERN``, for the characters that ``text`` has.

    The standard ``re`` is more than twice as fast as ``regex``, but does not know \\p{L}: it is
    told which of the characters are of such a kind.
    """
    # It comes with tiktoken, which depends on it.
    import regex  # type: ignore[import-untyped]

    characters = "".join({*text, *"a0 "})  # of each kind at least one
    if len(characters) > 1000:  # of which ``re`` would make a table first
        return regex.compile(PATTERN)
    pattern = PATTERN.replace(r" ?\p{N}", r" ?[\p{N}]").replace(r"|\s", r"|[\s]")
    for kind in (r"\p{L}\p{M}", r"\p{N}", r"\s"):
        found = regex.findall(f"[{kind}]", characters)
        pattern = pattern.replace(kind, "".join(map(re.escape, found)))
    return re.compile(pattern)


def build(name: str, text: str, vocab_size: int = 1024) -> Tokenizer:
    """The tokenizer called ``name``: "bpe" or "char", made from ``text``, or one of tiktoken's.

    ``vocab_size`` concerns "bpe" only. An unknown name raises ValueError.

    >>> build("char", "banana").n_vocab
    3
    """
    if name == "bpe":
        return train_bpe(text, vocab_size)
    if name == "char":
        return CharTokenizer(text)
    return TiktokenTokenizer(name)


def from_json(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that ``Tokenizer.to_json`` described; anything else raises ValueError.

    >>> from_json(CharTokenizer("banana").to_json()).encode("nab")
    [2, 0, 1]
    """
    match saved:
        case {"tokenizer": "bpe", "pattern": str(pattern), "tokens": [*tokens]}:
            try:
                return BPETokenizer([token.encode("latin-1") for token in tokens], pattern)
            except (AttributeError, UnicodeEncodeError):
                raise ValueError("a saved BPE token must be text of Latin-1 characters") from None
        case {"tokenizer": "char", "characters": str(characters)}:
            return CharTokenizer(characters)
        case {"tokenizer": str(name)} if name not in ("bpe", "char"):
            return TiktokenTokenizer(name)
    raise ValueError("this does not describe a tokenizer: it is not what to_json returns")


def save(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write ``tokenizer`` to a JSON file, one token a line."""
    Path(path).write_text(json.dumps(tokenizer.to_json(), indent=0) + "\n", encoding="utf-8")


def load(path: str | Path) -> Tokenizer:
    """Read what ``save`` wrote; a damaged or foreign file raises ValueError."""
    try:
        return from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as error:  # invalid UTF-8 and invalid JSON are ValueErrors too
        raise ValueError(f"{path} is not a tokenizer file: {error}") from error


def _checked(ids: Iterable[int], n_vocab: int) -> list[int]:
    """``ids`` as plain ints, or ValueError."""
    checked = [operator.index(i) for i in ids]
    for i in checked:
        if not 0 <= i < n_vocab:
            raise ValueError(f"token id {i} is out of range: the ids here are 0 to {n_vocab - 1}")
    return checked


def _encoding(name: str) -> tiktoken.Encoding:
    """tiktoken's encoding ``name``, or one sentence on what to do."""
    import tiktoken

    known = tiktoken.list_encoding_names()
    if name not in known:
        hint = "; for a file, see prepare --tokenizer" if name.endswith(".json") else ""
        raise ValueError(
            f"unknown tokenizer {name!r}: there are bpe, char, {', '.join(known)}{hint}"
        )
    # r50k_base is GPT-2's vocabulary with the same ids, in another file, which may be at hand.
    for candidate in (name, "r50k_base") if name == "gpt2" else (name,):
        try:
            return tiktoken.get_encoding(candidate)
        except (OSError, ValueError) as error:  # no network, no access, a damaged download
            cause = error
    raise RuntimeError(
        f"tiktoken cannot get the rank file of {name!r} ({type(cause).__name__}): set "
        "TIKTOKEN_CACHE_DIR to a folder that has it, or use the default, --tokenizer bpe"
    ) from cause
