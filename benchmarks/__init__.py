"""Speed as a ratio: ours and PyTorch take turns at the same work, each in a process of its own."""
