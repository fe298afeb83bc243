"""Which slide each crop of a user's folder or table belongs to."""

import sys
from collections.abc import Mapping, Sequence

from stages.base.errors import UserError, warn
from stages.dataset.slides import NO_GROUP, is_no_name, nfc, slide_pattern, written_alike

GIVE_PATTERN = "say with --slide '(?P<slide>...)' which part of a name is the slide"


def find_slides(
    names: Sequence[str],
    given: str | None,
    of_model: str | None,
    required: bool,
    of_table: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the slide of each crop by its name; empty if it is unknown.

    Args:
        given: the user's pattern; it must match at least one name.
        of_model: the pattern of the model's dataset, used without `given` and `of_table`.
        required: whether each crop must have a slide.
        of_table: the slides that the table of crops gives, used without `given`.

    Raises:
        UserError: a pattern is invalid or does not match, or a required slide is missing.
    """
    pattern = given or (None if of_model == NO_GROUP else of_model)
    if of_table is not None and not given:
        found = {name: nfc(of_table.get(name, "")) for name in names}
        missing, hint = "the table says no slide of", ""
    elif pattern is not None:
        what = f"--slide {given}" if given else f"the pattern of the model's own slides, {pattern},"
        try:
            matched = slide_pattern(pattern).match_all(names)
        except (ValueError, UserError) as error:
            raise UserError(f"{what}: {error}") from None
        found = {name: slide for name, (slide, _) in matched.items()}
        missing, hint = f"{what} does not match", f"; {GIVE_PATTERN}"
    elif required:
        raise UserError(f"the model knows no pattern of slides; {GIVE_PATTERN}")
    else:
        return dict.fromkeys(names, "")
    slides = {name: "" if is_no_name(slide) else slide for name, slide in found.items()}
    if unknown := [name for name in names if not slides[name]]:
        problem = f"{missing} {unknown[0]} ({len(unknown)} of {len(names)} crops)"
        if required or (given and len(unknown) == len(names)):
            raise UserError(f"{problem}{hint}")
        print(f"warning: {problem}: their slide is not known", file=sys.stderr)
    warn("slides that are kept apart, and may be one", written_alike(set(slides.values())))
    return slides
