"""The tables of a running service are the settings of its rooms."""

from __future__ import annotations

import re

import pytest
from tests.config.parts import SCHEMA

from nearline import config
from nearline._errors import ConfigError


def test_defaults_of_a_running_service_are_those_of_its_rooms() -> None:
    from nearline.gate import ChangeSettings, GuardSettings
    from nearline.glmix import Safety
    from nearline.join import Policy
    from nearline.loop import Gating, Pace, Recording
    from nearline.recalibrate import RecalibrationSettings
    from nearline.serve import Limits

    found = config.loads(SCHEMA).running()
    assert (found.pace, found.recording, found.safety) == (Pace(), Recording(), Safety())
    assert (found.guard, found.change, found.limits) == (GuardSettings(), ChangeSettings(), Limits())
    assert (found.gated, found.gating) == (True, Gating())
    assert found.recalibrate == RecalibrationSettings()
    assert config.loads(f"{SCHEMA}[recalibrate]\nenabled = false").running().recalibrate is None
    assert config.loads(SCHEMA + '[model]\nlink = "log"').running().recalibrate is None
    assert found.policy == Policy(window=600.0, horizon=3_600.0)


@pytest.mark.parametrize(
    ("text", "horizon"),
    [('window = "2h"', 7_200.0), ('window = "1min"', 3_600.0), ('window = "1min"\nhorizon = "5min"', 300.0)],
)
def test_the_horizon_of_a_join_is_an_hour_or_the_window_unless_it_is_said(text: str, horizon: float) -> None:
    found = config.loads(f"{SCHEMA}\n[join]\n{text}\n").running()
    assert found.policy.horizon == horizon


def test_a_hold_out_of_the_gate_is_by_columns() -> None:
    from nearline.gate import HoldOut

    found = config.loads(f'{SCHEMA}[gate]\nholdout = ["user_id"]\nshare = 0.02').running().gating
    assert found.holdout == HoldOut(("user_id",), 0.02)
    with pytest.raises(ConfigError, match="a hold-out needs columns and a share between 0 and 1"):
        config.loads(f'{SCHEMA}[gate]\nholdout = ["user_id"]\nshare = 2.0')


def test_the_guard_can_be_switched_off() -> None:
    assert config.loads(SCHEMA + "[guard]\nenabled = false").running().guard is None


def test_the_response_to_changes_can_be_switched_off() -> None:
    assert config.loads(SCHEMA + "[change]\nenabled = false").running().change is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[join]\nwindow = 0", "window must be > 0"),
        ("[live]\nbatch = 0", "batch must be at least 1"),
        ("[ledger]\nflush = 0.0", "flush is a finite number of seconds > 0"),
        ("[safety]\nstep = 0.0", "step"),
        ("[guard]\nalpha = 2.0", "alpha"),
        ('[join]\nlate = "never"', "'never' is not allowed"),
    ],
)
def test_a_running_services_settings_are_checked(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.loads(SCHEMA + text)


def test_metrics_of_the_backtest_are_checked_when_the_file_is_read() -> None:
    text = f'{SCHEMA}[[random]]\nkey = "ad_id"\n[backtest]\nmetrics = ["pr_auc", "ndcg@5 by ad_id"]'
    assert [metric.label for metric in config.loads(text).metrics()] == ["PR-AUC", "NDCG@5 by ad_id"]
    with pytest.raises(ConfigError, match=r"\[backtest\] metrics: there is no metric 'gini' for the logit link"):
        config.loads(f'{SCHEMA}[backtest]\nmetrics = ["gini"]')
