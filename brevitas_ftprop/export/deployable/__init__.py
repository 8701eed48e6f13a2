"""Which parts of a model will not map to a target, told before the export."""

from .check import check_deployable
from .finding import DeployReport, Finding

__all__ = ["DeployReport", "Finding", "check_deployable"]
