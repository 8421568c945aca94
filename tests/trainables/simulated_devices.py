"""Devices that compute on the CPU, for a machine without GPUs: a tensor stays where it was put.

    with simulated_devices():
        a, b = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
        a + b           # DeviceMismatchError, as on GPUs
        a + b.to("cuda:0")

The type is `xla`, as nothing of CUDA works without a driver; accelerate knows both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")


class DeviceMismatchError(RuntimeError):
    """An operation got tensors of several devices."""


class Placed(Tensor):
    """A tensor on a simulated device.

    Attributes:
        values: its values, on the CPU.
    """

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor, device: torch.device) -> Placed:
        placed: Placed = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=device,
        )
        placed.values = values
        return placed

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.values!r} on {self.device}"

    def tolist(self) -> Any:
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(function, args, kwargs or {})


class _FromLists(TorchFunctionMode):
    """`torch.tensor` of numbers, which would ask CUDA itself for the device's memory."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function not in (torch.tensor, torch.as_tensor):
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


class _Mode(TorchDispatchMode):
    """Tensors that are made on a simulated device become placed ones."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    target = kwargs.get("device")
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    devices = {tensor.device for tensor in inputs if tensor.dim()}
    devices = devices or {tensor.device for tensor in inputs}
    moves = function._overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
    # Indices may be on the CPU, as on GPUs.
    indexes = function._overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
    if len(devices - {CPU} if indexes else devices) > 1 and not moves:
        raise DeviceMismatchError(f"{function}: tensors on {', '.join(map(str, devices))}")
    device = torch.device(target) if target is not None else _first(devices, inputs)
    if target is not None:
        kwargs = {**kwargs, "device": CPU}
    args, kwargs = tree_map_only(Placed, lambda placed: placed.values, (args, kwargs))
    result = function(*args, **kwargs)
    if function._schema.name.endswith("_") and inputs:
        return inputs[0]
    if device == CPU:
        return result
    return tree_map_only(Tensor, lambda values: Placed(values, device), result)


def _first(devices: set[torch.device], inputs: list[Tensor]) -> torch.device:
    of_inputs = (tensor.device for tensor in inputs if tensor.device in devices)
    return next((device for device in of_inputs if device != CPU), CPU)


@contextmanager
def simulated_devices() -> Iterator[None]:
    """While this lasts, there are devices `cuda:0`, `cuda:1` and so on."""
    torch._C._ensureCUDADeviceGuardSet()
    with _FromLists(), _Mode(), patch.object(torch.cuda, "_lazy_init", lambda: None):
        yield


def to_simulated(model: nn.Module, device_map: Mapping[str, int]) -> None:
    """Put the weights of modules on simulated devices.

    Args:
        device_map: path of a module or a weight -> number of its device.
    """
    for path, number in device_map.items():
        device, part = torch.device("cuda", number), attrgetter(path)(model)
        parent, _, name = path.rpartition(".")
        modules = part.modules() if isinstance(part, nn.Module) else ()
        owners = [(module, None) for module in modules] or [
            (attrgetter(parent)(model) if parent else model, name)
        ]
        for module, only in owners:
            for tensors in (module._parameters, module._buffers):
                for key, tensor in tensors.items():
                    if tensor is not None and only in (None, key):
                        moved = Placed(tensor.detach(), device)
                        is_weight = isinstance(tensor, nn.Parameter)
                        tensors[key] = nn.Parameter(moved, False) if is_weight else moved
