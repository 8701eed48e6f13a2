"""Words on a stream are FINN's own packing of the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brevitas_ftprop.export.finn.rtl.streams import Element, element_of, pack, unpack


@given(
    bits=st.integers(1, 40),
    count=st.integers(1, 9),
    signed=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_unpacking_gives_back_what_was_packed(bits, count, signed, seed):
    element = Element(bits, "signed" if signed else "unsigned")
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.random.default_rng(seed).integers(low, low + 2**bits, (5, count))
    words = pack(values, element)
    assert words.dtype == np.uint32
    assert words.shape == (5, -(-bits * count // 32))
    np.testing.assert_array_equal(unpack(words, element, count), values)


@pytest.mark.parametrize("name", ["INT2", "INT9", "UINT3", "BIPOLAR", "BINARY", "INT23", "FLOAT32"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_words_equal_finns_own_packing(name, count):
    from finn.util.data_packing import pack_innermost_dim_as_hex_string
    from qonnx.core.datatype import DataType

    datatype = DataType[name]
    rng = np.random.default_rng(3)
    if name == "FLOAT32":
        values = rng.normal(size=(6, count)).astype(np.float32)
    elif name == "BIPOLAR":
        values = rng.choice([-1, 1], (6, count))
    else:
        values = rng.integers(datatype.min(), datatype.max() + 1, (6, count))
    # FINN stores bipolar values as binary ones before it packs them.
    binary = name == "BIPOLAR"
    hexes = pack_innermost_dim_as_hex_string(
        (values + 1) / 2 if binary else values.astype(np.float32),
        DataType["BINARY"] if binary else datatype,
        -(-datatype.bitwidth() * count // 32) * 32,
        reverse_inner=True,
    )
    element = element_of(datatype)
    assert element is not None
    words = pack(values, element)
    ours = [int.from_bytes(row.tobytes(), "little") for row in words]
    assert ours == [int(text, 16) for text in hexes]
    np.testing.assert_array_equal(unpack(words, element, count), values)


@pytest.mark.parametrize("name", ["FLOAT16", "FIXED<8,4>", "SCALEDINT<8>"])
def test_other_datatypes_have_no_encoding(name):
    from qonnx.core.datatype import DataType

    assert element_of(DataType[name]) is None
