"""Train a GPT: ``python examples/train_gpt.py --help`` tells all.

The same as ``python -m gpt train``. Without arguments it trains on the Python language reference,
about three minutes on two cores, and prints a sample; everything of the run is in runs/default.
"""

import sys

from gpt.__main__ import program

if __name__ == "__main__":
    sys.exit(program(["train", *sys.argv[1:]]))
