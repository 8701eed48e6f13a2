"""The sections of a recipe: its images, optimizer, schedule and loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


def refuse_below(low: float, **values: float | None) -> None:
    """Raise unless each value that is given is ``low`` or more, which NaN is not.

    Raises:
        ValueError: names the first that is not; ``section__field`` is told as ``section.field``.
    """
    for name, value in values.items():
        if value is not None and not value >= low:
            field = name.replace("__", ".")
            raise ValueError(f"{field} must be {low:g} or more, not {value}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images of a run, and how they are augmented and split.

    Args:
        name: ``cifar10`` (torchvision's), ``image_folder`` (small images, decoded once),
            ``imagenet`` (torchvision's, or any ImageFolder with ``train`` and ``val``; decoded
            while training), ``digits`` (scikit-learn's), ``random`` or your own
            ``package.module:factory``, which gives two datasets of (image, label).
        root: folder of the images; ``digits`` and ``random`` have none.
        options: arguments of your own factory.
        download: let torchvision fetch CIFAR-10.
        image_size: height and width of what the network sees, one number where they are equal.
        resized: resize images of files and of your own that have another size.
        channels: 3, or 1 for grey images.
        classes: number of classes of ``random`` images; elsewhere None, or a number to insist on.
        train_images: train on so many images only, a fixed choice; None for all. Of ``random``
            images, how many there are.
        test_images: test on so many images only, a fixed choice; None for all.
        validation_images: hold out so many training images, a fixed choice, to choose by.
        crop_padding: pixels of padding before a random crop of small images; 0 for none.
        flip: whether images are mirrored at random.
        resized_crop: of ``imagenet``: random crops of 8 to 100 % of an image (torchvision's
            recipe), else of ``image_size`` from one with short side ``resize`` (the paper's).
        resize: of ``imagenet``: short side that images are resized to.
        mean, std: of the channels x/255, in [0, 1], to normalize by.
    """

    name: str = "cifar10"
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    download: bool = False
    image_size: int | Sequence[int] = 32
    resized: bool = False
    channels: Literal[1, 3] = 3
    classes: int | None = None
    train_images: int | None = None
    test_images: int | None = None
    validation_images: int = 0
    crop_padding: int = 4
    flip: bool = True
    resized_crop: bool = False
    resize: int = 256
    mean: Sequence[float] = (0.4914, 0.4822, 0.4465)
    std: Sequence[float] = (0.2470, 0.2435, 0.2616)

    def __post_init__(self) -> None:
        # Lists come from YAML; equal recipes compare equal.
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not isinstance(self.image_size, int):
            height, width = self.image_size if len(self.image_size) == 2 else (0, 0)
            # Equal recipes compare equal.
            size = height if height == width else (height, width)
            object.__setattr__(self, "image_size", size)
        refuse_below(
            1,
            data__image_size=min(self.size),
            data__classes=self.classes,
            data__train_images=self.train_images,
            data__test_images=self.test_images,
        )
        refuse_below(
            0, data__validation_images=self.validation_images, data__crop_padding=self.crop_padding
        )
        if self.options and ":" not in self.name:
            raise ValueError(f"data.options are of package.module:factory, not of {self.name}")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"data.std must be positive, not {self.std}")
        for name in ("mean", "std"):
            if not all(0 <= value <= 1 for value in getattr(self, name)):
                raise ValueError(
                    f"data.{name} is of pixels x/255, which lie in [0, 1], and cannot be "
                    f"{getattr(self, name)}: divide what is of pixels 0…255 by 255"
                )
        if self.name == "imagenet" and self.resize < max(self.size):
            raise ValueError(
                f"data.resize {self.resize} is less than data.image_size {self.image_size}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Any of ``torch.optim``; weight decay reaches the weights of layers only, unless asked to.

    Args:
        name: class of ``torch.optim`` in small letters.
        lr: learning rate.
        weight_decay: of the weights of convolutions and linear layers.
        norm_weight_decay: of normalization layers' gains and biases.
        bias_weight_decay: of the other layers' biases.
        quantizer_weight_decay: of learned scales, zero-points and bit widths.
        options: further arguments of the class, such as ``momentum``, or ``fused``, with which a
            GPU takes the step in a few kernels.
    """

    name: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    norm_weight_decay: float = 0.0
    bias_weight_decay: float = 0.0
    quantizer_weight_decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "sparseadam":
            raise ValueError(
                "optimizer sparseadam takes sparse gradients, and a network's are dense: use adam"
            )
        # Of groups of parameters, torch checks neither.
        refuse_below(
            0,
            optimizer__lr=self.lr,
            optimizer__weight_decay=self.weight_decay,
            optimizer__norm_weight_decay=self.norm_weight_decay,
            optimizer__bias_weight_decay=self.bias_weight_decay,
            optimizer__quantizer_weight_decay=self.quantizer_weight_decay,
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Factor of the learning rate over the epochs.

    Args:
        name: ``constant``, ``step`` (times ``gamma`` at each of ``milestones``, or every
            ``every`` epochs) or ``cosine`` (to 0, step by step).
        milestones: epochs before which the rate changes, counted from 0.
        every: instead of ``milestones``.
        gamma: factor of a step.
        warmup_epochs: over which the rate rises linearly from 0.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    milestones: Sequence[int] = ()
    every: int | None = None
    gamma: float = 0.1
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.name == "step" and bool(self.milestones) == bool(self.every):
            raise ValueError("schedule step needs either milestones or every")
        if self.name != "step" and (self.milestones or self.every is not None):
            raise ValueError(
                f"milestones and every are of schedule step: schedule.name is {self.name}"
            )
        refuse_below(1, schedule__every=self.every)
        refuse_below(
            0,
            schedule__gamma=self.gamma,
            schedule__warmup_epochs=self.warmup_epochs,
            schedule__milestones=min(self.milestones, default=None),
        )


@dataclass(frozen=True, kw_only=True)
class Loss:
    """``cross_entropy``, or ``squared_hinge`` (Brevitas' for its CNV and FC networks)."""

    name: Literal["cross_entropy", "squared_hinge"] = "cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.name == "squared_hinge" and self.label_smoothing:
            raise ValueError("label_smoothing is for cross_entropy; squared_hinge has none")
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"loss.label_smoothing must lie in [0, 1], not {self.label_smoothing}")
