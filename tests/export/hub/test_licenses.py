"""Licences by the hub's names."""

import pytest

from spacy_bert_crf.export.hub.licenses import IDENTIFIERS, identifier, short_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MIT", "mit"),
        ("MIT License", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("CC0", "cc0-1.0"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("GNU GPL v3.0", "gpl-3.0"),
        ("BSD-3-Clause", "bsd-3-clause"),
        ("Do as you please.", ""),
        ("", ""),
    ],
)
def test_spellings_are_known(text, name):
    assert identifier(text) == name


def test_each_identifier_is_its_own_name():
    assert all(identifier(name) == name for name in IDENTIFIERS)


def test_other_licences_have_a_name_that_the_hub_takes():
    assert short_name("Our Own Licence (v2)") == "our-own-licence-v2"
    assert short_name("我们的") == "other"
