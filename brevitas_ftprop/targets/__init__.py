"""Which target a unit gets and how much its loss counts, chosen from the incoming gradient."""

from .sign import WEIGHTINGS, check_weighting, sign_target, weighted_sign

__all__ = ["WEIGHTINGS", "check_weighting", "sign_target", "weighted_sign"]
