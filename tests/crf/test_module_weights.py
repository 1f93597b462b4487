"""LinearChainCRF.weights: the module's scores and masks as ChainWeights."""

import torch

from spacy_bert_crf.annotation.schemes import TagSet
from spacy_bert_crf.crf.linear_chain import LinearChainCRF
from spacy_bert_crf.crf.tag_head import TagHead

TAGS = TagSet(("LOC", "PER"), "BIOES")


def test_weights_are_the_detached_scores_and_the_masks():
    start, end, transitions = TAGS.legal()
    crf = LinearChainCRF(len(TAGS.tags), start, end, transitions)
    weights = crf.weights()
    assert not any(score.requires_grad for score in weights.scores)
    assert torch.equal(weights.start, crf.start_transitions)
    assert torch.equal(weights.end, crf.end_transitions)
    assert torch.equal(weights.transitions, crf.transitions)
    assert [mask.tolist() for mask in weights.legal] == [start, end, transitions]
    again = LinearChainCRF(len(TAGS.tags))
    again.set_scores(weights.start, weights.transitions, weights.end)
    again.set_legal(*(mask.tolist() for mask in weights.legal))
    for mine, other in zip(again.weights().masked(), weights.masked(), strict=True):
        assert torch.equal(mine, other)


def test_an_extended_head_keeps_the_old_scores_in_place():
    head = TagHead(4, 3)
    old = [score.clone() for score in head.crf.weights().scores]
    bias = head.classifier.bias.detach().clone()
    head.extend(5)
    start, end, transitions = head.crf.weights().scores
    assert torch.equal(start[:3], old[0]) and torch.equal(end[:3], old[1])
    assert torch.equal(transitions[:3, :3], old[2]) and transitions.shape == (5, 5)
    assert torch.equal(head.classifier.bias[:3], bias)
    assert all(param.requires_grad for param in head.parameters())
