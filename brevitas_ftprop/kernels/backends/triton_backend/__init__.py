"""Triton kernels: a pass over the elements forwards and one backwards.

Triton is imported when a step is first computed here. Elements equal eager's to the bit where the
rule's slope is made of straight lines; smooth slopes differ by the roundings of an exponential, and
by those of a multiplication with 1/scale in place of a division. Sums are added up in another
order, in the same one each time.
"""

from .planned_passes import backward, forward
from .refusals import reason_against

__all__ = ["backward", "forward", "reason_against"]
