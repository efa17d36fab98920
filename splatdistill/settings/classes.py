"""The parts of a run that are chosen among classes: guidance, initialiser, densifier.

A choice is spelt by its name (`--guidance sdi`) or as a class in a file of one's own (`--guidance my_file.py:Mine`);
the chosen class's fields become options (`--guidance.scale 7.5`).
"""

import dataclasses
import difflib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from splatdistill.checks import shown
from splatdistill.errors import UserError
from splatdistill.settings.files import expanded, is_file


@dataclass(frozen=True)
class Choice:
    """Field of Train that holds an instance of one of several classes."""

    field: str
    base: type
    names: Mapping[str, type]

    def find(self, spelling: str) -> type:
        """Return the class that was asked for; UserError if there is none."""
        if spelling in self.names:
            return self.names[spelling]
        if ".py" in spelling:
            return own_class(spelling, self.base, self.field)
        near = alike(spelling, self.names)
        raise UserError(
            f"there is no {self.field} {shown(spelling)}; expected {', '.join(self.names)}, "
            "or a class of your own as FILE.py:CLASS." + (f" Did you mean --{self.field} {' or '.join(near)}?" if near else "")
        )

    def spell(self, kind: type) -> str:
        """Return the spelling from which `find` gets this class."""
        for name, known in self.names.items():
            if known is kind:
                return name
        try:
            return f"{Path(inspect.getfile(kind)).resolve()}:{kind.__name__}"
        except (TypeError, OSError):  # typed into an interpreter
            return f"<{kind.__qualname__}, which has no file>"

    def ancestry(self, kind: type) -> list[str]:
        """Return the names that the class and those it is derived from are known by, nearest first."""
        return [name for base in kind.__mro__ for name, known in self.names.items() if known is base]


def alike(word: str, names: Iterable[str]) -> list[str]:
    """Return the names that a word may have been meant for: the likeliest, of equals those that begin as it does, or nothing."""
    word, names = word[:60], list(names)
    matcher = difflib.SequenceMatcher(None, "", word)
    likeness: dict[str, tuple[float, int]] = {}
    for name in difflib.get_close_matches(word, names, len(names) or 1):
        matcher.set_seq1(name)
        same = next((k for k, (a, b) in enumerate(zip(name, word)) if a != b), len(word))
        likeness[name] = (matcher.ratio(), same)
    return [name for name in names if name in likeness and likeness[name] == max(likeness.values())]


def own_class(spelling: str, base: type, what: str) -> type:
    """Return a class from a Python file, given as FILE.py:CLASS; UserError if it cannot serve. Errors in the file are its own."""
    file, _, name = spelling.rpartition(":") if ":" in spelling else (spelling, "", "")
    path = expanded(file)
    if not is_file(path):
        raise UserError(f"--{what} {shown(spelling)}: there is no file {shown(str(path.absolute()))}; expected FILE.py:CLASS")
    module = run_file(path)
    own = [
        k
        for k, v in vars(module).items()
        if inspect.isclass(v) and issubclass(v, base) and v.__module__ == module.__name__
    ]
    kind = getattr(module, name, None) if name else None
    if not inspect.isclass(kind):
        has = f"it has {', '.join(own)}" if own else f"it has no subclass of {base.__name__} either"
        raise UserError(f"--{what} {spelling}: {path.name} has no class {name!r}; {has}. Expected FILE.py:CLASS")
    if not issubclass(kind, base):
        raise UserError(
            f"--{what} {spelling}: {name} is no {base.__name__}; derive it from {base.__module__}.{base.__name__}"
        )
    if inspect.isabstract(kind):
        missing = sorted(getattr(kind, "__abstractmethods__", ()))
        raise UserError(f"--{what} {spelling}: {name} does not define {', '.join(missing)}")
    if not dataclasses.is_dataclass(kind) or (
        inspect.get_annotations(kind) and "__dataclass_fields__" not in vars(kind)
    ):
        raise UserError(
            f"--{what} {spelling}: {name} is not a dataclass, so its fields are not options; "
            "put @dataclass(frozen=True) over it"
        )
    if bare := [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]:
        raise UserError(f"--{what} {spelling}: every field needs a default; {', '.join(bare)} of {name} has none")
    return kind


def run_file(path: Path) -> ModuleType:
    """Return a Python file as a module, executed once per process; its own imports are looked for beside it first."""
    path = path.resolve()
    name = f"own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file; expected FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module
