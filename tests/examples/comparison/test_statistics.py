"""The statistics are SciPy's, and Holm's method is the one worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra 'examples'")

from comparison.statistics import estimate, holm, paired
from scipy import stats

ARM = {0: 61.2, 1: 63.4, 2: 62.1, 3: 60.8}
REFERENCE = {0: 60.1, 1: 62.0, 2: 62.4, 4: 99.0}


def test_an_interval_is_scipys():
    values = list(ARM.values())
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = estimate(values)
    np.testing.assert_allclose(
        (ours.mean, ours.low, ours.high), (np.mean(values), interval.low, interval.high)
    )
    assert ours.seeds == 4


def test_a_paired_difference_is_scipys_over_the_shared_seeds():
    theirs = stats.ttest_rel([61.2, 63.4, 62.1], [60.1, 62.0, 62.4])
    interval = theirs.confidence_interval(0.95)
    ours = paired(ARM, REFERENCE)
    np.testing.assert_allclose(
        (ours.p, ours.low, ours.high, ours.mean),
        (theirs.pvalue, interval.low, interval.high, (1.1 + 1.4 - 0.3) / 3),
    )
    assert ours.seeds == 3


def test_one_seed_has_no_interval_and_no_p_value():
    ours = paired({0: 2.0}, {0: 1.0})
    assert (ours.mean, ours.low, ours.high, ours.p) == (1.0, None, None, None)


def test_equal_differences_are_not_called_significant():
    assert paired({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).p is None


def test_arms_without_a_common_seed_are_refused():
    with pytest.raises(ValueError, match="share no seed"):
        paired({0: 1.0}, {1: 1.0})


def test_holm_multiplies_the_smallest_most_and_never_falls():
    # Sorted: 0.01·4, 0.02·3, 0.03·2 (the one before is as large), 0.04·1 (raised likewise).
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
