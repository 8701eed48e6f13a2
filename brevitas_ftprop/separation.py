"""Linear separability as a linear program."""

import numpy as np

__all__ = ["separating_weights"]


def separating_weights(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Weights and a bias with ``t·(w·x + b) ≥ 1`` for every row, or None where there are none.

    A linear program, solved by SciPy's HiGHS to its tolerance of 1e-7.

    Args:
        inputs: shape (N, D).
        targets: ±1, shape (N,).

    Raises:
        ImportError: if SciPy is missing; says how to install it.

    >>> weights, bias = separating_weights(np.array([[0.0], [2.0]]), np.array([-1, 1]))
    >>> weights.tolist(), bias
    ([1.0], -1.0)
    >>> separating_weights(np.array([[0.0], [1.0], [2.0]]), np.array([-1, 1, -1]))
    """
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise ImportError("separability needs SciPy: pip install scipy") from error
    if (targets == targets[:1]).all():
        return np.zeros(inputs.shape[1]), float(targets[0]) if len(targets) else 1.0
    affine = np.column_stack([inputs, np.ones(len(inputs))]).astype(np.float64)
    program = linprog(
        np.zeros(affine.shape[1]),
        A_ub=-targets[:, None] * affine,
        b_ub=-np.ones(len(affine)),
        bounds=(None, None),
    )
    return (program.x[:-1], float(program.x[-1])) if program.status == 0 else None
