"""Rolling back on the dashboard: what is posted, and what is said when the service refuses."""

from __future__ import annotations

from typing import Any

from tests.serve.dashboard.parts import HOSTILE, TOKEN, Service, expect, text, visit


def test_rolling_back_posts_version_reason_and_token(page: Any, service: Service) -> None:
    visit(page, service)
    page.get_by_role("button", name="Roll back to 0.9.0").click()
    page.get_by_label("Reason").fill("calibration is off")
    page.get_by_label("Admin token").fill(TOKEN)
    page.locator("#confirm").click()
    page.wait_for_selector("#done:not([hidden])")
    assert text(page, "done") == "Rolled back: version 0.9.0 is live."
    order = {"path": "/versions/rollback", "token": f"Bearer {TOKEN}", "to": "0.9.0", "why": "calibration is off"}
    assert service.orders == [order]
    assert page.evaluate("Object.values(sessionStorage)") == [TOKEN]
    assert page.evaluate("localStorage.length") == 0


def test_rolling_back_needs_a_reason_and_shows_the_servers_error(page: Any, service: Service) -> None:
    visit(page, service)
    page.locator("#roll-back").click()
    page.keyboard.press("Enter")
    assert "Say why" in text(page, "dialog-error")
    assert service.orders == []
    page.get_by_label("Reason").fill("try")
    page.get_by_label("Admin token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page, "dialog-error", "not the admin token")
    assert text(page, "dialog-error") == f"not the admin token {HOSTILE}"
    assert "to" not in service.orders[0]
    assert page.evaluate("sessionStorage.length") == 0
    page.keyboard.press("Escape")
    assert page.locator("#dialog").is_hidden()
