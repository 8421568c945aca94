"""Bytes: the container one image is written to, and the entropy coding of its symbols.

    byte 0      0xB0 + version, + 8 where a rate follows
    byte 1      codec id: one byte of a hash of the codec's architecture and weights
    0-1 bytes   rate index of a variable-rate codec
    1-3 bytes   height - 1, varint  } of the image given to the codec, before padding
    1-3 bytes   width - 1, varint   }
    ...         one rANS stream with all symbols of the image, in the decoder's order
    2 bytes     CRC-16 (CCITT) of everything before it

All symbols of an image (hyper-latents, latents, every slice) share one rANS stream, so there are
no lengths to write and the coder's state is flushed once. The container is 6 to 11 bytes: 6 at
128x128 pixels, 8 at most sizes of photographs. The stream is a file's content: its length is the
file's.

A stream is decoded completely or refused: the CRC finds damage before anything is decoded, and
afterwards the decoded symbols are encoded again and must give the same bytes. The latter finds a
decoder whose probabilities differ from the encoder's (other weights, another machine's floats) at
odds of about 1 : 2^31 of missing it, and costs no bytes. Values beyond a table are escaped, in bits
as they are: of damage to these the checksum alone knows. Two bytes are enough for that, and four
would cost a stream of 128x128 pixels 0.001 bpp more.

All of this is against damage and mistakes. It is no authentication: whoever wants to can write a
stream with a right checksum.
"""

from __future__ import annotations

import binascii
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from compressai.ans import RansDecoder, RansEncoder
from torch import Tensor

VERSION = 1
MAX_SIDE = 1 << 16
MAX_PIXELS = 1 << 25
"""Of an image that is decoded, unless the caller allows more: a header may claim any size."""
_MAGIC = 0xB0
_HAS_RATE = 0x08
_CRC_BYTES = 2
LARGEST_SYMBOL = 1 << 26
"""In either direction. The coder takes a larger one's bits modulo 32, and may never end."""
_SHORTEST_RANS = 8  # the flushed 64-bit state
_WORD = 4
_FEWEST = 4
"""Symbols of a stream. CompressAI's encoder has a buffer of a word per symbol, and does not look
where it ends: its state alone is two words."""
_COIN = [0, 1 << 15, 1 << 16]
"""Distribution of what fills a stream up to so many symbols, a bit each."""


class BitstreamError(ValueError):
    """Bytes that are not a complete, undamaged stream of this codec."""


@dataclass(frozen=True)
class Container:
    """What stands in a stream: the codec's id, the image's size in pixels, the symbols.

    rate: index of the rate, 0 to 255, of a codec that has several; None for one that has not.
    """

    codec_id: int
    height: int
    width: int
    payload: bytes
    rate: int | None = None


def pack(container: Container) -> bytes:
    """The stream of one image.

    Raises:
        ValueError: the image has a side of 0 or of more than 65536 pixels.
    """
    for side in (container.height, container.width):
        if not 0 < side <= MAX_SIDE:
            raise ValueError(f"image sides are 1 to {MAX_SIDE} pixels, not {side}")
    head = bytes([_MAGIC | VERSION, container.codec_id])
    if container.rate is not None:
        head = bytes([head[0] | _HAS_RATE, head[1], container.rate])
    body = head + _varint(container.height - 1) + _varint(container.width - 1) + container.payload
    return body + binascii.crc_hqx(body, 0xFFFF).to_bytes(_CRC_BYTES, "big")


def unpack(stream: bytes, codec_id: int | None = None, max_pixels: int | None = None) -> Container:
    """Read a stream's container.

    Args:
        stream: the bytes of one image.
        codec_id: the id it must carry; None for any.
        max_pixels: of the image, at the most; None for any.

    Raises:
        BitstreamError: too short, no stream of this software or of its version, damaged, of a
            larger image, or written by another codec.
    """
    if len(stream) < 4 + _SHORTEST_RANS + _CRC_BYTES:
        raise BitstreamError(f"{len(stream)} bytes are too few for a stream: truncated?")
    if stream[0] & 0xF0 != _MAGIC:
        raise BitstreamError(f"not a stream of this software: it starts with 0x{stream[0]:02X}")
    if stream[0] & 0x07 != VERSION:
        raise BitstreamError(f"stream of version {stream[0] & 0x07}; this is version {VERSION}")
    body, crc = stream[:-_CRC_BYTES], int.from_bytes(stream[-_CRC_BYTES:], "big")
    if binascii.crc_hqx(body, 0xFFFF) != crc:
        raise BitstreamError("the checksum does not match: truncated or damaged")
    if codec_id is not None and stream[1] != codec_id:
        raise BitstreamError(
            f"written by another codec or by other weights (id {stream[1]}, this is {codec_id})"
        )
    rate = stream[2] if stream[0] & _HAS_RATE else None
    height, position = _read_varint(body, 2 if rate is None else 3)
    width, position = _read_varint(body, position)
    payload = body[position:]
    if max(height, width) >= MAX_SIDE or len(payload) < _SHORTEST_RANS or len(payload) % _WORD:
        raise BitstreamError("the header does not fit what follows it")
    if max_pixels is not None and (height + 1) * (width + 1) > max_pixels:
        raise BitstreamError(
            f"the header claims {height + 1} x {width + 1} pixels, more than max_pixels = "
            f"{max_pixels}"
        )
    return Container(stream[1], height + 1, width + 1, payload, rate)


def overhead_bytes(stream: bytes) -> int:
    """Bytes of a stream that are container, not entropy-coded symbols."""
    return len(stream) - len(unpack(stream).payload)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in (0, 7, 14):
        if position >= len(data):
            break
        value |= (data[position] & 0x7F) << shift
        position += 1
        if not data[position - 1] & 0x80:
            if shift and not data[position - 1]:
                break  # longer than it need be, so that an image had a second stream
            return value, position
    raise BitstreamError("the header does not fit what follows it")


@dataclass(frozen=True)
class Tables:
    """Cumulative distributions, 16 bits: one row per scale (Gaussian) or channel (bottleneck)."""

    cdfs: tuple[list[int], ...]
    lengths: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, cdfs: Tensor, lengths: Tensor, offsets: Tensor) -> Tables:
        """From CompressAI's padded tables; the padding goes, as handing it over costs time."""
        sizes = [int(size) for size in lengths]
        rows = tuple(row[:size] for row, size in zip(cdfs.tolist(), sizes, strict=True))
        return cls(rows, tuple(sizes), tuple(int(offset) for offset in offsets))


class SymbolWriter:
    """Collects an image's symbols and writes them as one rANS stream.

    Symbols and rows stay where they were computed until the stream is written: fetching those of a
    position makes a GPU wait, of which an autoregressive model has thousands in an image.
    """

    def __init__(self) -> None:
        self._tables: list[Tables] = []
        """Those in use; parts name them by number."""
        self._parts: list[tuple[int, Tensor, Tensor]] = []

    def write(self, tables: Tables, rows: Tensor, symbols: Tensor) -> None:
        """Append symbols (int, any shape), each with its row of the tables (int, same shape)."""
        number = next((n for n, known in enumerate(self._tables) if known is tables), None)
        if number is None:
            number = len(self._tables)
            self._tables.append(tables)
        self._parts.append((number, rows.reshape(-1), symbols.reshape(-1)))

    def finish(self) -> bytes:
        """All symbols so far, in order, as rANS bytes (a multiple of 4).

        Raises:
            ValueError: a symbol is beyond `LARGEST_SYMBOL`, as of a value that is not finite.
        """
        symbols: list[int] = []
        indices: list[int] = []
        cdfs: list[list[int]] = []
        lengths: list[int] = []
        offsets: list[int] = []
        for number, parts in itertools.groupby(self._parts, key=lambda part: part[0]):
            _, rows_of_parts, symbols_of_parts = zip(*parts, strict=True)
            tables = self._tables[number]
            symbols += torch.cat(symbols_of_parts).tolist()
            # Only the rows in use are handed to the coder: converting all is most of its time.
            used, place = torch.unique(torch.cat(rows_of_parts).cpu(), return_inverse=True)
            indices += (place + len(cdfs)).tolist()
            rows: list[int] = used.tolist()
            cdfs += [tables.cdfs[row] for row in rows]
            lengths += [tables.lengths[row] for row in rows]
            offsets += [tables.offsets[row] for row in rows]
        if symbols and not -LARGEST_SYMBOL <= min(symbols) <= max(symbols) <= LARGEST_SYMBOL:
            raise ValueError(f"symbols of {min(symbols)} to {max(symbols)} cannot be coded")
        missing = max(0, _FEWEST - len(symbols))
        encoded = RansEncoder().encode_with_indexes(
            [*symbols, *[0] * missing],
            [*indices, *[len(cdfs)] * missing],
            [*cdfs, _COIN],
            [*lengths, len(_COIN)],
            [*offsets, 0],
        )
        return bytes(encoded)


class SymbolReader:
    """Reads the symbols of one image back, in the order they were written.

    Args:
        payload: rANS bytes.
        count: symbols in them.

    Attributes:
        verification_s: seconds that it took to encode the symbols again.
    """

    def __init__(self, payload: bytes, count: int) -> None:
        self.verification_s = 0.0
        self._payload = payload
        self._echo = SymbolWriter()
        self._decoder = RansDecoder()
        # The decoder reads on without looking where its buffer ends. From zeros a symbol takes at
        # most a word, and what the payload says of escaped values at most 15 times its own
        # length: with so many zeros behind it, no payload is read past the buffer's end.
        self._decoder.set_stream(payload + bytes(_WORD * (count + 2) + 16 * len(payload)))

    def read(self, tables: Tables, rows: Tensor) -> Tensor:
        """The next symbols (int32, in the shape of rows), given the row of each."""
        known = rows.cpu()
        used, place = torch.unique(known.reshape(-1), return_inverse=True)
        numbers: Sequence[int] = used.tolist()
        symbols = self._decoder.decode_stream(
            place.tolist(),
            [tables.cdfs[row] for row in numbers],
            [tables.lengths[row] for row in numbers],
            [tables.offsets[row] for row in numbers],
        )
        read = torch.tensor(symbols, dtype=torch.int32).reshape(rows.shape)
        self._echo.write(tables, known, read)
        return read

    def finish(self) -> None:
        """Check that the symbols read are the ones that were written.

        Raises:
            BitstreamError: they would not give these bytes.
        """
        started = time.monotonic()
        try:
            again = self._echo.finish()
        except ValueError as error:
            raise BitstreamError(f"the stream is damaged: {error}") from error
        self.verification_s += time.monotonic() - started
        if again != self._payload:
            raise BitstreamError(
                "the decoded symbols do not give these bytes again: the stream is damaged, or this "
                "decoder's probabilities are not the encoder's (other weights or arithmetic)"
            )
