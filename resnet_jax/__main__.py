"""The command `resnet-jax`, also as `python -m resnet_jax`."""

import sys

from resnet_jax.huge_pages import use_huge_pages


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    use_huge_pages()
    from resnet_jax import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
