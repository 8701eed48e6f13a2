"""A pytest plugin under which Brevitas' own tests run on converted layers.

Every quantizer of every layer is converted as soon as the layer has made it, to the rule that has
stock's gradient; what has no rule (float, groupwise, dynamic, decoupled) or none with stock's
gradient (ternary) stays stock. The tests then have to give what they give on stock layers:

    git clone --depth 1 --branch v0.12.1 https://github.com/Xilinx/brevitas && cd brevitas
    pip install 'pytest<8.4' pytest-cases pytest-mock mock scipy
    python -m pytest -p no:cacheprovider --continue-on-collection-errors \\
        tests/brevitas/{nn,export,graph,proxy,quant_tensor}
    PYTHONPATH=$REPO:$REPO/tests/convert python -m pytest -p brevitas_own -p no:cacheprovider \\
        --continue-on-collection-errors tests/brevitas/{nn,export,graph,proxy,quant_tensor}

where REPO is the folder of this repository. With ``--junitxml=stock.xml`` and
``--junitxml=converted.xml``, ``python $REPO/tests/convert/brevitas_own.py stock.xml converted.xml``
lists the tests that end in another way, and exits with 1 if there is one.
"""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree

from brevitas.core.function_wrapper import TensorClamp
from brevitas.core.quant import TernaryQuant
from brevitas.nn.mixin.base import QuantProxyMixin

from brevitas_ftprop import swap_quantizers
from brevitas_ftprop.convert.replacement import TARGET_PROP_PROXIES
from brevitas_ftprop.core import rule_holder
from brevitas_ftprop.levels import tensor_quant_of

counts: Counter[str] = Counter()


def convert(proxy) -> None:
    """Convert a layer's new quantizer, if a rule has its gradient."""
    quant = tensor_quant_of(proxy)
    if isinstance(proxy, TARGET_PROP_PROXIES) or isinstance(quant, TernaryQuant):
        return
    clamp = getattr(rule_holder(quant), "tensor_clamp_impl", None)
    rule = "saturated_ste" if isinstance(clamp, TensorClamp) else "ste"
    try:
        counts["converted"] += len(swap_quantizers(proxy, rule, weights=True).changed)
    except TypeError:
        counts["without a rule"] += 1


def pytest_configure() -> None:
    make = QuantProxyMixin.__init__

    def make_converted(self, **options):
        make(self, **options)
        convert(getattr(self, f"{options['proxy_prefix']}quant"))

    QuantProxyMixin.__init__ = make_converted


def pytest_terminal_summary(terminalreporter) -> None:
    numbers = ", ".join(f"{count} {what}" for what, count in counts.items())
    terminalreporter.write_line(f"quantizers: {numbers or 'none'}")


def outcomes(path: str) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return found


def main(stock: str, converted: str) -> int:
    before, after = outcomes(stock), outcomes(converted)
    print(f"stock: {dict(Counter(before.values()))}, converted: {dict(Counter(after.values()))}")
    changed = [name for name in before if before[name] != after.get(name)]
    for name in changed:
        print(f"{name}: {before[name]} -> {after.get(name)}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
