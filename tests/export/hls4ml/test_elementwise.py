"""Nodes on constants give what qonnx gives for them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from qonnx.custom_op.general.intquant import int_quant

from brevitas_ftprop.export.hls4ml.elementwise import apply_step
from brevitas_ftprop.levels import ROUNDINGS_BY_NAME


@pytest.mark.parametrize("mode", ROUNDINGS_BY_NAME)
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0)])
def test_a_quantizer_rounds_by_qonnxs_names(mode, signed, narrow):
    x = np.linspace(-6, 6, 97, dtype=np.float32)
    options = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    operands = [x, np.float32(0.5), np.float32(0), np.float32(4)]
    node = helper.make_node("Quant", list("xszb"), ["y"], **options)
    np.testing.assert_array_equal(apply_step(node, operands), int_quant(*operands, **options))
