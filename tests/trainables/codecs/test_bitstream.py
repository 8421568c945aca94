"""Container and entropy coder: what is written is read, anything else is refused."""

import binascii
import contextlib

import pytest
import torch
from compressai.ans import RansEncoder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainables.codecs.entropy.bitstream import (
    LARGEST_SYMBOL,
    MAX_PIXELS,
    VERSION,
    BitstreamError,
    Container,
    SymbolReader,
    SymbolWriter,
    Tables,
    overhead_bytes,
    pack,
    unpack,
)

# Two distributions over 0, 1, 2 and an escape symbol, of 2^16 in all; the second is shifted by -1.
TABLES = Tables(
    cdfs=([0, 30000, 60000, 65000, 65536], [0, 5000, 60000, 65000, 65536]),
    lengths=(5, 5),
    offsets=(0, -1),
)


def _payload(symbols: torch.Tensor, rows: torch.Tensor) -> bytes:
    writer = SymbolWriter()
    writer.write(TABLES, rows, symbols)
    return writer.finish()


CONTAINERS = st.builds(
    Container,
    codec_id=st.integers(0, 255),
    height=st.integers(1, 65536),
    width=st.integers(1, 65536),
    payload=st.binary(min_size=8, max_size=80).map(lambda data: data[: len(data) // 4 * 4]),
    rate=st.none() | st.integers(0, 255),
)


@given(CONTAINERS)
@example(Container(7, 1, 1, bytes(8)))
@example(Container(7, 65536, 3, bytes(8)))
def test_a_container_is_read_as_it_was_written(container: Container) -> None:
    stream = pack(container)
    assert unpack(stream) == container
    assert overhead_bytes(stream) == len(stream) - len(container.payload)
    assert 6 <= overhead_bytes(stream) <= 11


@given(CONTAINERS, st.data())
def test_a_stream_cut_or_changed_anywhere_is_refused(
    container: Container, data: st.DataObject
) -> None:
    stream = pack(container)
    with pytest.raises(BitstreamError):
        unpack(stream[: data.draw(st.integers(0, len(stream) - 1))])
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    damaged = bytearray(stream)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BitstreamError):
        unpack(bytes(damaged))


SYMBOL = st.tuples(st.integers(-(2**26), 2**26) | st.integers(-2, 5), st.integers(0, 1))


# CompressAI's encoder alone writes past its buffer where there are fewer than four symbols.
@given(st.lists(SYMBOL, max_size=60))
@example([])
@example([(1, 0)])
@example([(2, 0), (2, 0), (2, 0)])
def test_any_symbols_come_back_in_their_order(coded: list[tuple[int, int]]) -> None:
    symbols, rows = torch.tensor(coded, dtype=torch.int64).reshape(-1, 2).T
    reader = SymbolReader(_payload(symbols.int(), rows), len(coded))
    assert reader.read(TABLES, rows).tolist() == symbols.tolist()
    reader.finish()


def test_the_container_takes_six_bytes_for_a_small_image_and_never_more_than_eleven() -> None:
    assert overhead_bytes(pack(Container(0, 128, 128, bytes(8)))) == 6
    assert overhead_bytes(pack(Container(0, 512, 768, bytes(8)))) == 8
    assert overhead_bytes(pack(Container(255, 65536, 65536, bytes(8), rate=255))) == 11


@pytest.mark.parametrize("size", [(0, 5), (5, 65537)])
def test_a_size_that_cannot_be_written_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 to 65536"):
        pack(Container(0, *size, payload=bytes(8)))


def test_foreign_bytes_are_refused_with_the_reason() -> None:
    with pytest.raises(BitstreamError, match="0x89"):
        unpack(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(BitstreamError, match="0 bytes"):
        unpack(b"")
    other = bytearray(pack(Container(7, 8, 8, bytes(16)))[:-2])
    other[0] ^= 0x0F
    with pytest.raises(BitstreamError, match=rf"version {(VERSION ^ 0x0F) & 7}\D.* {VERSION}"):
        unpack(_with_crc(bytes(other)))
    with pytest.raises(BitstreamError, match=r"id 7\D.* 8"):
        unpack(pack(Container(7, 8, 8, bytes(16))), codec_id=8)


@pytest.mark.parametrize(
    "body",
    [
        b"\xb1\x07" + b"\xff" * 20,
        b"\xb1\x07\x01\x01" + bytes(9),
        b"\xb1\x07\x87\x00\x07" + bytes(8),
        b"\xb1\x07\x07\x87\x80\x00" + bytes(8),
        b"\xb1\x07\x80\x00\x80\x00" + bytes(8),
    ],
)
def test_a_header_that_does_not_fit_is_refused_though_its_checksum_is_right(body: bytes) -> None:
    with pytest.raises(BitstreamError, match="header"):
        unpack(_with_crc(body))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, 0x7F, 0x80, 0x81]), min_size=2, max_size=7))
def test_no_other_stream_stands_for_what_one_stands_for(header: list[int]) -> None:
    for first in (0xB1, 0xB9):
        for length in range(8, 12):
            stream = _with_crc(bytes([first, *header]) + bytes(length))
            with contextlib.suppress(BitstreamError):
                assert pack(unpack(stream)) == stream


def test_a_forged_size_is_refused_before_anything_is_decoded() -> None:
    """16 bytes may claim 8192 x 8192 pixels; decoding them took 3 GB."""
    stream = pack(Container(7, 8192, 8192, bytes(8)))
    assert len(stream) == 16
    assert unpack(stream).height == 8192
    with pytest.raises(BitstreamError, match="8192 x 8192 pixels, more than max_pixels = 33554432"):
        unpack(stream, max_pixels=MAX_PIXELS)
    assert unpack(stream, max_pixels=2**26).width == 8192


def _with_crc(body: bytes) -> bytes:
    return body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def test_symbols_come_back_in_their_order_escapes_included() -> None:
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(-3, 6, (4, 5, 6), generator=generator, dtype=torch.int32)
    rows = torch.randint(0, 2, (4, 5, 6), generator=generator)
    writer = SymbolWriter()
    writer.write(TABLES, rows[:1], symbols[:1])
    writer.write(TABLES, rows[1:], symbols[1:])
    reader = SymbolReader(writer.finish(), symbols.numel())
    assert torch.equal(reader.read(TABLES, rows[:2]), symbols[:2])
    assert torch.equal(reader.read(TABLES, rows[2:]), symbols[2:])
    reader.finish()


def test_the_payload_is_as_long_as_the_entropy_says() -> None:
    """Independent source: -log2 of the frequencies in the table."""
    generator = torch.Generator().manual_seed(0)
    frequencies = torch.tensor([30000.0, 30000, 5000])
    symbols = torch.multinomial(frequencies, 8000, True, generator=generator).int()
    bits = -(frequencies / 65536).log2()[symbols.long()].sum().item()
    n_bytes = len(_payload(symbols, torch.zeros_like(symbols)))
    assert bits / 8 <= n_bytes <= bits / 8 * 1.001 + 8


def test_symbols_read_with_other_probabilities_are_refused() -> None:
    """The payload itself is intact: only coding the symbols again can find this."""
    symbols = torch.tensor([0, 1, 2, 1, 0, 0, 1, 2] * 8, dtype=torch.int32)
    rows = torch.zeros_like(symbols)
    reader = SymbolReader(_payload(symbols, rows), symbols.numel())
    reader.read(TABLES, rows + 1)
    with pytest.raises(BitstreamError, match="again"):
        reader.finish()


@pytest.mark.parametrize("symbol", [LARGEST_SYMBOL, -LARGEST_SYMBOL])
def test_symbols_that_the_coder_would_never_end_with_are_refused(symbol: int) -> None:
    rows = torch.zeros(3, dtype=torch.int64)
    most = torch.tensor([1, symbol, 2], dtype=torch.int32)
    reader = SymbolReader(_payload(most, rows), 3)
    assert torch.equal(reader.read(TABLES, rows), most)
    reader.finish()
    beyond = torch.tensor([1, symbol + (1 if symbol > 0 else -1), 2], dtype=torch.int32)
    for symbols in (beyond, torch.tensor([float("nan")]).int()):
        with pytest.raises(ValueError, match=str(symbols.abs().max().item())):
            _payload(symbols, rows[: len(symbols)])
    # CompressAI's coder itself still writes the first few of them: no stream of ours.
    tables = (list(TABLES.cdfs), list(TABLES.lengths), list(TABLES.offsets))
    payload = RansEncoder().encode_with_indexes(beyond.tolist(), [0, 0, 0], *tables)
    reader = SymbolReader(payload, 3)
    reader.read(TABLES, rows)
    with pytest.raises(BitstreamError, match="damaged"):
        reader.finish()


def test_random_payloads_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.zeros(64, dtype=torch.int64)
    for length in (8, 12, 40, 400):
        for fill in (None, 0x00, 0xFF):
            noise = torch.randint(0, 256, (length,), generator=generator).tolist()
            payload = bytes(noise) if fill is None else bytes([fill] * length)
            reader = SymbolReader(payload, rows.numel())
            reader.read(TABLES, rows)
            with pytest.raises(BitstreamError):
                reader.finish()
