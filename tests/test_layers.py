"""The house rules of imports: down only, siblings apart, no circles, heavy libraries where they are needed, files small;
and of docstrings: plain sentences, no questions.

The checker reads sources, never imports them. Its own tests at the end show that it catches what it should.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, VIEWER, SCRIPTS = "splatdistill", "splatdistill_viewer", "scripts"

# From the ground up. A room may import those on lower floors and itself, nothing beside or above it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("checks", "shell", "system"),
    ("cameras", "gaussians", "renamed", "sh", "weight_files"),
    ("render", "io", "toybox", "priors", "estimators"),
    ("guidance", "scene"),
    ("densify",),
    ("train",),
    ("settings",),
    ("evaluate", "export"),
    ("bench",),
    ("api",),
    ("cli",),
    ("__init__", "__main__"),  # the public names, and python -m splatdistill
)
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}

# Libraries that are slow to load, and who may do so when imported; everybody else imports them in a function.
HEAVY: dict[str, tuple[str, ...]] = {
    "diffusers": ("splatdistill/priors/stable.py",),
    "transformers": ("splatdistill/priors/stable.py",),
    "gsplat": (),
    "numba": ("splatdistill/render/cpu/", "splatdistill/toybox/tracer.py", "splatdistill/toybox/triangles.py"),
    "llvmlite": ("splatdistill/render/cpu/",),
    "kornia": (),
    "matplotlib": (),
    "scipy": (),
    "viser": ("viewer/splatdistill_viewer/",),
    VIEWER: ("viewer/splatdistill_viewer/",),
}

# Circles of imports inside a room that are still there. The list only shrinks: one that has been resolved must be taken out.
CIRCLES: tuple[frozenset[str], ...] = ()

# Modules whose import must not load torch, directly or through others, so that --help is instant.
TORCH_FREE: tuple[str, ...] = ("splatdistill", "splatdistill.cli", "splatdistill.cli.missing_prompt", "splatdistill.cli.already_finished", "splatdistill.train.notes", "splatdistill.bench.preset", *(f"splatdistill.cli.{name}" for name in ("bench", "evaluate", "variance")))

LONGEST = 300  # lines; beyond it a file has two subjects

# First words of a docstring that poses a riddle instead of naming its subject ("Where to run" for "Device to compute on").
RIDDLES = frozenset({"What", "Whatever", "When", "Where", "Whether", "Which", "Who", "Whose", "Why", "How"})


def imports(path: str, source: str) -> Iterator[tuple[str, bool, int]]:
    """Yield (dotted name, whether importing the module runs it, line) of every import; relative ones resolved."""
    package = dotted(path).split(".")
    if not path.endswith("/__init__.py"):
        package = package[:-1]

    def visit(node: ast.AST, eager: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, eager, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", eager, node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, eager)
        else:
            inside = eager and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(ast.parse(source), True)


def dotted(path: str) -> str:
    """Return the module's dotted name: splatdistill.render of splatdistill/render/__init__.py; a script is a module at the top."""
    return path.removeprefix("viewer/").removeprefix("scripts/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(path: str) -> str:
    """Return the first folder or file below the package; the viewer is one room, above all, and the scripts another."""
    parts = Path(path).parts
    return {"viewer": VIEWER, SCRIPTS: SCRIPTS}.get(parts[0], Path(parts[1]).stem)


def room_imported(name: str) -> str | None:
    """Return the room that a dotted name reaches into; None outside the package, or for its version."""
    first, _, rest = name.partition(".")
    if first == VIEWER:
        return VIEWER
    if first != PACKAGE or rest == "__version__":
        return None
    room = rest.split(".")[0]
    direct = "." not in rest  # `from splatdistill import x`: a room, or one of the public names
    return "__init__" if not room or (direct and room not in FLOOR) else room


def broken_layers(path: str, source: str) -> Iterator[str]:
    """Yield imports that go up, sideways or to no room."""
    here = room_of(path)
    if here not in (VIEWER, SCRIPTS) and here not in FLOOR:
        yield f"{path}: room {here!r} is in no layer; give it a place in LAYERS"
        return
    for name, _, line in imports(path, source):
        there = room_imported(name)
        if there is None or there == here or here == SCRIPTS:
            continue
        if here == VIEWER:
            if there in ("cli", "__main__"):
                yield f"{path}:{line}: {there} starts the viewer, not the other way round"
        elif there == VIEWER:
            if here != "cli":
                yield f"{path}:{line}: only the command line starts the viewer"
        elif there not in FLOOR:
            yield f"{path}:{line}: {name} is in no layer"
        elif FLOOR[there] == FLOOR[here]:
            yield f"{path}:{line}: {here} and {there} are siblings"
        elif FLOOR[there] > FLOOR[here]:
            yield f"{path}:{line}: {there} is above {here}"


def heavy_imports(path: str, source: str) -> Iterator[str]:
    """Yield heavy libraries, or the library's own rooms by its lazy head, loaded on import."""
    for name, eager, line in imports(path, source):
        library = name.split(".")[0]
        if eager and library in HEAVY and not path.startswith((*HEAVY[library], f"{SCRIPTS}/")):
            yield f"{path}:{line}: {library} must be imported inside a function here"
        if eager and path == f"{PACKAGE}/__init__.py" and library == PACKAGE:
            yield f"{path}:{line}: the public names are loaded when first used"


def loaded_by(module: str, sources: dict[str, str]) -> set[str]:
    """Return everything that importing a module imports, through the modules among `sources` and their packages."""
    modules = {dotted(path): path for path in sources}
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        if name in modules:
            path = modules[name]
            waiting += [n for n, eager, _ in imports(path, sources[path]) if eager]
    return found


def circles(sources: dict[str, str]) -> list[frozenset[str]]:
    """Return groups of modules that import each other, at whatever moment; what a package's head loads of its own package in a
    function does not count, since that is how a package offers what is in it.
    """
    modules = {dotted(path): path for path in sources}

    def module_of(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        head = f"{module}." if path.endswith("__init__.py") else "/"
        found = ((module_of(name), eager) for name, eager, _ in imports(path, sources[path]))
        graph[module] = {there for there, eager in found if there and there != module and (eager or not there.startswith(head))}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {module: reached(module) for module in graph}
    return sorted({frozenset(b for b in reach[a] if a in reach[b]) for a in reach if a in reach[a]}, key=sorted)


def docstrings(source: str) -> Iterator[tuple[str, int]]:
    """Yield (text, line) of every docstring, those under fields and constants included: they are the help of options."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str):
                yield statement.value.value, statement.lineno


def riddles(path: str, source: str) -> Iterator[str]:
    """Yield the docstrings that begin with a question word."""
    for text, line in docstrings(source):
        word = text.split(maxsplit=1)[0].rstrip(",.:;?!") if text.strip() else ""
        if word in RIDDLES:
            yield f"{path}:{line}: a docstring begins with {word!r}; name its subject"


def unnamed_encodings(path: str, source: str) -> Iterator[str]:
    """Yield the calls that read or write a text file in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            own = len(node.args) == (node.func.attr == "write_text")  # with more arguments it is another function of that name
            if own and not any(k.arg == "encoding" for k in node.keywords):
                yield f"{path}:{node.lineno}: {node.func.attr} without encoding=\"utf-8\""


def violations(sources: dict[str, str], torch_free: tuple[str, ...] = ()) -> list[str]:
    """Return all violations in a set of sources by path, one line each."""
    found: list[str] = []
    for path, source in sorted(sources.items()):
        found += broken_layers(path, source)
        found += heavy_imports(path, source)
        found += riddles(path, source)
        found += unnamed_encodings(path, source)
        if (n := len(source.splitlines())) > LONGEST:
            found.append(f"{path}: {n} lines; past {LONGEST} it has two subjects")
    found += [f"{' <-> '.join(sorted(c))}: a circle" for c in circles(sources) if c not in CIRCLES]
    found += [f"{module}: loads torch" for module in torch_free if "torch" in loaded_by(module, sources)]
    return found


def test_the_house() -> None:
    sources = house()
    assert len(sources) > 20 and {path.split("/")[0] for path in sources} == {PACKAGE, "viewer", SCRIPTS}
    found = violations(sources, TORCH_FREE)
    assert not found, "\n" + "\n".join(found)


def test_the_tests_keep_the_rules_of_words_and_texts() -> None:
    sources = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py")}
    found = [line for path, source in sources.items() for check in (riddles, unnamed_encodings) for line in check(path, source)]
    assert len(sources) > 50 and not found, "\n" + "\n".join(found)


def test_the_list_of_circles_shrinks() -> None:
    gone = [" <-> ".join(sorted(c)) for c in CIRCLES if c not in circles(house())]
    assert not gone, f"take out of CIRCLES: {'; '.join(gone)}"


def house() -> dict[str, str]:
    """Return all sources by path."""
    files = [path for folder in (PACKAGE, "viewer", SCRIPTS) for path in (ROOT / folder).rglob("*.py")]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}


def test_lists_name_what_exists() -> None:
    """An owner or a torch-free module that has moved leaves no loophole behind."""
    for path in (path for owners in HEAVY.values() for path in owners):
        assert (ROOT / path).exists(), path
    for module in TORCH_FREE:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("splatdistill/cameras.py", "from splatdistill.render import Screen", "render is above cameras"),
        ("splatdistill/cameras.py", "import splatdistill.train.loop", "train is above cameras"),
        ("splatdistill/cameras.py", "from . import render", "render is above cameras"),
        ("splatdistill/render/cpu/api.py", "from ...guidance.sds import SDS", "guidance is above render"),
        ("splatdistill/render/a.py", "def f():\n    from splatdistill import train", "train is above render"),
        ("splatdistill/scene/a.py", "if TYPE_CHECKING:\n    from splatdistill.cli import x", "cli is above scene"),
        ("splatdistill/io/ply.py", "from splatdistill.render import Screen", "io and render are siblings"),
        ("splatdistill/gaussians.py", "from splatdistill import sh", "gaussians and sh are siblings"),
        ("splatdistill/guidance/a.py", "from splatdistill.scene import Scene", "guidance and scene are siblings"),
        ("splatdistill/train/a.py", "from splatdistill import distil", "__init__ is above train"),
        ("splatdistill/train/a.py", "import splatdistill", "__init__ is above train"),
        ("splatdistill/train/a.py", "from splatdistill.cellar.a import b", "splatdistill.cellar.a.b is in no layer"),
        ("splatdistill/cellar/a.py", "import math", "room 'cellar' is in no layer"),
        ("splatdistill/cellar.py", "import math", "room 'cellar' is in no layer"),
        ("splatdistill/train/a.py", "def f():\n    import splatdistill_viewer", "only the command line"),
        ("splatdistill/cli/a.py", "from splatdistill_viewer import serve", "splatdistill_viewer must be"),
        ("splatdistill/priors/a.py", "from diffusers import UNet2DModel", "diffusers must be imported inside"),
        ("splatdistill/priors/a.py", "try:\n    import transformers\nfinally:\n    pass", "transformers must be"),
        ("splatdistill/render/a.py", "class A:\n    import numba.core", "numba must be imported inside"),
        ("splatdistill/render/cuda.py", "import gsplat", "gsplat must be imported inside"),
        ("splatdistill/__init__.py", "from splatdistill.cameras import orbit", "loaded when first used"),
        ("splatdistill/io/a.py", "x = 1\n" * 301, "301 lines"),
        ("splatdistill/settings/a.py", "from splatdistill.cli import train", "cli is above settings"),
        ("splatdistill/settings/a.py", "from splatdistill.evaluate import measure", "evaluate is above settings"),
        ("splatdistill/train/a.py", "from splatdistill.settings import layers", "settings is above train"),
        ("viewer/splatdistill_viewer/a.py", "from splatdistill.cli.train import command", "cli starts the viewer"),
        ("scripts/a.py", "x = 1\n" * 301, "301 lines"),
        ("scripts/a.py", "from pathlib import Path\nx = Path('a').read_text()", "a.py:2: read_text without encoding"),
        ("splatdistill/io/a.py", "def f(p):\n    p.write_text('x')", "a.py:2: write_text without encoding"),
        ("scripts/a.py", '"""What it does."""', "a.py:1: a docstring begins with 'What'"),
        ("splatdistill/io/a.py", 'def f():\n    """Whether it is so."""', "a.py:2: a docstring begins with 'Whether'"),
        ("splatdistill/train/a.py", 'class A:\n    device: str = "cpu"\n    """Where to run: auto, cpu."""', "a.py:3: a docstring begins with 'Where'"),
        ("viewer/splatdistill_viewer/a.py", 'LIMIT = 3\n"""How: many."""', "a.py:2: a docstring begins with 'How'"),
    ],
)
def test_the_checker_catches(path: str, source: str, complaint: str) -> None:
    found = violations({path: source})
    assert len(found) == 1 and complaint in found[0], found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("splatdistill/render/reference.py", "from splatdistill import sh\nfrom splatdistill.render import Screen"),
        ("splatdistill/render/cpu/api.py", "from . import pool\nfrom .. import Screen\nimport numba"),
        ("splatdistill/train/loop.py", "from splatdistill import __version__\nimport torch"),
        ("splatdistill/render/cuda.py", "def f():\n    import gsplat"),
        ("splatdistill/cli/view.py", "def f():\n    from splatdistill_viewer import serve"),
        ("splatdistill/__init__.py", "if TYPE_CHECKING:\n    from splatdistill.cameras import orbit"),
        ("splatdistill/__main__.py", "from splatdistill.cli import main"),
        ("viewer/splatdistill_viewer/app.py", "import viser\nfrom splatdistill import orbit\nfrom . import scene"),
        ("splatdistill/io/a.py", "x = 1\n" * 300),
        ("splatdistill/io/a.py", '"""Return what it is."""\nx = "Where to run"\n""" """'),
    ],
)
def test_the_checker_allows(path: str, source: str) -> None:
    assert violations({path: source}) == []


def test_the_checker_finds_circles() -> None:
    sources = {
        "splatdistill/io/__init__.py": "def read():\n    from splatdistill.io import ply",
        "splatdistill/io/ply.py": "from splatdistill.io import table",
        "splatdistill/io/table.py": "import math",
        "scripts/a.py": "import b",
        "scripts/b.py": "import math",
    }
    assert circles(sources) == []
    lazy = {**sources, "splatdistill/io/table.py": "def f():\n    from splatdistill.io.ply import read"}
    assert violations(lazy) == ["splatdistill.io.ply <-> splatdistill.io.table: a circle"]
    typing = {**sources, "splatdistill/io/table.py": "if TYPE_CHECKING:\n    from splatdistill.io import ply"}
    assert violations(typing) == ["splatdistill.io.ply <-> splatdistill.io.table: a circle"]
    long = {**sources, "splatdistill/io/table.py": "from . import spz", "splatdistill/io/spz.py": "from .ply import x"}
    assert violations(long) == ["splatdistill.io.ply <-> splatdistill.io.spz <-> splatdistill.io.table: a circle"]
    assert violations({**sources, "scripts/b.py": "import a"}) == ["a <-> b: a circle"]
    eager = {**sources, "splatdistill/io/__init__.py": "from splatdistill.io import ply", "splatdistill/io/ply.py": "from splatdistill.io import read"}
    assert violations(eager) == ["splatdistill.io <-> splatdistill.io.ply: a circle"]


def test_the_checker_follows_imports_to_torch() -> None:
    sources = {
        "splatdistill/__init__.py": "",
        "splatdistill/train/__init__.py": "",
        "splatdistill/train/config.py": "from splatdistill.train.words import Word",
        "splatdistill/train/words.py": dedent("""
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                import torch
            def later():
                import torch
        """),
    }
    module = "splatdistill.train.config"
    assert violations(sources, (module,)) == []
    for path in ("splatdistill/train/words.py", "splatdistill/train/__init__.py", "splatdistill/__init__.py"):
        broken = {**sources, path: "from torch import nn"}
        assert violations(broken, (module,)) == [f"{module}: loads torch"]
