"""Where sentences end by the rule, and by what a doc says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spacy_bert_crf.encoder.texts.sentences import sentence_ends


def sentences(text):
    edges = [0, *(end for end in sentence_ends(text).tolist() if end < len(text)), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


CASES = {
    "Chinese": "他来了。|我走了！|你呢？！|她",
    "quotation marks": "“你好！”他说。|“走吧。”|她想。|他说：“好。”|他走了。",
    "brackets": "（他来了。）|我走了（真的。）。|好",
    "ellipsis": "他……走了。|真的……\n|好",
    "decimal points": "价格是3.14元。|涨了2.5%！|对",
    "full-width decimal points": "１．３４是圆周率．|不对。",
    "names and addresses": "Yahoo!Japan的股价见a?b=c。|好",
    "Latin words": "CEO张勇说：“来。”|CFO走了。|Apple来了!|好",
    "line breaks": "你好\n|在吗\r|\n|在",
    "Japanese": "「そうだ。」と言った。|「はい。」|彼は帰った。|本当？|はい",
    "Korean": "그는 왔다. |나는 갔다.",
    "English": "It cost 3.5 dollars! |Was it? |Yes. |He said “Never.” |Then he left... |But why",
    "abbreviations": "Mr. Smith met J. R. Doe of Acme Inc. in the U.S. in Jan. 2020. |Good",
    "German": "Am 3. Mai kam Dr. Meier, z. B. mit Prof. Schulz. |Er ging. |„Gut.“ |Punkt",
    "French": "M. Dupont est venu. |« Bien. » |Il est parti ! |Oui",
    "Spanish": "¿Qué pasa? |¡Nada! |La Sra. López vino. |Fin",
    "Russian": "Привет. |Как дела? |Хорошо",
    "lower case": "see example.com. or not, e.g. here",
    "Hindi and Arabic": "वह आया।| मैं गया।| هل جاء؟| نعم",
}


@pytest.mark.parametrize("marked", CASES.values(), ids=CASES)
def test_sentences_of_a_text(marked):
    parts = [part.strip(" ") for part in marked.split("|")]
    found = [part.strip(" ") for part in sentences(marked.replace("|", ""))]
    assert found == parts


@example(texts=["?. ", "1"])
@given(texts=st.lists(st.text("好。！?.”“\n aA1…」と", max_size=12), max_size=6))
def test_joined_texts_have_the_ends_of_each(texts):
    joined, at, want = "\n".join([*texts, ""]), 0, []
    for text in texts:
        want += [at + end for end in sentence_ends(text).tolist() if end < len(text)]
        at += len(text) + 1
    edges, at = set(), 0
    for text in texts:
        edges |= {at + len(text), at + len(text) + 1}
        at += len(text) + 1
    assert [end for end in sentence_ends(joined).tolist() if end not in edges] == [
        end for end in want if end not in edges
    ]
