"""The screen of `ktask top`, whole."""

from __future__ import annotations

import pytest
from ktask.cli.top.model import State
from ktask.cli.top.screen import lines_of

from tests.client.cli.top import scenes


def text_of(state: State, *, plain: bool = False) -> str:
    return "\n".join(line.plain.rstrip() for line in lines_of(state, plain=plain)) + "\n"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


BUSY_80 = r"""ktaskd 0.5.0  mode auto  jobs: 3 run, 1 wait  all helpers run
pressure cpu :-:..:-  14.2 %  io .:-_:--  22.0 %  memory _______   0.0 %
power not on battery  heat ++++==++ nominal, 64 C, trip point at 95 C
node 0  .LH.oHHoHH.LH.oH  ours  54%, others  19%, helpers   8/16
node 1  HoHH.LH.oHHoHH.L  ours  60%, others  19%, helpers   8/16
        H our helper  L our lead  o somebody else  . idle
 ID       STATE     FUNCTION       FILES      USER    DONE     RATE   LEFT   L+H
>ac0ffee5 running   file.sha256    ~nthly.tar anna     60% 344.1M/s  1m52s   1+9
 bc0ffee5 running   file.compress  ~ccess.log ben      87% 136.2M/s    14s   1+4
 cc0ffee5 running   text.search    ~ews\n.txt www-dat  75%  36.9M/s    20s   1+0
 dc0ffee5 queued    file.blake3    ~night.raw anna      0%        -      -   0+0
 ec0ffee5 succeeded mem.fill       -          anna    100%        -      -   0+0
 fc0ffee5 failed    file.copy      ~/disk.img ben      31%        -      -   0+0



ac0ffee5: ktask sum -c /srv/backup/2026-11/SHA256~
q quit  h help  s sort  r reverse  c cancel  e explain  p pause  arrows
"""


def test_screen_when_busy_at_80_columns_then_all_of_it() -> None:
    assert text_of(scenes.shown(scenes.busy, 80, 18), plain=True) == BUSY_80


def test_screen_when_at_200_columns_then_reasons_and_commands_too() -> None:
    text = text_of(scenes.shown(scenes.busy, 200, 24))
    assert "WAITS FOR" in text
    assert "ktask compress -19 /home/ben/logs/access.log" in text
    assert "/var/www/corpus/\\x1b[31mnews\\n.txt" in text
    assert "CLIENT_LIMIT" in text


def test_screen_when_on_battery_then_every_reason_with_value_and_threshold() -> None:
    lines = text_of(scenes.shown(scenes.on_battery, 100, 20)).splitlines()
    assert lines[0].endswith("no helpers")
    assert lines[1].startswith("! ON_BATTERY: battery, 61 % (threshold external power): the machine runs on")
    assert lines[3].startswith("! CPU_PRESSURE: 14.2 % of the time (threshold above 10 %): other programs")
    assert any(line.startswith("power battery 61 %  profile balanced  heat") for line in lines)
    assert any(".L..o..o  ours  11%, others  23%, helpers   0/0" in line for line in lines)


def test_screen_when_paused_then_the_mode_and_the_reason() -> None:
    lines = text_of(scenes.shown(scenes.paused, 80, 18)).splitlines()
    assert "mode paused" in lines[0]
    assert lines[1].startswith("! MODE_PAUSED: paused:")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 60), (40, 8)])
def test_screen_when_there_are_2048_cpus_then_it_fits_with_jobs(columns: int, rows: int) -> None:
    text = text_of(scenes.shown(scenes.large, columns, rows))
    assert "file.sha25" in text
    if rows > 8:
        assert sum(line.startswith("node ") for line in text.splitlines()) == 8
        assert "each sign: up to" in text


def test_screen_when_there_are_many_jobs_then_the_selected_one_is_shown() -> None:
    state = scenes.shown(scenes.busy, 80, 12, selected=5)
    assert ">fc0ffee5 failed" in text_of(state)
    assert "fc0ffee5: ktask run" in text_of(state)
