"""``python -m scripts.pictures [NAME...]``: makes docs/pictures anew, or these of them."""

from collections.abc import Callable
from pathlib import Path

import click

from scripts.pictures import sequence, speed, tour

PICTURES: dict[str, Callable[[Path], None]] = {
    "sequence": sequence.draw,
    "speed": speed.draw,
    "tour": tour.draw,
}
FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PICTURES)))
def main(names: tuple[str, ...]) -> None:
    """Make the pictures of docs/pictures anew."""
    for name in names or PICTURES:
        path = FOLDER / f"{name}.svg"
        PICTURES[name](path)
        click.echo(path)


main()
