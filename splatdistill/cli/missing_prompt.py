"""What `train` and `image` say when they are not told what to make."""

from splatdistill.errors import UserError

RESULTS = {
    "train": ("3D Gaussian splats", "splats.ply, turntable.mp4 and sheet.png"),
    "image": ("pictures", "image.png and image.json"),
}
OFFERS = ("a red mushroom", "a blue snowman", "a purple teapot")


def need_prompt(argv: list[str], command: str = "train") -> None:
    """UserError with three prompts to try, unless the options hold one or say where it is."""
    if not {"--prompt", "--config", "--resume", "--replay", "--refine", "-h", "--help"} & {word.split("=")[0] for word in argv}:
        raise UserError(offer(argv, command))


def offer(argv: list[str], command: str = "train") -> str:
    """What to type instead; words without an option were probably meant as the prompt."""
    bare = argv[0] if argv and not argv[0].startswith("-") else ""
    said = f"{bare!r} belongs behind --prompt. " if bare else ""
    examples = "\n".join(f'  splatdistill {command} --guidance sdi --prompt "{p}"' for p in OFFERS)
    makes, leaves = RESULTS[command]
    return (
        f"{command} turns a prompt into {makes}, and needs one: --prompt TEXT. {said}Three to try:\n{examples}\n"
        f"Each writes {leaves} into runs/. `splatdistill {command} --help` lists all options."
    )
