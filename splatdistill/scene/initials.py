"""Beginnings of scenes by name."""

from splatdistill.scene.initial import Ball, Blob, FromFile, FromGenerator, Initial
from splatdistill.scene.shape import FromShape

INITIALS: dict[str, type[Initial]] = {"ball": Ball, "blob": Blob, "file": FromFile, "shape": FromShape, "generator": FromGenerator}
