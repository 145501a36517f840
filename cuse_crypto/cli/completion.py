"""``cuse-crypto completion``: what a shell evaluates to complete our commands by Tab."""

import click
from click.shell_completion import get_completion_class

from cuse_crypto.cli.options import announce


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which SHELL completes commands, options and values.

    \b
    bash, zsh:  eval "$(cuse-crypto completion bash)"     # in ~/.bashrc
    fish:       cuse-crypto completion fish | source      # in ~/.config/fish/config.fish
    """
    from cuse_crypto.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    announce(kind(cli, {}, "cuse-crypto", "_CUSE_CRYPTO_COMPLETE").source())
