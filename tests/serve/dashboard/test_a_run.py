"""The dashboard over a service that really runs: a loop that records, joins and learns, behind uvicorn, in Chromium."""

from __future__ import annotations

from typing import Any

from tests.serve.dashboard.parts import eventually


def test_the_page_follows_a_run_and_rolls_it_back(page: Any, running: Any) -> None:
    """What is predicted, joined and learned shows without a reload; a roll back there is one of the service."""
    untaught = [p["probability"] for p in running.post("/predict", {"rows": running.rows[:50]})["predictions"]]
    page.set_default_timeout(90_000)  # a learner and its service share the machine with the browser
    page.goto(running.url)
    page.wait_for_selector("body[data-state=live]")
    assert page.locator("#version").inner_text() == "1.0.0"

    running.learn(0, 400)
    eventually(page, "#version").to_have_text("1.0.400")
    eventually(page, "#join-learned").to_have_text("400")
    eventually(page, "#join-pending").to_have_text("50")
    eventually(page, "#live-log_loss").to_have_text(f"{running.status()['quality']['live']['log_loss']:.4f}")
    eventually(page, "#fresh-p50").to_contain_text("ms")
    eventually(page, "#empty").to_be_hidden()
    assert page.locator("#busiest li .who").count() > 0
    taught = running.post("/predict", {"rows": running.rows[:50]})["predictions"]
    assert [p["probability"] for p in taught] != untaught

    page.get_by_role("button", name="Roll back to 1.0.0").click()
    page.get_by_label("Reason").fill("trying it out")
    page.get_by_label("Admin token").fill("no such admin token")
    page.locator("#confirm").click()
    eventually(page, "#dialog-error").to_have_text("this is no token for admin")
    assert running.status()["model"]["version"] == "1.0.400"

    page.get_by_label("Admin token").fill(running.tokens["admin"])
    page.locator("#confirm").click()
    eventually(page, "#done").to_have_text("Rolled back: version 1.0.0 is live.")
    eventually(page, "#version").to_have_text("1.0.0")
    eventually(page, "#history").to_contain_text("trying it out")
    again = running.post("/predict", {"rows": running.rows[:50]})["predictions"]
    assert {p["version"] for p in again} == {"1.0.0"}
    assert [p["probability"] for p in again] == untaught
    newest = running.status()["versions"]["history"][0]
    assert (newest["action"], newest["version"], newest["why"]) == ("rollback", "1.0.0", "trying it out")

    running.learn(400, 600)  # and it learns on from there
    eventually(page, "#version").not_to_have_text("1.0.0")
    assert page.get_by_role("button", name="Roll back to 1.0.400").is_visible()
