"""What `train` says when it is not told what to make."""

from splatdistill.errors import UserError

OFFERS = ("a red mushroom", "a blue snowman", "a purple teapot")


def need_prompt(argv: list[str]) -> None:
    """UserError with three prompts to try, unless the options hold one or say where it is."""
    if not {"--prompt", "--config", "--resume", "-h", "--help"} & {word.split("=")[0] for word in argv}:
        raise UserError(offer(argv))


def offer(argv: list[str]) -> str:
    """What to type instead; words without an option were probably meant as the prompt."""
    bare = argv[0] if argv and not argv[0].startswith("-") else ""
    said = f"{bare!r} belongs behind --prompt. " if bare else ""
    examples = "\n".join(f'  splatdistill train --guidance sdi --prompt "{p}"' for p in OFFERS)
    return (
        f"train turns a prompt into 3D Gaussian splats, and needs one: --prompt TEXT. {said}Three to try:\n{examples}\n"
        "Each writes splats.ply, turntable.mp4 and sheet.png into runs/. `splatdistill train --help` lists all options."
    )
