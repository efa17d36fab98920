"""Tensors that a guidance makes while it runs and keeps from step to step, however many they become."""

from collections.abc import Callable

from torch import Tensor, nn


class NamedTensors(nn.Module):
    """Tensors by name, as buffers that state_dict carries; load_state_dict leaves what was saved and nothing else."""

    def keep(self, name: str, value: Tensor) -> Tensor:
        """Store a tensor under a name, in place of the one that was there; return it."""
        self.register_buffer(name, value.detach())
        return value

    def get(self, name: str, shape: tuple[int, ...], like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """Return what is kept under a name, on the device of `like`; made now where there is nothing of this shape and type."""
        kept = self._buffers.get(name)
        if kept is None or kept.shape != shape or kept.dtype != like.dtype:
            kept = make()
        return kept if kept is self._buffers.get(name) and kept.device == like.device else self.keep(name, kept.to(like.device))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Replace all tensors by the saved ones, under the names they had."""
        self._buffers.clear()
        for key, value in state_dict.items():
            if key.startswith(prefix) and key != prefix and "." not in key[len(prefix) :]:
                self.register_buffer(key[len(prefix) :], value.clone())
        super()._load_from_state_dict(state_dict, prefix, *args)
