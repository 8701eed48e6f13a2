"""Pack integers into the words of an AXI stream, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qonnx.core.datatype import BaseDataType

WORD = 32


@dataclass(frozen=True)
class Element:
    """How one value is written into a stream.

    Attributes:
        bits: width of one value.
        encoding: ``"unsigned"``, ``"signed"`` (two's complement), ``"bipolar"`` (−1 as 0, +1 as 1)
            or ``"float32"``.
    """

    bits: int
    encoding: str


def element_of(datatype: BaseDataType) -> Element | None:
    """The encoding of a QONNX datatype, or None for one that no stream here can carry."""
    name, bits = datatype.name, datatype.bitwidth()
    if name == "FLOAT32":
        return Element(32, "float32")
    if name == "BIPOLAR":
        return Element(1, "bipolar")
    if not datatype.is_integer() or not 1 <= bits <= 62:
        return None
    return Element(bits, "signed" if datatype.signed() else "unsigned")


def pack(values: NDArray, element: Element) -> NDArray[np.uint32]:
    """Transactions (T, E) of values as 32-bit words (T, W), value 0 in the lowest bits.

    >>> pack(np.array([[1, -1, 2]]), Element(4, "signed")).tolist() == [[0x2F1]]
    True
    """
    if element.encoding == "float32":
        codes = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    elif element.encoding == "bipolar":
        codes = (values > 0).astype(np.uint64)
    else:
        codes = values.astype(np.int64).view(np.uint64)
    places = np.arange(element.bits, dtype=np.uint64)
    bits = ((codes[..., None] >> places) & np.uint64(1)).astype(np.uint8)
    bits = bits.reshape(len(values), -1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % WORD)))
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")


def unpack(words: NDArray[np.uint32], element: Element, count: int) -> NDArray:
    """The ``count`` values of each transaction; the reverse of ``pack``.

    Returns:
        int64 of shape (T, count), or float32 for that encoding.

    >>> unpack(np.array([[0x2F1]], dtype=np.uint32), Element(4, "signed"), 3)
    array([[ 1, -1,  2]])
    """
    flat = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    bits = np.unpackbits(flat, axis=1, bitorder="little")[:, : count * element.bits]
    places = np.arange(element.bits, dtype=np.int64)
    digits = bits.reshape(len(words), count, element.bits).astype(np.int64)
    codes = (digits << places).sum(axis=2)
    if element.encoding == "float32":
        return codes.astype(np.uint32).view(np.float32)
    if element.encoding == "bipolar":
        return 2 * codes - 1
    if element.encoding == "signed":
        return codes - ((codes >> (element.bits - 1)) << element.bits)
    return codes


def memory_words(text: str, bits: int) -> NDArray[np.uint32]:
    """The lines of a memory file, hexadecimal numbers of ``bits`` bits, as words (T, W).

    >>> memory_words("2f1\\n00a", 12).tolist() == [[0x2F1], [0xA]]
    True
    """
    size = 4 * -(-bits // WORD)
    words = b"".join(int(line, 16).to_bytes(size, "little") for line in text.split())
    return np.frombuffer(words, dtype="<u4").reshape(-1, size // 4)
