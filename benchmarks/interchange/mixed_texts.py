"""Invented sentences of Chinese and Latin script, numbers, emoji and full-width forms."""

import random
import re
from typing import NamedTuple

LABELS = ("LOC", "PER", "ORG")

_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"
_GIVEN = "一明悦为伟芳娜敏静丽强磊军洋勇艳杰涛超霞平刚桂英"
_FIRST = ["Lily", "omar", "Nora", "Tom", "José", "Zoë", "kevin", "ANNA", "Ｍｉａ", "Jean-Luc"]
_LAST = ["Finch", "chen", "Müller", "O'Neil", "Wang", "da Silva", "Li", "Ｂｒｏｗｎ"]
_PLACES = [
    "苏州",
    "武汉",
    "昆明",
    "长沙市",
    "钱塘江",
    "Leeds",
    "turin",
    "New York",
    "Zürich",
    "lyon",
]
_PLACES += ["浦东T2航站楼", "Ｑ市", "K11大厦", "São Paulo", "798园区", "北纬30度站"]
_COMPANIES = ["acme", "Globex", "ＮＥＣ", "3M", "iphone", "5G联盟", "X-ray", "AT&T", "e签宝", "360"]
_KINDS = ["公司", "集团", "实验室", " Ltd", " Inc.", "研究院", "", "", "2号厂"]
_WORDS = [
    "OK",
    "wifi",
    "update",
    "ＰＰＴ",
    "app",
    "v2.0",
    "the",
    "café",
    "naïve",
    "GPU",
    "ddl",
    "ﬁt",
]
_EMOJI = ["😀", "🎉", "👍🏽", "❤️", "🇨🇳", "👩‍💻", "🍜🍜", "☺"]
_NUMBERS = [
    "1998年",
    "３５％",
    "3.14",
    "12:30",
    "￥5,000",
    "１２３４",
    "第2次",
    "+86 138",
    "½",
    "2026-11-05",
]
_MARKS = ["。", "！", "!", "?", "……", "~", " ", "\u3000", "，", "\u200b", "\n"]
_LINKS = ["http://a.cn/x1?y=2", "me@mail.com", "@user_01", "#话题#", "C:\\tmp", "www.b-c.org"]
_TEMPLATES = [
    "{PER}{NUM}在{LOC}加入了{ORG}",
    "{ORG}的{PER}说{WORD}很好{EMO}",
    "今天{WORD}{NUM}没有新闻{EMO}",
    "{PER}和{PER}都住在{LOC}",
    "从{LOC}到{LOC}要{NUM}{EMO}",
    "{EMO} {ORG}在{LOC}招工，见{LINK}",
    "我的{WORD} {WORD}坏了{NUM}",
    "{NUM}，{PER} 离开 {ORG}",
    "{LINK} {PER}买了{WORD}{EMO}",
    "{LOC}下雨了{EMO}{EMO}",
    "听说{ORG}请了{PER}{EMO}去{LOC}",
    "{PER}@{ORG}：{NUM}",
]


class Text(NamedTuple):
    """A text and its entities: start, end (characters) and label of each."""

    text: str
    spans: list[tuple[int, int, str]]


def generate(count: int, seed: int) -> list[Text]:
    """Different texts, of one to three sentences each; the same ones for the same seed."""
    dice = random.Random(seed)
    found: dict[str, Text] = {}
    while len(found) < count:
        each = _text(dice)
        found.setdefault(each.text, each)
    return list(found.values())


def vocabulary() -> list[str]:
    """Wordpieces: special ones, characters, some whole words and numbers, and parts of words.

    Emoji and some characters are missing on purpose, so that they are unknown.
    """
    every = "".join([*_PLACES, *_COMPANIES, *_KINDS, *_WORDS, *_NUMBERS, *_LINKS, *_TEMPLATES])
    every += "".join(_MARKS) + _SURNAMES + _GIVEN[:-2]
    every = every.lower() + "".join([*_FIRST, *_LAST]).lower()
    marks = sorted({c for c in every if not c.isascii() and not c.isspace() and c < "\U00010000"})
    marks += [f"##{c}" for c in marks if "ａ" <= c <= "ｚ" or "０" <= c <= "９"]
    marks += sorted({c for c in every if c.isascii() and not c.isalnum() and not c.isspace()})
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    words = ["acme", "globex", "leeds", "lyon", "new", "york", "lily", "nora", "finch", "wang"]
    words += ["wifi", "app", "http", "the", "1998", "360", "798", "mail", "2026", "tu", "om"]
    parts = ["##rin", "##ar", "##date", "##vin", "##er", "##phone", "##38", "##x", "##00"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(
        dict.fromkeys([*special, *marks, *words, *letters, *parts, *(f"##{c}" for c in letters)])
    )


def _text(dice: random.Random) -> Text:
    out, spans = "", []
    for _ in range(dice.choice([1, 1, 2, 3])):
        for part in re.split(r"(\{[A-Z]+\})", dice.choice(_TEMPLATES)):
            kind = part.strip("{}")
            value = _value(kind, dice) if part.startswith("{") else part
            if kind in LABELS and value:
                spans.append((len(out), len(out) + len(value), kind))
            out += value
        out += dice.choice(_MARKS)
    return Text(out, spans)


def _value(kind: str, dice: random.Random) -> str:
    if kind == "PER":
        chinese = dice.choice(_SURNAMES) + "".join(dice.sample(_GIVEN, dice.choice([1, 2])))
        latin = dice.choice(_FIRST) + dice.choice(["", f" {dice.choice(_LAST)}"])
        mixed = dice.choice(_SURNAMES) + dice.choice(_FIRST)
        return dice.choices([chinese, latin, mixed], [5, 3, 2])[0]
    if kind == "LOC":
        return dice.choice(_PLACES)
    if kind == "ORG":
        return dice.choice(_COMPANIES) + dice.choice(_KINDS)
    if kind == "EMO":
        return dice.choice(["", *_EMOJI])
    return dice.choice({"NUM": _NUMBERS, "WORD": _WORDS, "LINK": _LINKS}[kind])
