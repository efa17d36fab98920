"""Any device of torch can be asked for by name; one that is not here is refused in a line."""

import pytest
import torch

from splatdistill.errors import UserError
from splatdistill.settings.resolve import device_of


def test_a_device_that_is_here_is_spelt_as_torch_spells_it():
    assert device_of("cpu") == "cpu" and device_of("cpu:0") == "cpu:0"
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("asked", ["gpu", "", "cuda:99", "cuda:-1", "meta", "cpu cuda", "opengl"])
def test_a_device_that_is_not_here_is_refused_in_a_line(asked):
    with pytest.raises(UserError, match="--device") as e:
        device_of(asked)
    assert "\n" not in str(e.value) and (not asked or asked in str(e.value)) and len(str(e.value)) < 350
