"""Metrics of classification, of a split and of each class: by hand, against slow references and torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional import classification

from guidance.evaluation.classification import per_class
from guidance.evaluation.metrics import METRICS, summarize
from tests.reference import classification as reference
from tests.support.rows import make_rows

LOGITS = [[2.0, -1.0, 0.0], [-0.5, 3.0, -2.0], [1.0, 0.5, -1.0], [-3.0, -0.1, -0.2]]

TARGETS = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_micro_f1_by_hand() -> None:
    """Predicted (a logit of 0 counts): 0 and 2; 1; 0 and 1; none. Hits: 3 of 5 predicted, 5 positive."""
    metrics = summarize(make_rows(LOGITS, TARGETS))
    assert metrics["f1"] == 6 / 10
    assert metrics["precision"] == 3 / 5
    assert metrics["recall"] == 3 / 5
    assert metrics["accuracy"] == pytest.approx(8 / 12)


def test_argmax_decisions_by_hand() -> None:
    """Largest logits: 0, 1, 0, 1; targets 0, 1, 1, 2."""
    targets = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    metrics = summarize(make_rows(LOGITS, targets, decision="argmax", single_label=True))
    assert metrics["accuracy"] == metrics["f1"] == metrics["precision"] == metrics["recall"] == 0.5
    thresholded = summarize(make_rows(LOGITS, targets, single_label=True))
    assert thresholded["accuracy"] == 0.5
    assert thresholded["f1"] == 2 * 3 / (5 + 4)


def test_average_precision_by_hand() -> None:
    """Class 0 ranks +, -, +: 1/2 * 1 + 1/2 * 2/3. Class 1 has a tie of + and -: 1/2. Class 2 has no positive: left out."""
    logits = [[3.0, 1.0, 0.0], [2.0, 1.0, 1.0], [1.0, -1.0, 2.0]]
    targets = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert summarize(make_rows(logits, targets))["map"] == pytest.approx((5 / 6 + 1 / 2) / 2)


@pytest.mark.parametrize("decision", ["threshold", "argmax"])
@pytest.mark.parametrize("single_label", [False, True])
def test_classification_equals_the_slow_reference(decision: str, single_label: bool) -> None:
    logits = (torch.randn(30, 4) * 2).round(decimals=1).double()  # with ties
    label = torch.nn.functional.one_hot(torch.randint(0, 4, (30,)), 4).double()
    targets = label if single_label else (torch.rand(30, 4) > 0.6).double()
    got = summarize(make_rows(logits.tolist(), targets.tolist(), decision=decision, single_label=single_label))
    lists = (logits.tolist(), targets.tolist(), decision)
    expected = reference.micro(*lists) | {"map": reference.mean_average_precision(*lists)}
    correct = reference.correct(*lists, single_label)
    expected["accuracy"] = sum(correct) / len(correct)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_classification_equals_torchmetrics() -> None:
    logits, targets = torch.randn(60, 5).double(), (torch.rand(60, 5) > 0.7).long()
    rows = make_rows(logits.tolist(), targets.tolist())
    ours = summarize(rows)
    probabilities = logits.sigmoid()
    options = {"num_labels": 5, "average": "micro"}
    assert ours["f1"] == pytest.approx(classification.multilabel_f1_score(probabilities, targets, **options).item())
    assert ours["precision"] == pytest.approx(
        classification.multilabel_precision(probabilities, targets, **options).item()
    )
    assert ours["recall"] == pytest.approx(classification.multilabel_recall(probabilities, targets, **options).item())
    assert ours["accuracy"] == pytest.approx(
        classification.multilabel_accuracy(probabilities, targets, **options).item()
    )
    expected = classification.multilabel_average_precision(probabilities, targets, num_labels=5).item()
    assert ours["map"] == pytest.approx(expected, rel=1e-5)

    label = torch.randint(0, 5, (60,))
    one_hot = torch.nn.functional.one_hot(label, 5)
    ours = summarize(make_rows(logits.tolist(), one_hot.tolist(), decision="argmax", single_label=True))
    expected = classification.multiclass_average_precision(logits.softmax(1), label, num_classes=5).item()
    assert ours["map"] == pytest.approx(expected, rel=1e-5)
    accuracy = classification.multiclass_accuracy(logits, label, num_classes=5, average="micro").item()
    assert ours["accuracy"] == pytest.approx(accuracy)


def test_large_logits_are_ranked_although_their_sigmoid_is_one() -> None:
    rows = make_rows([[60.0], [50.0], [40.0]], [[1.0], [1.0], [0.0]])
    assert METRICS["map"].function(rows) == 1


def test_scores_of_each_class() -> None:
    logits = [[3.0, 1.0, -9.0], [0.0, 2.0, -9.0], [1.0, 2.0, -9.0], [-1.0, 0.5, -9.0]]
    targets = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    single = make_rows(logits, targets, single_label=True)
    found = per_class(single, ("a", "b", "c"))
    assert list(found) == ["accuracy_class/a", "accuracy_class/b", "ap_class/a", "ap_class/b"]  # nothing shows c
    assert (found["accuracy_class/a"], found["accuracy_class/b"]) == (0.5, 1.0)
    # a: ranked 3 (yes), 1, 0 (yes), -1. b: 2 and 2 tie (one yes), 1, 0.5 (yes).
    assert (found["ap_class/a"], found["ap_class/b"]) == pytest.approx(((1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2))
    several = make_rows(logits, [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    found = per_class(several, ("a", "b", "c"))
    # Above 0: a in samples 0, 1, 2; b in all four.
    assert (found["f1_class/a"], found["f1_class/b"]) == pytest.approx((2 * 2 / (2 + 3), 2 * 3 / (3 + 4)))
    assert summarize(several)["map"] == pytest.approx((found["ap_class/a"] + found["ap_class/b"]) / 2)


def test_an_undefined_metric_is_nan() -> None:
    nothing = summarize(make_rows([[-1.0], [-2.0]], [[0.0], [0.0]]))
    assert all(math.isnan(nothing[name]) for name in ("f1", "precision", "recall", "map"))
    assert nothing["accuracy"] == 1
    silent = summarize(make_rows([[-1.0], [-2.0]], [[1.0], [0.0]]))
    assert silent["f1"] == silent["precision"] == silent["recall"] == 0


def test_metrics_do_not_depend_on_the_number_of_threads() -> None:
    n = 50_000
    rows = make_rows(torch.randn(n, 2).tolist(), (torch.rand(n, 2) > 0.5).tolist())
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            metrics = summarize(rows)
            results.append([metrics[name] for name in ("f1", "map", "accuracy")])
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="'softmax'"):
        make_rows(LOGITS, TARGETS, decision="softmax")
    with pytest.raises(ValueError, match="2 counts for 1"):
        make_rows(LOGITS, TARGETS, group_names=("a",), training_groups=(1, 2))
