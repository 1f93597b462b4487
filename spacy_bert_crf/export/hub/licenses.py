"""Licences as the hub's metadata names them.

Source: https://huggingface.co/docs/hub/repositories-licenses, without licences of single models.
"""

import re

_CREATIVE_COMMONS = (
    *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
)
_GNU = (
    *("agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0"),
    *("lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr"),
)
#: What the hub takes as `license`.
IDENTIFIERS = frozenset(
    (
        *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m"),
        *("bigscience-bloom-rail-1.0", "bigcode-openrail-m", "openrail++", "afl-3.0"),
        *("artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear"),
        *("c-uda", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl"),
        *("ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "isc", "lppl-1.3c"),
        *("ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql", "ofl-1.1", "ncsa"),
        *("unlicense", "zlib", "pddl", "unknown", "other"),
        *_CREATIVE_COMMONS,
        *_GNU,
    )
)
#: Other spellings, reduced as `_reduced` does.
_SPELLINGS = {
    "apache": "apache-2.0",
    "apache-2": "apache-2.0",
    "apache-license-2.0": "apache-2.0",
    "apache-license-version-2.0": "apache-2.0",
    "cc0": "cc0-1.0",
    "mit-license": "mit",
    "the-mit-license": "mit",
    "bsd-3": "bsd-3-clause",
    "bsd-2": "bsd-2-clause",
    "mpl": "mpl-2.0",
}


def identifier(text: str) -> str:
    """The hub's name of a licence; empty where it knows none.

    text: the licence as somebody wrote it, such as `MIT`, `CC BY-SA 4.0` or `Apache License 2.0`.
    """
    reduced = _reduced(text)
    for name in (reduced, _SPELLINGS.get(reduced, "")):
        if name in IDENTIFIERS:
            return name
    return ""


def short_name(text: str) -> str:
    """A licence as the hub's `license_name`: small letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "other"


def _reduced(text: str) -> str:
    """A licence in small letters with dashes, without GNU and the endings of SPDX."""
    name = re.sub(r"[\s_,()]+", "-", text.strip().lower()).strip("-")
    name = re.sub(r"^gnu-|-(only|or-later)$", "", name)
    return re.sub(r"(?<=[a-z])-?v(?=\d)", "-", name)
