"""The language switch of the site leads to the same page in the other language."""

from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs", reason="the site's tools are not installed: requirements-dev.txt")

from scripts.docs_site.languages import language, links, on_page_context, partner

PAGES = {
    "index.md": "index.html",
    "scores.md": "scores.html",
    "speed.md": "speed.html",
    "zh/index.md": "zh/index.html",
    "zh/scores.md": "zh/scores.html",
}


def test_a_page_and_its_partner():
    assert partner("scores.md") == "zh/scores.md" and partner("zh/scores.md") == "scores.md"
    assert language("zh/scores.md") == "zh" and language("api/index.md") == "en"


def test_the_switch_leads_to_the_same_page_or_to_the_start():
    both = {"en": "scores.html", "zh": "zh/scores.html"}
    assert links("scores.md", PAGES) == links("zh/scores.md", PAGES) == both
    assert links("speed.md", PAGES) == {"en": "speed.html", "zh": "zh/index.html"}


@pytest.mark.parametrize("page", ["scores.md", "zh/scores.md", "speed.md"])
def test_a_page_is_rendered_in_its_language(page):
    alternate = [{"lang": "en", "link": ""}, {"lang": "zh", "link": ""}]
    config = SimpleNamespace(extra={"urls": PAGES, "alternate": alternate}, theme={})
    here = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    on_page_context({}, page=here, config=config, nav=None)
    assert config.theme == {"language": language(page)}
    assert {each["lang"]: each["link"] for each in alternate} == links(page, PAGES)
