"""A GPT, its tokenizers and data, and how it is trained."""
