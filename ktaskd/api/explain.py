"""Converts the history of a job to the contract's messages."""

from __future__ import annotations

from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.convert import STATES
from ktaskd.model.story import Cause, Moment, Story


def story_out(story: Story) -> pb.Story:
    """Convert a history."""
    return pb.Story(
        moments=map(_moment_out, story.moments),
        causes=map(_cause_out, story.causes),
        limit=story.limit,
        threads=story.wanted,
        step_seconds=story.steps_s,
    )


def _moment_out(moment: Moment) -> pb.Moment:
    situation = moment.situation
    return pb.Moment(
        seconds=moment.at_s,
        state=STATES[situation.state],
        helpers=situation.helpers,
        leads=situation.leads,
        causes=situation.causes,
        chunks_recalled=moment.recalled,
        merged=moment.merged,
    )


def _cause_out(cause: Cause) -> pb.Cause:
    return pb.Cause(
        code=cause.code,
        message=cause.message,
        value=cause.value,
        threshold=cause.threshold,
        seconds=cause.seconds,
    )
