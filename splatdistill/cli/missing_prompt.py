"""The answer of `train` and `image` to a command line without a prompt, before the seconds that torch takes to load."""

import difflib

from splatdistill.errors import UserError
from splatdistill.shell import as_typed

RESULTS = {
    "train": ("3D Gaussian splats", "splats.ply, turntable.mp4 and sheet.png"),
    "image": ("pictures", "image.png and image.json"),
}
SOURCES = ("--prompt", "--config", "--resume", "--replay", "--refine")  # of a prompt
PICTURES = ("--from-image", "--image.path")  # in its place, of train
LIKE = 0.8  # how alike an option must be to one of these, 0 to 1
OFFERS = ("a red mushroom", "a blue snowman", "a purple teapot")


def need_prompt(argv: list[str], command: str = "train") -> None:
    """Raise UserError with three prompts to try, unless the options hold one or say where it is. An option that looks like one of
    those is taken for a misspelt one.
    """
    options = [word.split("=")[0] for word in argv if word.startswith("-")]
    sources = (*SOURCES, *PICTURES) if command == "train" else SOURCES
    if {*sources, "-h", "--help"} & set(options):
        return
    for option in options:
        if near := difflib.get_close_matches(option, sources, 1, LIKE):
            raise UserError(f"there is no option {option}: did you mean {near[0]}?")
    raise UserError(offer(argv, command))


def offer(argv: list[str], command: str = "train") -> str:
    """Return what to type instead; words without an option were probably meant as the prompt."""
    bare = argv[0] if argv and not argv[0].startswith("-") else ""
    said = f"{bare!r} belongs behind --prompt. " if bare else ""
    examples = "\n".join(f"  {as_typed('splatdistill', command, '--guidance', 'sdi', '--prompt', p)}" for p in OFFERS)
    makes, leaves = RESULTS[command]
    return (
        f"{command} turns a prompt into {makes}, and needs one: --prompt TEXT. {said}Three to try:\n{examples}\n"
        f"Each writes {leaves} into runs/. `{as_typed('splatdistill', command, '--help')}` lists all options."
    )
