"""The networks of the target-propagation paper in Brevitas layers.

Each comes in the *paper* form (what the paper trained) and in the *hardware* form (what maps to
an FPGA); both take the options of :class:`LayerOptions`.
"""

from .alexnet import QuantAlexNet
from .convnet4 import ConvNet4
from .convnet8 import ConvNet8
from .layers import LayerOptions
from .resnet import QuantResNet18

__all__ = ["ConvNet4", "ConvNet8", "LayerOptions", "QuantAlexNet", "QuantResNet18"]
