"""The rearranging autoencoder loses nothing and puts every pixel where its docstring says."""

from pathlib import Path

import torch

from splatdistill.priors.patches import PatchAutoencoder


def test_round_trip_layout_and_config(tmp_path: Path) -> None:
    vae = PatchAutoencoder(patch=2, scaling_factor=0.5)
    image = torch.rand(2, 3, 6, 8)
    x = vae.encode(image)
    assert x.shape == (2, 12, 3, 4)
    torch.testing.assert_close(vae.decode(x), image)
    torch.testing.assert_close(x[:, 1 * 4 + 1 * 2 + 0, 2, 3], 0.5 * image[:, 1, 2 * 2 + 1, 2 * 3])
    vae.save_pretrained(tmp_path)
    torch.testing.assert_close(PatchAutoencoder.from_pretrained(tmp_path).encode(image), x)
