"""Orbits, sampling and view words."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.cameras import Cameras, Orbit, ViewWords, orbit, with_view
from splatdistill.errors import UserError


def seen(cameras: Cameras, point: list[float]) -> torch.Tensor:
    """Return pixel x, pixel y and depth (b,3) of a world point."""
    p = cameras.world_to_camera[:, :3, :3] @ torch.tensor(point) + cameras.world_to_camera[:, :3, 3]
    xy = (cameras.intrinsics @ p[..., None])[:, :2, 0] / p[:, 2:]
    return torch.cat([xy, p[:, 2:]], 1)


def furthest_from_cdf(values: torch.Tensor) -> float:
    """Return the Kolmogorov-Smirnov distance of values from U[0, 1]."""
    ordered, n = values.sort().values, len(values)
    steps = torch.arange(n + 1) / n
    return torch.maximum(ordered - steps[:-1], steps[1:] - ordered).max().item()


ONE_PERCENT = 1.63  # critical value of sqrt(n) times the Kolmogorov-Smirnov distance


def test_front_view() -> None:
    """Azimuth 0 stands on +x: the front is nearest, +y lies right, +z up; the origin is the image's centre."""
    camera = orbit([0.0], 0.0, 3.0, 90.0, width=20, height=10)
    torch.testing.assert_close(camera.position, torch.tensor([[3.0, 0, 0]]))
    torch.testing.assert_close(seen(camera, [0.0, 0, 0]), torch.tensor([[10.0, 5, 3]]))
    torch.testing.assert_close(seen(camera, [1.0, 0, 0]), torch.tensor([[10.0, 5, 2]]))
    torch.testing.assert_close(seen(camera, [0.0, 3, 0]), torch.tensor([[15.0, 5, 3]]))
    torch.testing.assert_close(seen(camera, [0.0, 0, 3]), torch.tensor([[10.0, 0, 3]]))  # half the field of view is 45


@pytest.mark.parametrize("elevation", [-90.0, -40.0, 0.0, 70.0, 90.0])
def test_rigid_and_upright(elevation: float) -> None:
    cameras = orbit([0.0, 50.0, 179.0, -120.0], elevation)
    turn = cameras.world_to_camera[:, :3, :3]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(4, 3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(turn.det(), torch.ones(4))
    top, bottom = seen(cameras, [0.0, 0, 0.1]), seen(cameras, [0.0, 0, -0.1])
    torch.testing.assert_close(top[:, 0], torch.full((4,), 32.0), rtol=0, atol=1e-3)
    if abs(elevation) < 90:
        assert (top[:, 1] < bottom[:, 1]).all()


@settings(max_examples=100, deadline=None)
@given(
    azimuth=st.floats(-179.9, 180),
    elevation=st.floats(-89, 89),
    distance=st.floats(0.5, 10),
    fov=st.floats(5, 120),
)
def test_round_trip(azimuth: float, elevation: float, distance: float, fov: float) -> None:
    camera = orbit([azimuth], elevation, distance, fov, width=48, height=32)
    assert abs((camera.azimuth.item() - azimuth + 180) % 360 - 180) < 5e-3  # float32, and near a pole
    assert camera.elevation.item() == pytest.approx(elevation, abs=2e-2)  # asin's slope near +-90
    assert camera.distance.item() == pytest.approx(distance, rel=1e-5)
    assert camera.vertical_fov.item() == pytest.approx(fov, rel=1e-5)


def test_one_value_or_one_per_camera() -> None:
    each = orbit([10.0, 20.0], [1.0, 2.0], [3.0, 4.0], [30.0, 40.0])
    for i in range(2):
        single = orbit([[10.0, 20.0][i]], [1.0, 2.0][i], [3.0, 4.0][i], [30.0, 40.0][i])
        assert torch.equal(each.world_to_camera[i], single.world_to_camera[0])
        assert torch.equal(each.intrinsics[i], single.intrinsics[0])


def test_resized_sees_the_same_rays(rng: torch.Generator) -> None:
    cameras = Orbit().sample(3, 64, 48, rng)
    large = cameras.resized(160, 96)
    assert (large.width, large.height) == (160, 96)
    for point in ([0.3, -0.2, 0.4], [-0.5, 0.1, 0.0]):
        relative = torch.tensor([160 / 64, 96 / 48, 1.0])
        torch.testing.assert_close(seen(large, point), seen(cameras, point) * relative)
    torch.testing.assert_close(large.vertical_fov, cameras.vertical_fov)


def test_parts_and_joins() -> None:
    cameras = orbit([0.0, 90.0, 180.0], width=32)
    again = Cameras.cat([cameras[[0]], cameras[torch.tensor([1])], cameras[2:]])
    assert len(again) == 3 and (again.width, again.height) == (32, 32)
    assert torch.equal(again.world_to_camera, cameras.world_to_camera)
    assert cameras.to(dtype=torch.float64).intrinsics.dtype == torch.float64


@pytest.mark.parametrize("elevation", [(-10.0, 70.0), (30.0, 31.0), (-90.0, 90.0)])
def test_elevations_spread_over_the_sphere(elevation: tuple[float, float], rng: torch.Generator) -> None:
    """sin(elevation) is uniform on the range (Archimedes), and no view leaves the range."""
    n = 4000
    got = Orbit(elevation=elevation).sample(n, 8, 8, rng).elevation
    low, high = elevation
    assert got.min() >= low - 0.05 and got.max() <= high + 0.05  # float32 angles near a pole
    below, above = math.sin(math.radians(low)), math.sin(math.radians(high))
    uniform = (torch.deg2rad(got).sin() - below) / (above - below)
    assert furthest_from_cdf(uniform) < ONE_PERCENT / n**0.5


def test_elevations_spread_over_degrees(rng: torch.Generator) -> None:
    n = 4000
    got = Orbit(elevation=(-10, 70), uniform="degrees").sample(n, 8, 8, rng).elevation
    assert furthest_from_cdf((got + 10) / 80) < ONE_PERCENT / n**0.5
    by_area = (torch.deg2rad(got).sin() - math.sin(math.radians(-10))) / (
        math.sin(math.radians(70)) - math.sin(math.radians(-10))
    )
    assert furthest_from_cdf(by_area) > ONE_PERCENT / n**0.5


def test_distance_and_field_of_view_spread_over_their_ranges(rng: torch.Generator) -> None:
    n = 2000
    cameras = Orbit(distance=(2.0, 4.0), fov=(20.0, 60.0)).sample(n, 8, 8, rng)
    for uniform in ((cameras.distance - 2) / 2, (cameras.vertical_fov - 20) / 40):
        assert furthest_from_cdf(uniform) < ONE_PERCENT / n**0.5
    together = torch.corrcoef(torch.stack([cameras.elevation, cameras.distance, cameras.vertical_fov]))
    assert (together - torch.eye(3)).abs().max() < 0.08


@pytest.mark.parametrize("batch", [1, 2, 4, 7])
def test_a_batch_sees_all_around(batch: int, rng: torch.Generator) -> None:
    """Neighbours are never more than two sectors apart; over many batches every azimuth is as likely."""
    everything = []
    for _ in range(600):
        azimuth = Orbit().sample(batch, 8, 8, rng).azimuth.sort().values
        gaps = torch.diff(torch.cat([azimuth, azimuth[:1] + 360]))
        assert gaps.max() <= 720 / batch + 0.01
        everything.append(azimuth[torch.randint(batch, (1,), generator=rng)])
    assert furthest_from_cdf((torch.cat(everything) + 180) / 360) < ONE_PERCENT / 600**0.5


@pytest.mark.parametrize(
    ("progress", "distance", "fov"),
    [(0.0, (5.0, 6.0), (20.0, 30.0)), (0.25, (4.5, 5.5), (15.0, 30.0)), (0.5, (4.0, 5.0), (10.0, 30.0)), (1.0, (4.0, 5.0), (10.0, 30.0))],
)
def test_cameras_may_come_nearer(progress: float, distance: tuple[float, float], fov: tuple[float, float], rng: torch.Generator) -> None:
    moving = Orbit(distance=(5.0, 6.0), fov=(20.0, 30.0), distance_end=(4.0, 5.0), fov_end=(10.0, 30.0), until=0.5)
    now = moving.at(progress)
    assert (now.distance, now.fov) == (distance, fov) and now.elevation == moving.elevation
    cameras = now.sample(200, 8, 8, rng)
    for values, (low, high) in ((cameras.distance, distance), (cameras.vertical_fov, fov)):
        assert low - 1e-3 <= values.min() < low + 0.1 * (high - low) and high - 0.1 * (high - low) < values.max() <= high + 1e-3


def test_cameras_that_stay_stay() -> None:
    still = Orbit(distance=(5.0, 6.0))
    assert still.at(0.7) is still
    assert Orbit(distance=(5.0, 6.0), fov_end=(10.0, 30.0)).at(1.0).distance == (5.0, 6.0)
    with pytest.raises(UserError, match="distance-end must go from low to high"):
        Orbit(distance_end=(3.0, 2.0))


def test_sampling_repeats_with_its_generator() -> None:
    a, b, c = (Orbit().sample(3, 8, 8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.world_to_camera, b.world_to_camera) and torch.equal(a.intrinsics, b.intrinsics)
    assert not torch.equal(a.world_to_camera, c.world_to_camera)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "word"),
    [
        (0, 0, "front"),
        (44.9, 0, "front"),
        (45, 0, "side"),
        (-45, 0, "side"),
        (90, 0, "side"),
        (135, 0, "side"),
        (135.1, 0, "back"),
        (-135.1, 0, "back"),
        (180, 0, "back"),
        (-180, 0, "back"),
        (360 + 10, 0, "front"),
        (0, 60, "front"),
        (0, 60.1, "overhead"),
        (180, 89, "overhead"),
        (0, -89, "front"),
    ],
)
def test_view_words(azimuth: float, elevation: float, word: str) -> None:
    assert ViewWords().word(azimuth, elevation) == word


def test_view_words_of_cameras() -> None:
    cameras = orbit([0.0, 90.0, 180.0, 0.0, 20.0], [0.0, 0, 0, 75, 0])
    assert ViewWords().words(cameras) == ["front", "side", "back", "overhead", "front"]
    assert ViewWords(front_angle=15, back_angle=60, overhead_angle=80).words(cameras) == ["front", "side", "back", "front", "side"]


def test_with_view() -> None:
    assert with_view("a mug", "side") == "a mug, side view"
    assert with_view("a mug", None) == "a mug"


@pytest.mark.parametrize("azimuth, elevation, phrase", [
    (0, 0, "front"), (-22, 0, "front"), (23, 0, "front left"), (90, 59, "left side"), (135, 0, "back left"), (180, 0, "back"), (-180, 0, "back"),
    (-135, 0, "back right"), (-90, 0, "right side"), (270, 0, "right side"), (-45, 0, "front right"), (90, 61, "overhead left side"), (0, 75, "overhead front"),
])
def test_directions_tell_left_from_right(azimuth: float, elevation: float, phrase: str) -> None:
    words = ViewWords(left_right=True)
    assert words.phrase(azimuth, elevation) == phrase
    assert words.phrases(orbit([azimuth], elevation)) == [phrase]


def test_without_directions_a_phrase_is_the_word() -> None:
    cameras = orbit([0, 90, 180, 270, 0], [0, 0, 0, 0, 80])
    assert ViewWords().phrases(cameras) == ViewWords().words(cameras) == ["front", "side", "back", "side", "overhead"]
