"""Finding steps by their specs: strings of a name and fields, as which steps cross operators."""

from dataclasses import Field, fields
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from .step import Step

STEPS: dict[str, type[Step]] = {}
StepType = TypeVar("StepType", bound=type[Step])

# What a spec can hold, and what it is called.
TYPES = {str: "a word", bool: "a bool", int: "an integer", float: "a number"}


def register_step(step: StepType) -> StepType:
    """Class decorator that makes a step, a frozen dataclass, known by its name.

    Raises:
        ValueError: if the name is taken already, or a field has a type that no spec can hold.

    >>> from dataclasses import dataclass
    >>> @register_step
    ... @dataclass(frozen=True)
    ... class Half(Step):
    ...     size: float
    ...     name = "half"
    >>> parse_step("half:0.5"), Half(2.0).spec
    (Half(size=0.5), 'half:2.0')
    >>> del STEPS["half"]
    """
    if step.name in STEPS:
        raise ValueError(f"the step {step.name!r} is registered already, as {STEPS[step.name]}")
    types = get_type_hints(step)
    for field in fields(step):  # pyright: ignore[reportArgumentType]
        if types[field.name] not in TYPES:
            known = ", ".join(kind.__name__ for kind in TYPES)
            raise ValueError(f"{step.name}.{field.name} has to be one of {known} for a spec")
    STEPS[step.name] = step
    return step


@lru_cache(maxsize=1024)
def parse_step(spec: str) -> Step:
    """The registered step that a spec stands for: its name and its fields, as in ``"name:1:2.5"``.

    Raises:
        ValueError: for an unknown name (the valid ones are listed), too many or too few fields, or
            a field that cannot be read or is none of its choices.

    >>> parse_step("staircase:3:1.0:sum")
    PaperStaircase(steps=3, max_val=1.0, form='sum')
    """
    name, *values = spec.split(":")
    if name not in STEPS:
        raise ValueError(f"{spec!r} is no step: the registered ones are {', '.join(STEPS)}")
    step = STEPS[name]
    wanted = fields(step)  # pyright: ignore[reportArgumentType]
    if len(values) != len(wanted):
        form = ":".join([name, *(field.name for field in wanted)])
        raise ValueError(f"a step {name} is written {form!r}, not {spec!r}")
    return step(*(_parsed(step, *each) for each in zip(wanted, values, strict=True)))


def _parsed(step: type[Step], field: Field, value: str) -> Any:
    kind: Any = get_type_hints(step)[field.name]
    choices = ("True", "False") if kind is bool else step.choices.get(field.name)
    if choices is not None:
        if value not in choices:
            raise ValueError(
                f"{field.name} of a step {step.name} is one of {', '.join(choices)}, not {value!r}"
            )
        return value == "True" if kind is bool else value
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(
            f"{field.name} of a step {step.name} is {TYPES[kind]}, not {value!r}"
        ) from error
