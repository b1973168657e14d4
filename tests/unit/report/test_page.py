import json
import re
from html.parser import HTMLParser

import pytest

from lightning_memaudit import AuditReport, OutcomeStore
from lightning_memaudit.exceptions import ArgumentError
from tests.unit.report.conftest import small_store
from tests.unit.report.test_audit_report import CONSTANTS, numbers_in

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror=alert(1)>",
    "long": "x" * 10_000,
    "right to left": "\u202eשלום עולם",
    "emoji": "🙂" * 200,
    "markdown": "[a](http://b) `c` | d\n# e",
}


class Page(HTMLParser):
    """What a reader sees of a page, and what it would load."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = 0
        self._open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "svg"):
            self._hidden += 1

    def handle_endtag(self, tag) -> None:
        if tag in ("script", "style", "svg"):
            self._hidden -= 1

    def handle_data(self, data) -> None:
        if not self._hidden:
            self.text.append(data)


def test_a_page_loads_nothing(image_report: AuditReport) -> None:
    page = Page(image_report.to_html())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed") or attributes.get("href", "").startswith("data:")
        for name in ("src", "href", "srcset", "xlink:href", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    text = image_report.to_html()
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text


def test_every_id_is_there_once_and_every_link_leads_somewhere(image_report: AuditReport) -> None:
    tags = Page(image_report.to_html()).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("href", "xlink:href", "aria-labelledby"):
            target = (attributes.get(name) or "").removeprefix("#")
            assert not target or target.startswith("data:") or target in ids, target


def test_every_number_of_the_page_is_in_the_json(image_report: AuditReport) -> None:
    known = numbers_in(image_report.content)
    rounded = {round(number, digits) for number in known for digits in range(7)}
    rounded |= {round(100 * number, digits) for number in known for digits in range(4)}
    known = {abs(number) for number in rounded | CONSTANTS}
    text = re.sub(r"\d{4}-\d\d-\d\dT\S*", "", "\n".join(Page(image_report.to_html()).text)).replace("−", "-")
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])", text)
    assert len(numbers) > 500
    for line in text.splitlines():
        for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])", line):
            assert float(found) in known, (found, line)


def test_a_gallery_shows_images_with_those_they_help(image_report: AuditReport) -> None:
    gallery = image_report.content["gallery"]
    images = [of for tag, of in Page(image_report.to_html()).tags if tag == "img"]
    assert len(images) == len(gallery["items"]) + sum(len(item["helped"]) for item in gallery["items"])
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in images)
    assert any(item["helped"] for item in gallery["items"])
    labels = {item["index"]: item["label"] for item in gallery["items"]}
    assert all(other["label"] == labels[item["index"]] for item in gallery["items"] for other in item["helped"])
    assert "top.png" in image_report.content["figures"]


@pytest.mark.parametrize("kind", ["row", "text"])
def test_rows_and_texts_are_shown_too(kind: str, tmp_path) -> None:
    report = AuditReport.from_store(small_store(tmp_path, kind).store)
    text = "".join(Page(report.to_html()).text)
    first = report.content["gallery"]["items"][0]["index"]
    shown = report.content["gallery"]["train"][str(first)]
    expected = shown["text"] if kind == "text" else f"{shown['values'][0]:.2f}".replace("-", "−")
    assert expected in text
    assert "## The most memorized examples, and whom they help" in report.to_markdown()


def test_training_examples_can_be_left_out(lookup_store: OutcomeStore, tmp_path) -> None:
    store = small_store(tmp_path, "image").store
    report = AuditReport.from_store(store, sections=["memorization", "impact"])
    assert not [tag for tag, _ in Page(report.to_html()).tags if tag == "img"]
    assert report.content["gallery"] == {"status": "unavailable", "reason": "it was left out of this report"}
    with pytest.raises(ArgumentError, match=r"sections='gallry': there is no such section; take some of memorization"):
        AuditReport.from_store(store, sections=["gallry"])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_text(image_report: AuditReport, name: str) -> None:
    content = json.loads(image_report.to_json())
    hostile = HOSTILE[name]
    content["model"] = hostile
    content["memorization"]["by_group"] = {hostile: content["memorization"]["by_group"]["race"]}
    content["memorization"]["by_group"][hostile][0]["group"] = hostile
    for row in content["memorization"]["top"]:
        row["groups"] = {hostile: hostile}
    arm = content["impact"]["arms"]["prune-0.9"]
    arm["by_group"] = {hostile: arm["by_group"].pop("race")}
    arm["by_group_and_label"] = {hostile: arm["by_group_and_label"].pop("race")}
    arm["by_group"][hostile]["rows"][0]["group"] = hostile
    arm["who_pays"]["sentence"] = f"{hostile} pays most"
    for item in content["gallery"]["items"]:
        item["groups"] = {hostile: hostile}
    content["gallery"]["train"] = {index: {"kind": "text", "text": hostile} for index in content["gallery"]["train"]}
    content["gallery"]["kind"] = "text"
    report = AuditReport(content)
    page = Page(report.to_html())
    harmless = Page(image_report.to_html())
    scripts = [tag for tag, _ in page.tags].count("script")
    assert scripts == [tag for tag, _ in harmless.tags].count("script") == 1
    assert not any(attribute.startswith("on") for _, attributes in page.tags for attribute in attributes)
    assert not [of for tag, of in page.tags if tag == "a" and not of["href"].startswith("#")]
    seen = " ".join("".join(page.text).split())
    assert " ".join(hostile.split())[:60] in seen


def test_numbers_in_another_notation(image_report: AuditReport) -> None:
    text = "".join(Page(image_report.to_html(locale="de")).text)
    share = 100 * image_report.content["memorization"]["prevalence"]["naive"]
    assert f"{share:.1f}".replace(".", ",") + "\xa0%" in text
    assert f"{share:.1f} %" not in text
    assert image_report.to_markdown(locale="fr") != image_report.to_markdown()
    with pytest.raises(ArgumentError, match="locale='xx' is not known"):
        image_report.to_html(locale="xx")


def test_a_model_card(image_report: AuditReport) -> None:
    card = image_report.model_card()
    assert card.startswith("## Memorization and privacy")
    assert image_report.content["digests"]["plan"] in card
    rows = [line for line in card.splitlines() if line.startswith(("| baseline", "| prune"))]
    assert len(rows) == 2 * (1 + 2 + 3)
    assert image_report.content["impact"]["arms"]["prune-0.9"]["who_pays"]["sentence"] in card


def test_sections_are_shown_in_notebooks(image_report: AuditReport) -> None:
    for section in (image_report.memorization, image_report.impact, image_report.long_tail):
        shown = section._repr_html_()
        assert "<table>" in shown
        assert "<h2>" in shown
    assert "<iframe srcdoc=" in image_report._repr_html_()


def test_only_what_is_asked_for_is_written(image_report: AuditReport, tmp_path) -> None:
    image_report.save(tmp_path / "html", formats=["html"])
    assert [path.name for path in (tmp_path / "html").iterdir()] == ["report.html"]
    with pytest.raises(ArgumentError, match="formats='pdf': there is no such format; take some of html, md, json"):
        image_report.save(tmp_path / "pdf", formats=["pdf"])
