"""The build step that ships the recipes: configs/ of the repository becomes splatdistill/configs/ of the wheel.

An editable installation and an uninstalled checkout read configs/ in place, so there is one copy to edit.
"""

from pathlib import Path

from setuptools.command.build_py import build_py

SOURCE = Path("configs")  # setuptools builds from the repository's root


class BuildWithRecipes(build_py):
    """Build command build_py that adds the recipes to the package's modules."""

    def _recipes(self) -> list[tuple[Path, Path]]:
        target = Path(self.build_lib) / "splatdistill" / "configs"
        return [(f, target / f.relative_to(SOURCE)) for f in sorted(SOURCE.rglob("*.yaml"))]

    def run(self) -> None:
        """Copy the modules, then the recipes."""
        super().run()
        if not self.editable_mode:
            for source, target in self._recipes():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_source_files(self) -> list[str]:
        """Return the recipes and this file, which a source distribution needs too."""
        return [
            *super().get_source_files(),
            *(str(source) for source, _ in self._recipes()),
            str(Path("scripts") / Path(__file__).name),
        ]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return every file that was put into the wheel."""
        shipped = [] if self.editable_mode else [str(target) for _, target in self._recipes()]
        return [*super().get_outputs(include_bytecode), *shipped]
