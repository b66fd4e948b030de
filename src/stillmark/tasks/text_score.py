"""A text in pieces, for perplexity and bits per byte: `text:FILE`, `text:FILE*100000` for its first characters.

Bits per byte = nats / (ln 2 · bytes of UTF-8): comparable between tokenizers, as perplexity per token is not. Each
piece is scored after the piece before it, so that every token but the first piece's has a context of at least one
piece. Pieces end before a space or a line break, where tokenizers split too.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stillmark.errors import UserError

PIECE_CHARACTERS = 1500  # two fit a window of 1,024 tokens for most texts


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the text and what stands before it."""

    context: str
    text: str

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode())


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """A text to score. `sha256` is of the characters that are scored."""

    name: str
    pieces: list[Piece]
    sha256: str
    piece_characters: int


def load_text(part: str, data: Path | None, piece_characters: int = PIECE_CHARACTERS) -> TextTask:
    """The text of `FILE` or `FILE*CHARACTERS`, relative to the data folder where there is one."""
    file, _, count = part.partition("*")
    path = Path(file) if data is None or Path(file).is_file() else data / file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"text:{part}: {path} cannot be read as UTF-8: {error}") from error
    if count:
        if not count.isdecimal() or int(count) == 0:
            raise UserError(f"text:{part}: `{count}` is not a number of characters")
        text = text[: int(count)]
    if not text:
        raise UserError(f"text:{part}: the text is empty")
    pieces = cut(text, piece_characters)
    contexts = ["", *pieces]
    return TextTask(
        name=f"text:{path.name}" + (f"*{count}" if count else ""),
        pieces=[Piece(context=before, text=piece) for before, piece in zip(contexts, pieces, strict=False)],
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        piece_characters=piece_characters,
    )


def cut(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters that together are the text; cut before white space where there is some."""
    pieces, start = [], 0
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            space = max(text.rfind(mark, start + size // 2, end) for mark in (" ", "\n"))
            # Not within a run of white space: it is one token for many tokenizers
            while space > start and text[space - 1].isspace():
                space -= 1
            end = space if space > start else end
        pieces.append(text[start:end])
        start = end
    return pieces
