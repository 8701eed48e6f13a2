"""Ready-made quantizers, in Brevitas' naming grammar behind ``TargetProp``.

Each is the Brevitas quantizer of the same name with a target rule's gradient, ``soft_hinge``
unless ``rule=`` says otherwise. Importing them makes their proxies known to Brevitas' managers.
"""

from .. import handlers as handlers
from . import activation, weight
from .activation import *  # noqa: F403
from .weight import *  # noqa: F403

__all__ = []
__all__ += activation.__all__
__all__ += weight.__all__
