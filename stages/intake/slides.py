"""The slide and site of each crop of a dataset, as its card finds them, and what is doubtful."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Literal

from stages.base.errors import UserError, refuse, warn
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.dataset.slides import NO_GROUP, is_no_name, nfc, written_alike
from stages.intake.label_table import Groups

# If more than the share of slides have one crop, the pattern probably does not find patients. With
# fewer slides than the count, that all have one crop may be chance.
MOSTLY_SINGLE, FEW_SLIDES = 0.9, 10
SHOWN = 3


def assign_slides(
    dataset: Dataset, paths: Iterable[str], groups: Groups
) -> dict[str, tuple[str, str]]:
    """Return (slide, site) of each path, from the table of labels or else from the file's name.

    Args:
        groups: (slide, site) by path, as far as the table has columns for them.
    """
    paths, pattern = list(paths), dataset.card.pattern
    try:
        named = pattern.match_all(paths) if pattern else {}
    except UserError as error:
        raise dataset.error("group", str(error)) from None
    slides, slide_sites = {}, defaultdict(set)
    # As in `match_all`.
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    each_apart = dataset.card.group == NO_GROUP
    for path in paths:
        of_table, of_name = groups.get(path, ("", "")), named.get(path, ("", ""))
        slide, site = (one or other for one, other in zip(of_table, of_name))
        if not slide and each_apart:
            slide = nfc(path)
        slides[path] = pairs.setdefault((slide, site), (slide, site))
        slide_sites[slide].add(site)
    if unmatched := [path for path, (slide, _) in slides.items() if not slide]:
        count = f" ({len(unmatched)} of {len(slides)} names do not)" if len(unmatched) > 1 else ""
        raise dataset.error("group", f"it does not match {unmatched[0]}{count}")
    _refuse_unknown(dataset, slides)
    if pattern and pattern.of_path:
        _refuse_class_in_slide(dataset, slide_sites)
    # Keeping sites apart would tear apart a slide of several sites.
    refuse(
        f"slide {slide} is of several sites: {', '.join(sorted(sites))}"
        for slide, sites in sorted(slide_sites.items())
        if len(sites) > 1
    )
    if each_apart:
        _refuse_shared(dataset, slides)
    else:
        of_path = {path: slide for path, (slide, _) in slides.items()}
        _refuse_separate(dataset, of_path)
        _warn_of_single(of_path)
        warn("slides that are kept apart, but may be the same", written_alike(slide_sites))
    all_sites = {site for sites in slide_sites.values() for site in sites}
    warn("sites that are kept apart, but may be the same", written_alike(all_sites))
    return slides


def _error_of(dataset: Dataset, kind: Literal["slide", "site"], message: str) -> UserError:
    """Return an error that quotes the card's line on slides or sites: `columns` or `group`."""
    in_table = dataset.card.columns and getattr(dataset.card.columns, kind)
    return dataset.error(f"columns.{kind}" if in_table else "group", message)


def _refuse_unknown(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse unknown slides and sites, such as NA: all of them would be one patient."""
    kinds: tuple[Literal["slide", "site"], ...] = ("slide", "site")
    for place, kind in enumerate(kinds):
        names = {pair[place] for pair in slides.values()}
        if unknown := {name for name in names if name and is_no_name(name)}:
            paths = [path for path, pair in slides.items() if pair[place] in unknown]
            texts = " or ".join(map(quoted, sorted(unknown)))
            what = "slide (or patient)" if kind == "slide" else kind
            raise _error_of(
                dataset,
                kind,
                f"the {kind} of {len(paths)} of {len(slides)} crops is {texts}, such as of "
                f"{paths[0]}, which means unknown; name the {what} of each, or leave them out",
            )


def _refuse_shared(dataset: Dataset, slides: dict[str, tuple[str, str]]) -> None:
    """Refuse a slide of two crops if the card says that each crop is of another patient."""
    counts = Counter(slide for slide, _ in slides.values())
    if shared := [path for path, (slide, _) in slides.items() if counts[slide] > 1]:
        slide = quoted(slides[shared[0]][0])
        raise dataset.error(
            "group", f"{shared[0]} shares its slide, {slide}, with another crop; remove the line"
        )


def check_joined(dataset: Dataset, slides: Mapping[str, str]) -> None:
    """Refuse shards that together have too many separate slides; warn of names in several shards.

    Args:
        slides: by the path of the crop; both begin with the name of the shard.
    """
    shards = {shard.name: shard for shard in dataset.shards if shard.card.group != NO_GROUP}
    if not shards:
        return
    own = {path: slide for path, slide in slides.items() if path.split("/")[0] in shards}
    _refuse_separate(next(iter(shards.values())), own)
    found = defaultdict(list)
    for slide in sorted(set(own.values())):
        shard, _, name = slide.partition("/")
        found[name].append(shard)
    shared = [f"{quoted(name)} ({', '.join(of)})" for name, of in found.items() if len(of) > 1]
    if shared:
        more = ", ..." * (len(shared) > SHOWN)
        warn(
            f"{dataset.card_path}: {len(shared)} slides (or patients) have the same name in "
            f"several shards, and count as different ones: {', '.join(shared[:SHOWN])}{more}; if "
            "two are one patient, see docs/datasets.md"
        )


def _refuse_separate(dataset: Dataset, slides: Mapping[str, str]) -> None:
    """Refuse slides of one crop each, which would put a patient's crops on both sides of a split.

    Args:
        dataset: the one whose card an error quotes.
        slides: by the path of the crop.
    """
    if FEW_SLIDES <= len(set(slides.values())) == len(slides):
        path, slide = next(iter(slides.items()))
        raise _error_of(
            dataset,
            "slide",
            f"each of the {len(slides)} crops is a separate slide, such as {quoted(slide)} of "
            f"{path}, so that nothing keeps a patient's crops together; name what they share, or "
            f"write `group: {NO_GROUP}` if no two crops are of one patient",
        )


def _warn_of_single(slides: Mapping[str, str]) -> None:
    counts = Counter(slides.values())
    single = sum(count == 1 for count in counts.values())
    if single > max(1, MOSTLY_SINGLE * len(counts)):
        warn(
            "do slides (or patients) have so few crops",
            [f"{single} of {len(counts)} have one, of {len(slides)} crops"],
        )


def _refuse_class_in_slide(dataset: Dataset, slides: Iterable[str]) -> None:
    """Refuse a pattern that takes the class folder into the slide: a patient would become two."""
    names = dataset.card.classes or [] if dataset.card.labels is None else []
    classes = {nfc(part) for name in names for part in PurePosixPath(name).parts} - {"*"}
    without: dict[str, str] = {}
    for slide in sorted(slides):
        rest = "/".join(part for part in slide.split("/") if part not in classes)
        if rest != slide and (other := without.setdefault(rest, slide)) != slide:
            raise dataset.error(
                "group",
                f"the slide includes the class folder: {quoted(other)} and {quoted(slide)} would "
                "be two slides; match only the folder of the patient",
            )
