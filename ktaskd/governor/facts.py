"""The facts that causes and strains are judged by, and the form of their answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ktaskd.governor.meter import Rates
from ktaskd.governor.settings import GovernorSettings
from ktaskd.model.observation import Observation


class Effect(IntEnum):
    """How much a cause leaves running; a higher value leaves less."""

    NOTHING = 0
    ONE_HELPER = 1
    LEADS_ONLY = 2
    PAUSE = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a cause or a strain may look at.

    Args:
        blind: no reading before this one is recent enough to compare it with.
        warm: the machine gets hot, by readings that are believed.
    """

    seen: Observation
    rates: Rates
    settings: GovernorSettings
    blind: bool = False
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """A cause or a strain in words, as users see it.

    Args:
        value: what was read, with its unit.
        threshold: when the cause counts, and when it ends.
    """

    message: str
    value: str = ""
    threshold: str = ""
