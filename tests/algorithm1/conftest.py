"""Every test here needs scikit-learn."""

import pytest

pytest.importorskip("sklearn", reason="needs the extra 'algorithm1'")
