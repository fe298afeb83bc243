"""The operating threshold, chosen on validation slides, and how sure it is."""

from typing import assert_never

import numpy as np
import scipy

from stages.measures.band import highest_limit
from stages.measures.calibration import log_odds
from stages.measures.intervals import proportion
from stages.measures.parameters import Rule

# Of a threshold that maximizes something: the replicates of its standard error.
REPLICATES = 200


def choose_threshold(
    y_true: np.ndarray,
    y_score: np.ndarray,
    rule: Rule,
    target_sensitivity: float,
    slides: np.ndarray,
) -> float:
    """Return the operating threshold that `rule` gives on these (validation) images.

    - `fixed`: 0.5.
    - `youden`: maximizes sensitivity + specificity - 1 (Youden, Cancer 3:32, 1950).
    - `balanced`: maximizes the lower of sensitivity and specificity (López-Ratón et al., J Stat
      Softw 61(8), 2014, criterion SpEqualSe).
    - `sensitivity`: the sensitivity is at least `target_sensitivity`.
    - `assured_sensitivity`: so is its lower bound, with 95 % confidence over slides.

    If several thresholds qualify, the highest is taken.

    Args:
        y_true: int (N,).
        y_score: float (N,).
        slides: text or int (N,).

    Raises:
        ValueError: a class that the rule needs is missing, or no threshold reaches the target.
    """
    positive = y_true == 1
    candidates = np.unique(y_score[positive])[::-1]
    if rule == "fixed":
        return 0.5
    if len(candidates) == 0 or (not rule.endswith("sensitivity") and positive.all()):
        raise ValueError(f"the rule {rule} needs images of both classes")
    match rule:
        case "sensitivity":
            ascending = np.sort(y_score[positive])[::-1]
            reached = np.arange(1, len(ascending) + 1) / len(ascending) >= target_sensitivity
            return float(ascending[np.argmax(reached)])
        case "assured_sensitivity":
            missed = 1 - target_sensitivity
            limit, bound = highest_limit(y_score[positive], slides[positive], missed)
            if limit is None:
                number = len(np.unique(slides[positive]))
                reached_text = (
                    "has no bound" if bound is None else f"is only surely above {1 - bound:.3f}"
                )
                raise ValueError(
                    f"the rule {rule} needs more positives than {int(positive.sum())} of {number} "
                    f"slide{'s' * (number != 1)}: even if all are found, the sensitivity "
                    f"{reached_text}; lower target_sensitivity, or take the rule sensitivity"
                )
            return limit
        case "youden" | "balanced":
            from sklearn.metrics import roc_curve

            false_positive_rate, sensitivity, thresholds = roc_curve(
                y_true, y_score, drop_intermediate=False
            )
            both = sensitivity, 1 - false_positive_rate
            gain = both[0] + both[1] if rule == "youden" else np.minimum(*both)
            # The curve starts with an infinite threshold, at which nothing is positive.
            return float(thresholds[1:][np.argmax(gain[1:])])
        case _:
            assert_never(rule)


def threshold_interval(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, rule: Rule, slides: np.ndarray
) -> tuple[float, float] | None:
    """Return the 95 % interval, over slides, of the threshold that the rule would give on many.

    For a sensitivity it holds the thresholds at which the sensitivity could be the one that is
    reached here (Woodruff, J Am Stat Assoc 47:635, 1952). For the other rules it comes from
    bootstrap replicates of the slides, as Student's t in log-odds. None for `fixed`, and if there
    is a single slide.
    """
    positive = y_true == 1
    match rule:
        case "fixed":
            return None
        case "sensitivity" | "assured_sensitivity":
            found = proportion(y_score[positive] >= threshold, slides[positive])
            if found.low is None or found.high is None:
                return None
            ascending = np.sort(y_score[positive])
            # The quantiles of the positives, beyond the lowest one none.
            least = (1 - found.high) * (len(ascending) + 1)
            low = 0.0 if least < 1 else float(ascending[int(least) - 1])
            most = int(np.ceil((1 - found.low) * (len(ascending) + 1)))
            return low, float(ascending[min(most, len(ascending)) - 1])
        case "youden" | "balanced":
            return _bootstrapped(y_true, y_score, threshold, rule, slides)
        case _:
            assert_never(rule)


def _bootstrapped(
    y_true: np.ndarray, y_score: np.ndarray, threshold: float, rule: Rule, slides: np.ndarray
) -> tuple[float, float] | None:
    rows = [np.flatnonzero(slides == slide) for slide in np.unique(slides)]
    random, found = np.random.default_rng(0), []
    for _ in range(REPLICATES if len(rows) > 1 else 0):
        drawn = np.concatenate([rows[one] for one in random.integers(len(rows), size=len(rows))])
        if len(np.unique(y_true[drawn])) == 2:
            found.append(choose_threshold(y_true[drawn], y_score[drawn], rule, 0, slides[drawn]))
    if len(found) < 2:
        return None
    reach = scipy.stats.t.ppf(0.975, len(rows) - 1) * log_odds(np.array(found)).std(ddof=1)
    low, high = (float(scipy.special.expit(log_odds(threshold) + sign * reach)) for sign in (-1, 1))
    return min(low, threshold), max(high, threshold)
