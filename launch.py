"""Run `resnet_jax` from a checkout: python launch.py COMMAND …"""

import sys

from resnet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
