"""Properties are judged by what they find, not by how long they take on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("governor", deadline=None)
settings.load_profile("governor")
