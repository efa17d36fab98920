"""Steps on the splats of one prompt that a generator has made: SDI from the middle of its times on."""

LATEST = 0.5  # time t at which polishing begins: what an object is has been decided


def polishing(steps: int) -> list[str]:
    """Return the options of `train`, but for `--steps`, for so many steps of it."""
    return ["--guidance", "sdi", "--guidance.times.t-max", str(LATEST), "--rates.tuned-for-steps", str(steps)]
