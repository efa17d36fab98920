"""Guidance memory that draws may use without changing it."""

from torch import Tensor, nn


class Held:
    """Guidance memory that is restored after each use, so that draws do not depend on earlier draws."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.kept = {k: v.clone() for k, v in module.state_dict().items()}

    def __enter__(self) -> nn.Module:
        self.before = self.module.state_dict()  # held, so that no other tensor takes the place of one of them
        self.versions = {k: v._version for k, v in self.before.items()}
        return self.module

    def __exit__(self, *error: object) -> None:
        now = self.module.state_dict()
        if now.keys() != self.before.keys() or any(self.changed(k, v) for k, v in now.items()):
            self.module.load_state_dict(self.kept)

    def changed(self, name: str, value: Tensor) -> bool:
        """Return True if a tensor was written to, or another one was put in its place."""
        before = self.before[name]
        return value.shape != before.shape or value.data_ptr() != before.data_ptr() or value._version != self.versions[name]
