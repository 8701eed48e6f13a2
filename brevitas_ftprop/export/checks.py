"""Refuse what cannot be exported or verified before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from brevitas import config
from torch import Tensor
from torch.jit import ScriptModule
from torch.nn import Module

from .errors import ExportError
from .output_file import check_name
from .quantizers import quantizer_proxies


def check_model(model: Module) -> None:
    """Raise unless the model is an unscripted float32 Brevitas model on the CPU, out of export.

    Raises:
        TypeError: if ``model`` is not a module, or is scripted, or is not float32.
        ValueError: if it has no Brevitas quantizer, or is not on the CPU.
        ExportError: if an earlier export left it, or Brevitas, in export mode.
    """
    if not isinstance(model, Module):
        raise TypeError(f"expected a torch.nn.Module with Brevitas layers, got {_type(model)}")
    for name, module in model.named_modules():
        # By name: importing torch._dynamo takes seconds.
        if type(module).__name__ == "OptimizedModule":
            raise TypeError(f"{name or 'the model'} is compiled: export the module it was made of")
        if isinstance(module, ScriptModule):
            raise TypeError(
                f"{name or 'the model'} is scripted (BREVITAS_JIT=1 or torch.jit.script): "
                "build the model with BREVITAS_JIT=0 and load its state dict"
            )
    if not quantizer_proxies(model):
        raise ValueError(
            "the model has no enabled Brevitas quantizer: build it from brevitas.nn layers"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TypeError(
                f"{name} is {tensor.dtype}, but only float32 models are exported: "
                "convert a copy with model.float()"
            )
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} is on {tensor.device}: move the model to the CPU first")
    for name, proxy in quantizer_proxies(model).items():
        if proxy.export_mode or proxy.export_handler is not None:
            raise ExportError(
                f"{name} is in export or inference mode: leave quant_inference_mode; if a failed "
                "Brevitas export left it so, build the model anew and load its state dict"
            )
    if config._ONGOING_EXPORT is not None:
        raise ExportError(
            "Brevitas believes that another export is going on (one that failed, or runs in "
            "another thread): wait for it, or set brevitas.config._ONGOING_EXPORT to None"
        )


def check_finite(model: Module) -> None:
    """Raise unless all parameters and buffers are finite.

    Raises:
        ValueError: names the first one that is not.
    """
    for name in not_finite(model):
        raise ValueError(f"the model's {name} holds values that are not finite")


def not_finite(model: Module) -> Iterator[str]:
    """The parameters and buffers with values that are not finite."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            yield name


def check_batch(batch: Tensor, *, name: str) -> None:
    """Raise unless ``batch`` is a non-empty, finite float32 tensor on the CPU.

    Raises:
        TypeError: for other types and dtypes.
        ValueError: for an empty or non-finite tensor, or one on another device.
    """
    if not isinstance(batch, Tensor) or type(batch) not in (Tensor, torch.nn.Parameter):
        raise TypeError(f"{name} must be one float32 tensor, got {_type(batch)}")
    if batch.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, got {batch.dtype}")
    if batch.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got {batch.device}")
    if batch.dim() == 0 or batch.numel() == 0:
        raise ValueError(f"{name} must have a batch dimension and elements, got {batch.shape}")
    if not bool(torch.isfinite(batch).all()):
        raise ValueError(f"{name} holds values that are not finite")


def check_path(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path as a ``Path``, if a file can be written there.

    Raises:
        FileNotFoundError: if the folder is missing.
        FileExistsError: if the file exists and may not be overwritten.
        IsADirectoryError: if the path is a folder.
        PermissionError: if the folder, or the file to overwrite, cannot be written.
        OSError: if the name is too long.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if target.is_symlink():
        raise FileExistsError(f"{path} is a symbolic link that leads back to itself: remove it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist: create it first")
    check_name(target)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise FileExistsError(f"{target} is not a regular file: give another path")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: give the path of a file")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: pass overwrite=True to replace it")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {target.parent} cannot be written")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{target} is write-protected")
    return target


def _type(value: object) -> str:
    return type(value).__name__
