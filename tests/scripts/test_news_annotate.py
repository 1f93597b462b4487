"""Words with parts of speech become entities, or are left unknown where it is not sure."""

import pytest
import spacy
from spacy.training import Example

from scripts.news.annotate import Annotator, make_doc
from scripts.news.words import fold, read_line, split_sentences, text_of
from spacy_bert_crf.annotation.gold import read_gold
from spacy_bert_crf.errors import BertCrfError

#: Lines that show the annotator what is a given name and what is a company.
CORPUS = """\
邓/nr 小平/nr 说/v
邓/nr 小平/nr 和/c 陈/nr 小平/nr
诺基亚/nz 公司/n 的/u 手机/n
"""


def show(line, corpus=CORPUS):
    """The text of a line with 【text/LABEL】, and ? for unknown."""
    annotator = Annotator([read_line(each) for each in corpus.split("\n") if each])
    sentence = annotator.annotate(read_line(line))
    marks = [*sentence.entities, *((*span, "?") for span in sentence.unknown)]
    out, at = "", 0
    for start, end, label in sorted(marks):
        out += f"{sentence.text[at:start]}【{sentence.text[start:end]}/{label}】"
        at = end
    return out + sentence.text[at:]


@pytest.mark.parametrize(
    "line, expected",
    [
        # Surname and given name are two words.
        ("江/nr 泽民/nr 主席/n 会见/v", "【江泽民/PER】主席会见"),
        ("李/nr 鹏/nr 和/c 克林顿/nr 会谈/v", "【李鹏/PER】和【克林顿/PER】会谈"),
        ("欧阳/nr 中石/nr 题字/v", "【欧阳中石/PER】题字"),
        # Adjacent names stay apart.
        ("（/w 夏/nr 昆山/nr 张/nr 翔辉/nr ）/w", "（【夏昆山/PER】【张翔辉/PER】）"),
        ("李/nr 鹏/nr 吴/nr 邦国/nr 到/v", "【李鹏/PER】【吴邦国/PER】到"),
        # Foreign names with dots are one.
        ("威廉·佩里/nr 说/v", "【威廉·佩里/PER】说"),
        # Titles and kinship are no part of a name.
        ("江/nr 主席/n", "【江/PER】主席"),
        ("毛主席/n 的/u 书/n", "【毛/PER】主席的书"),
        ("小平/nr 同志/n", "【小平/PER】同志"),
        ("老王/nr 和/c 小李/nr", "老【王/PER】和小【李/PER】"),
        ("贝老/nr 说/v", "【贝/PER】老说"),
        # Two married surnames, and given names whose surname is far away.
        ("陈/nr 方/nr 安生/nr", "【陈方安生/PER】"),
        ("张/nr 书政/nr 宇新/nr", "【张书政/PER】【宇新/?】"),
        ("余/nr （申音）/nr", "【余/?】【（申音）/?】"),
        # Names inside of words of ideology.
        ("邓小平理论/n", "【邓小平/PER】理论"),
        ("马克思主义/n", "【马克思/?】主义"),
        ("马克思主义/n", "【马克思/?】主义"),
    ],
)
def test_persons(line, expected):
    assert show(line) == expected


@pytest.mark.parametrize(
    "line, expected",
    [
        ("在/p 北京/ns 开会/v", "在【北京/LOC】开会"),
        ("浙江省/ns 杭州市/ns", "【浙江省/LOC】【杭州市/LOC】"),
        ("中国/ns 人民/n", "【中国/LOC】人民"),
        ("香港/ns 特别/a 行政区/n", "【香港特别行政区/LOC】"),
        ("广西/ns 壮族/nz 自治区/n", "【广西壮族自治区/LOC】"),
        ("天安门/ns 广场/n", "【天安门广场/LOC】"),
        ("北京市/ns 市/n 里/f", "【北京市/LOC】市里"),
        ("东北/s 的/u 雪/n", "【东北/LOC】的雪"),
        # A direction or a region, and a name or a description.
        ("在/p 东北/f", "在【东北/?】"),
        ("胜利/ns 油田/n", "【胜利油田/?】"),
        # Unless rules.yml settles it.
        ("大庆/ns 油田/n", "【大庆油田/LOC】"),
        # Abbreviations of one character are a place each, also in one word.
        ("中/j 美/j 两/m 国/n", "【中/LOC】【美/LOC】两国"),
        ("港澳/j 同胞/n", "【港/LOC】【澳/LOC】同胞"),
        ("驻/v 京/j 部队/n", "驻【京/LOC】部队"),
        ("６/m 金/j ８/m 银/j", "6【金/?】8【银/?】"),
        ("环保/j 工作/vn", "环保工作"),
    ],
)
def test_places(line, expected):
    assert show(line) == expected


@pytest.mark.parametrize(
    "line, expected",
    [
        ("新华社/nt 北京/ns 电/n", "【新华社/ORG】【北京/LOC】电"),
        # Compound names after a place, with the place.
        ("北京市/ns 教育局/n", "【北京市教育局/ORG】"),
        ("中国/ns 政府/n 表示/v", "【中国政府/ORG】表示"),
        ("中国/ns 足球/n 协会/n", "【中国足球协会/ORG】"),
        ("北京/ns 市委/n 宣传部/n 部长/n", "【北京市委宣传部/ORG】部长"),
        ("中共/j 北京/ns 市委/n", "【中共北京市委/ORG】"),
        ("俄/j 外交部/n 发言人/n", "【俄外交部/ORG】发言人"),
        ("南京/ns 大学/n", "【南京大学/ORG】"),
        ("上海/ns 第二/m 医科/n 大学/n", "【上海第二医科大学/ORG】"),
        ("中国/ns 女排/j", "【中国女排/ORG】"),
        ("国防部/nt 与/p 俄罗斯/ns 国防部/nt", "【国防部/ORG】与【俄罗斯国防部/ORG】"),
        # After a proper name.
        ("诺基亚/nz 公司/n", "【诺基亚公司/ORG】"),
        ("北京/ns 诺基亚/nz 公司/n", "【北京诺基亚公司/ORG】"),
        ("美国/ns 诺基亚/nz 公司/n", "【美国/LOC】【诺基亚公司/ORG】"),
        # A place before a full name stands alone.
        ("上海/ns 复旦大学/nt", "【上海/LOC】【复旦大学/ORG】"),
        # A name that goes on.
        ("国务院/nt 办公厅/n 主任/n", "【国务院办公厅/ORG】主任"),
        ("中国银行/nt 上海/ns 分行/n", "【中国银行上海分行/ORG】"),
        # Known names of several words, and media in marks.
        ("全国/n 人大/j 常委会/j", "【全国人大常委会/ORG】"),
        ("中央/n 电视台/n", "【中央电视台/ORG】"),
        ("《/w 光明/n 日报/n 》/w", "《【光明日报/ORG】》"),
        ("《/w 南国/s 早报/n 》/w 报道/v", "《【南国早报/ORG】》报道"),
        # Not sure: unknown.
        ("国务院/nt 扶贫/vn 领导/n 小组/n", "【国务院/ORG】【扶贫领导小组/?】"),
        ("中共/j 安徽/ns 宿州/ns 市委/n", "【中共安徽宿州市委/?】"),
        ("泰米尔/nz 民主党/n", "【泰米尔民主党/?】"),
        ("天山/ns 宴会厅/n", "【天山宴会厅/?】"),
        ("河北省/ns 保定市/ns 公安局/n", "【河北省保定市公安局/?】"),
        ("中国/ns 政府/n 代表团/n", "【中国政府代表团/?】"),
        ("中国/ns 大学/n", "【中国大学/?】"),
        ("美国/ns 石油/n 公司/n", "【美国石油公司/?】"),
        ("日本/ns 社会党/n", "【日本社会党/?】"),
        ("石油/n 公司/n", "【石油公司/?】"),
        ("《/w 北京/ns 人/n 》/w", "《【北京/?】人》"),
        ("诺基亚/nz 手机/n", "【诺基亚/?】手机"),
        ("王/nr 府/nr 公司/n", "【王府公司/?】"),
        ("李/nr 宁/nr 公司/n", "【李宁公司/ORG】"),
        ("中国/ns 防腐/vn 行业/n 协会/n", "【中国防腐行业协会/?】"),
        ("开/v 表彰/vn 大会/n", "开表彰大会"),
        ("中国/ns 社科院/j", "【中国社科院/ORG】"),
        ("农工党/n 中央/n 主席/n", "【农工党中央/ORG】主席"),
        ("国务院/nt 台办/j 主任/n", "【国务院台办/ORG】主任"),
        # No name.
        ("公司/n 和/c 学校/n", "公司和学校"),
        ("一/m 家/q 化工/n 公司/n", "一家化工公司"),
        ("有关/vn 部门/n 和/c 国有/vn 银行/n", "有关部门和国有银行"),
        ("上海/ns 国有/vn 银行/n", "【上海/LOC】国有银行"),
        ("中国/ns 社会/n", "【中国/LOC】社会"),
        ("藏族/nz 学校/n", "藏族学校"),
    ],
)
def test_organisations(line, expected):
    assert show(line) == expected


def test_letters_and_digits_are_folded():
    assert fold("１９９８年ＡＴＴａｂ５．１％，") == "1998年ATTab5．1％，"
    words = read_line("１２月/t  ＡＢ/nx")
    assert text_of(words) == "12月AB" and [word.start for word in words] == [0, 3]


@pytest.mark.parametrize("line", ["发表", "发表/", "/v", "发表/动"])
def test_a_word_without_a_tag(line):
    with pytest.raises(BertCrfError, match=r"news.txt:3: .* is no word with its tag"):
        read_line(f"我/r {line}", "news.txt:3")


def test_sentences_of_a_line():
    line = read_line("“/w 好/a ！/w ”/w 他/r 说/v 。/w 走/v 吧/y ？/w 《/w 报/n 》/w")
    parts = [(start, text_of(words), words[0].start) for start, words in split_sentences(line)]
    assert parts == [(0, "“好！”他说。", 0), (7, "走吧？", 0), (10, "《报》", 0)]


def test_unknown_tokens_have_no_annotation():
    annotator = Annotator([])
    sentence = annotator.annotate(read_line("中国/ns 大学/n 在/p 北京/ns"))
    nlp = spacy.blank("zh")
    doc = make_doc(nlp, sentence)
    gold = read_gold(Example(nlp.make_doc(doc.text), doc))
    assert gold.spans == [(5, 7, "LOC")] and not gold.lost
    assert gold.known.tolist() == [False] * 4 + [True] * 3


def test_a_tokenizer_that_cuts_entities_is_refused():
    sentence = Annotator([]).annotate(read_line("在/p 北京/ns"))
    with pytest.raises(BertCrfError, match="'北京' is cut by the tokenizer of 'en'"):
        make_doc(spacy.blank("en"), sentence)
