"""The verb `ktask decompress`; its words are those of `ktask compress` for the most part."""

from __future__ import annotations

from ktask.cli.verbs.compress import DECOMPRESS

VERB = DECOMPRESS
