"""What differs between the versions of transformers makes no difference here."""

import json
import threading

import pytest
import torch
from tokenizers import normalizers
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from reliability.families.encoders import FAMILIES, make_folder
from spacy_bert_crf._transformers import (
    bert_tokenizer,
    load_tokenizer,
    save_tokenizer,
    without_init,
)
from spacy_bert_crf.encoder.cpu.fused import packed_encoder
from spacy_bert_crf.encoder.hf import load_encoder, pack, unpack, weights_of
from spacy_bert_crf.encoder.passes import special_ids
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.export.graphs import plain_encoder
from support.toys import vocabulary, write_encoder

TEXT = "王小明在北京。1998 iphone ÀB"


@pytest.fixture
def half(tmp_path):
    """An encoder in bfloat16, as many are published."""
    folder = write_encoder(tmp_path / "half", initializer_range=0.3)
    BertModel.from_pretrained(folder, add_pooling_layer=False).bfloat16().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    assert "bfloat16" in (config.get("dtype"), config.get("torch_dtype"))
    return folder


def dtypes(model):
    return {t.dtype for t in model.state_dict().values() if t.is_floating_point()}


@pytest.mark.parametrize("requested", [{}, {"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}])
def test_a_checkpoint_in_bfloat16_is_float32_here(half, requested):
    encoder = load_encoder(str(half), {}, requested)
    assert dtypes(encoder.model) == {torch.float32}
    # No precision is lost afterwards: the weights of a training fill all 24 bits.
    weights = {name: t + t * 2**-20 for name, t in weights_of(encoder).items()}
    assert not torch.equal(weights["encoder.layer.0.output.dense.weight"].bfloat16().float(),
                           weights["encoder.layer.0.output.dense.weight"])  # fmt: skip
    restored = unpack(pack(encoder), weights)
    for model in (restored.model, plain_encoder(restored.model, "eager")):
        assert dtypes(model) == {torch.float32}
        assert all(torch.equal(t, weights[name]) for name, t in model.state_dict().items())


def test_a_saved_encoder_names_no_dtype(half):
    config = json.loads(pack(load_encoder(str(half), {}, {}))["config"])
    assert not {"dtype", "torch_dtype"} & config.keys()


def test_a_pipeline_of_before_that_names_bfloat16(half):
    encoder = load_encoder(str(half), {}, {})
    packed = pack(encoder)
    for key in ("dtype", "torch_dtype"):
        old = {**packed, "config": json.dumps({**json.loads(packed["config"]), key: "bfloat16"})}
        assert dtypes(unpack(old, weights_of(encoder)).model) == {torch.float32}


def test_relative_positions_are_used_or_refused(tmp_path):
    """transformers 5 has none, and would leave them out silently."""
    folder = write_encoder(tmp_path / "encoder")
    plain = load_encoder(str(folder), {}, {})
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), "position_embedding_type": "relative_key"}
    path.write_text(json.dumps(config))
    packed = {**pack(plain), "config": json.dumps(config)}
    layer = BertModel(BertConfig.from_pretrained(folder)).encoder.layer[0].attention.self
    if hasattr(layer, "position_embedding_type"):
        pytest.skip("this transformers has relative positions")
    with pytest.raises(BertCrfError, match="relative_key.* install transformers below 5"):
        load_encoder(str(folder), {}, {})
    with pytest.raises(BertCrfError, match="relative_key.* install transformers below 5"):
        unpack(packed, weights_of(plain))


def test_the_packed_layer_returns_what_the_model_expects(encoder_path):
    encoder = load_encoder(str(encoder_path), {}, {})
    ids = torch.arange(5, 45).view(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    fast = packed_encoder(encoder.model)
    assert fast is not encoder.model
    for on in (None, mask):
        with torch.inference_mode():
            right, found = (
                model(input_ids=ids, attention_mask=on).last_hidden_state
                for model in (encoder.model, fast)
            )
        real = mask.bool() if on is not None else torch.ones_like(ids, dtype=torch.bool)
        torch.testing.assert_close(found[real], right[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}, {"strip_accents": False}])
def test_a_bert_tokenizer_is_that_of_its_vocabulary(tmp_path, settings):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(vocabulary()) + "\n", encoding="utf8")
    made = bert_tokenizer(vocab, model_max_length=64, **settings)
    assert len(made) == len(vocabulary())
    ids = made(TEXT).input_ids
    assert ids[0] == made.cls_token_id and ids[-1] == made.sep_token_id
    assert made.convert_ids_to_tokens(ids)[1:7] == list("王小明在北京")
    (tmp_path / "saved").mkdir()
    save_tokenizer(made, tmp_path / "saved")
    assert (tmp_path / "saved" / "vocab.txt").read_bytes() == vocab.read_bytes()
    again = load_tokenizer(str(tmp_path / "saved"))
    assert again(TEXT).input_ids == ids and again.model_max_length == 64


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "albert"])
def test_an_encoder_without_vocabulary_is_refused(family, tmp_path):
    """transformers 5 would know the special tokens, and no other wordpiece."""
    folder = make_folder(tmp_path / "encoder", FAMILIES[family])
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(BertCrfError, match="can't load the encoder"):
        load_encoder(str(folder), {}, {})


def test_tokenizer_json_counts(encoder_path, tmp_path):
    """transformers 5 would take only the vocabulary from it."""
    tokenizer = load_tokenizer(str(encoder_path))
    fast = tokenizer.backend_tokenizer
    fast.normalizer = normalizers.Sequence([normalizers.Replace("王", "李"), fast.normalizer])
    fast.model.max_input_chars_per_word = 3
    right = tokenizer(TEXT).input_ids
    (tmp_path / "saved").mkdir()
    save_tokenizer(tokenizer, tmp_path / "saved")
    assert load_tokenizer(str(tmp_path / "saved"))(TEXT).input_ids == right


@pytest.mark.parametrize("is_generic", [False, True])
def test_what_is_saved_loads_in_all_versions(encoder_path, is_generic):
    """No class and no setting that only one of them knows."""
    encoder = load_encoder(str(encoder_path), {}, {})
    if is_generic:
        names = {f"{n}_token": getattr(encoder.tokenizer, f"{n}_token")
                 for n in ("unk", "cls", "sep", "pad", "mask")}  # fmt: skip
        encoder = encoder._replace(
            tokenizer=PreTrainedTokenizerFast(
                tokenizer_object=encoder.tokenizer.backend_tokenizer, model_max_length=512, **names
            )
        )
    packed = pack(encoder)
    settings = json.loads(packed["tokenizer"]["tokenizer_config.json"])
    kinds = {"PreTrainedTokenizerFast"} if is_generic else {"BertTokenizer", "BertTokenizerFast"}
    assert settings["tokenizer_class"] in kinds
    assert not {"backend", "is_local", "local_files_only"} & settings.keys()
    restored = unpack(packed, weights_of(encoder)).tokenizer
    assert restored(TEXT).input_ids == encoder.tokenizer(TEXT).input_ids
    assert special_ids(restored) == special_ids(encoder.tokenizer)


def test_threads_that_build_models_leave_torch_as_it_is():
    """transformers 5 replaces functions of torch.nn.init meanwhile, and puts them back."""
    before = {name: getattr(nn.init, name) for name in ("normal_", "xavier_uniform_", "zeros_")}
    inside, leave = ([threading.Event(), threading.Event()] for _ in range(2))

    def build(number):
        with without_init():
            inside[number].set()
            leave[number].wait()

    threads = [threading.Thread(target=build, args=[number]) for number in (0, 1)]
    threads[0].start()
    inside[0].wait()
    threads[1].start()
    # The second must wait. Otherwise it would take what the first has put there for the real ones.
    assert not inside[1].wait(0.2)
    for number in (0, 1):
        leave[number].set()
        threads[number].join()
    assert {name: getattr(nn.init, name) for name in before} == before
