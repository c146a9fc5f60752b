"""``tensorgrad.nn`` is the package ``nn``, as code written for torch expects it."""

import sys

import nn

sys.modules[__name__] = nn
