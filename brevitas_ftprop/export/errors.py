"""The ways in which exporting and verifying refuse to go on."""


class ExportError(RuntimeError):
    """The model could not be exported; the model and the file system are as they were.

    Attributes:
        remedy: what exports it as it is, if anything is known to: ``"dynamo=False"``.
    """

    remedy = ""


class VerificationError(RuntimeError):
    """The file could not be compared with the model, or it computes something else."""


class DamagedFileError(VerificationError):
    """The file cannot be read as one that this package wrote."""


class MissingToolError(ExportError, VerificationError):
    """A package or program that the work needs is missing or too old; says how to get it."""
