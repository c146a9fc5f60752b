"""The commands of ``python -m gpt``, a module each: ``add`` its flags to a parser, and ``run`` it.

A module is imported when its command is called, so that ``--help`` does not wait for NumPy.
"""

# In the order of --help, each with its line there.
COMMANDS = {
    "train": "train a model",
    "sample": "write with a trained model",
    "chat": "write a text in turns with a trained model",
    "eval": "tell how well a trained model predicts a text",
    "info": "tell what a model would cost, or a run's does",
    "figures": "draw what a trained model does",
    "prepare": "make a text into tokens on the disk",
    "tokenizer": "train a tokenizer, or see how one cuts a text",
}
