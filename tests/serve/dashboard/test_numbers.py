"""The dashboard in a real browser: what it shows, that it keeps up, and that silence is obvious."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest
from tests.serve.dashboard.parts import HOSTILE, Service, eventually, expect, text, visit


def test_the_important_numbers_are_there(page: Any, service: Service) -> None:
    visit(page, service)
    lift, live = service.status["quality"]["lift_over_stale"], service.status["quality"]["live"]
    assert (text(page, "fresh-p50"), text(page, "fresh-p99"), text(page, "fresh-lag")) == ("184 ms", "412 ms", "210 ms")
    assert text(page, "lift-mean") == f"{lift['mean']:+.4f}"
    assert text(page, "lift-interval") == f"{lift['low']:+.4f} to {lift['high']:+.4f}"
    assert "above zero" in text(page, "lift-verdict")
    assert text(page, "live-log_loss") == f"{live['log_loss']:.4f}"
    assert text(page, "live-calibration") == f"{live['calibration']:.3f}"
    assert (text(page, "traffic-rows"), text(page, "traffic-p50")) == ("20.6k/s", "1.8 ms")
    assert (text(page, "join-pending"), text(page, "join-learned"), text(page, "join-quarantined")) == (
        "41.2k",
        "183k",
        "1",
    )
    assert text(page, "version") == "1.0.8000"
    assert text(page, "guard-text") == "Guard watching"


def test_rules_that_choose_what_a_network_is_trained_on_are_compared(page: Any, service: Service) -> None:
    visit(page, service)
    told = [
        [cell.inner_text().replace("\u00a0", " ") for cell in row.locator("th, td").all()]
        for row in page.locator("#selection-rules tr").all()
    ]
    assert told[0] == ["pps", "183k", "18.3k (10%)", "1.61k", "2.87", "0.31", "0.69", "0.4213", "1.004", "12k"]
    assert told[1][0] == "uniform (for comparison)"
    assert told[1][5:7] == ["–", "–"]
    service.status["selection"] = None
    eventually(page, "#selection").to_be_hidden()


def test_numbers_follow_the_service_and_elements_stay(page: Any, service: Service) -> None:
    visit(page, service)
    page.evaluate("for (const e of document.querySelectorAll('#busiest li, #history li, path')) e.kept = true")
    service.status["freshness"]["p50_ms"] = 2500.0
    service.status["busiest"][0]["events"] = 123_456
    expect(page, "fresh-p50", "2.5")
    expect(page, "busiest", "123k")
    assert page.evaluate("[...document.querySelectorAll('#busiest li, #history li, path')].every((e) => e.kept)")


def test_it_asks_again_and_again_where_events_do_not_come_through(page: Any, service: Service) -> None:
    service.streams = False
    visit(page, service)
    service.status["freshness"]["waiting"] = 4711
    expect(page, "fresh-waiting", "4.71k")


def test_charts_have_lines_axes_and_values(page: Any, service: Service) -> None:
    visit(page, service)
    assert page.locator("#loss-chart path.line").evaluate_all(
        "(all) => all.every((p) => p.getAttribute('d').length > 1000)"
    )
    assert page.locator("#loss-chart .axis text").count() >= 5
    page.locator("#loss-chart svg").focus()
    page.keyboard.press("End")
    series = service.status["quality"]["series"]
    shown = page.locator("#loss-chart .tip").inner_text()
    for name in ("live", "stale", "fixed"):
        assert f"{np.mean([point[name] for point in series[-7:]]):.4f}" in shown
    assert text(page, "averaged") == "Curves are means over the last 14 s."
    page.keyboard.press("Home")
    assert f"{service.status['quality']['series'][0]['live']:.4f}" in page.locator("#loss-chart .tip").inner_text()
    assert "Latest: Live" in page.locator("#loss-chart svg").get_attribute("aria-label")


def test_seconds_without_a_click_count_in_the_mean_calibration(page: Any, service: Service) -> None:
    """Σ prediction / Σ outcome: thirty seconds that predict 1 each; all clicks of seven come in one of them."""
    point = {"live": 0.3, "stale": 0.3, "fixed": 0.3}
    service.status["quality"]["series"] = [
        {"time": 1e9 + k, **point, "calibration": 1 / 7 if k % 7 == 4 else None} for k in range(30)
    ]
    visit(page, service)
    page.locator("#calibration-chart svg").focus()
    page.keyboard.press("End")
    assert page.locator("#calibration-chart .tip b").nth(1).inner_text() == "1.000"


def test_lag_is_drawn_from_what_the_page_saw_where_the_service_keeps_no_series(page: Any, service: Service) -> None:
    for point in service.status["quality"]["series"]:
        del point["lag_s"]
    visit(page, service)
    assert page.locator("#lag-chart .none").is_visible()
    service.status["time"] += 1
    eventually(page, "#lag-chart .none").to_be_hidden()
    assert "Lag 210" in page.locator("#lag-chart svg").get_attribute("aria-label")


def test_the_live_version_is_found_by_its_base_and_can_go_back_to_it(page: Any, service: Service) -> None:
    service.status["versions"]["live"] = "1.0.8000"
    visit(page, service)
    row = page.locator("#history li").first
    assert row.locator(".pill").inner_text() == "Base of the live one"
    assert row.get_by_role("button", name="Roll back to 1.0.0").is_visible()


def test_a_learner_that_stopped_says_why(page: Any, service: Service) -> None:
    service.status["error"] = f"disk full {HOSTILE}"
    visit(page, service)
    assert text(page, "stopped") == f"Learning has stopped: disk full {HOSTILE}"


def test_silence_is_obvious_and_ends(page: Any, service: Service) -> None:
    visit(page, service)
    service.down = True
    page.wait_for_selector("body[data-state=lost]")
    assert re.match(r"No answer since \d\d:\d\d:\d\d", text(page, "alert"))
    assert text(page, "fresh-p50") == "184 ms"
    service.down = False
    page.wait_for_selector("body[data-state=live]")
    assert page.locator("#alert").is_hidden()


@pytest.mark.parametrize(
    "empty", [{}, {"model": {"version": "1.0.0", "learned": 0}, "quality": {"live": None, "series": []}}]
)
def test_no_data_yet_is_friendly(page: Any, service: Service, empty: dict[str, Any]) -> None:
    service.status = {"time": time.time(), **empty}
    visit(page, service)
    assert page.locator("#empty").is_visible()
    assert f"{service.url}predict" in text(page, "example-predict")
    assert page.locator("#loss-chart .none").is_visible()
    assert not re.search(r"NaN|undefined|null|Infinity", page.locator("body").inner_text())


def test_the_guard_says_when_it_rolled_back(page: Any, service: Service) -> None:
    service.status["guard"] = {"state": "rolled_back", "reason": f"live lost {HOSTILE}"}
    visit(page, service)
    assert text(page, "guard-notice") == f"The guard rolled back: live lost {HOSTILE}"
