"""Settings of a finished run, as they were in force at its end."""

from splatdistill.errors import UserError
from splatdistill.settings.commands import TRAIN
from splatdistill.settings.layers import Layer, parse
from splatdistill.train.config import Train
from splatdistill.train.run import RunDir


def finished(folder: RunDir, option: str) -> tuple[Layer, Train]:
    """Return the settings in force at the end of a finished run, as a layer for others to stand on and as a configuration without phases;
    UserError, which names the option that asked, where the folder is no such run.
    """
    if not folder.splats.is_file() or not folder.config.is_file():
        raise UserError(f"{option} {folder.path}: there is no {folder.splats if folder.config.is_file() else folder.config}; expected the directory of a finished run")
    begun = Layer(f"{folder.path}, at its end", folder.settings() | {"phases": []})
    return begun, parse([], lambda source: None, TRAIN, earlier=[begun]).config
