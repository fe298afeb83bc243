"""Write JSON schemas of what people and other programs read and write: -> docs/schemas/.

    python -m tools.schemas

An editor that knows them completes and checks params.yaml and the card of a dataset while one
types. Rules between several fields are not in a schema; the programs check all of them.
"""

from pathlib import Path

from pydantic import BaseModel

from stages.base.files import write_json
from stages.dataset.card import CardFields
from stages.evaluation.classifier import ModelCard
from stages.measures.decision import Decision
from stages.parameters.whole import Whole

PLACE = Path(__file__).resolve().parents[1] / "docs/schemas"
SCHEMAS: dict[str, type[BaseModel]] = {
    "params.yaml": Whole,
    "card.yaml": CardFields,
    "model.json": ModelCard,
    "calibration.json": Decision,
}


def schema(name: str) -> dict:
    """Return the JSON schema of a file, of draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | SCHEMAS[
        name
    ].model_json_schema()


def main() -> None:
    for name in SCHEMAS:
        write_json(PLACE / f"{name}.schema.json", schema(name))


if __name__ == "__main__":
    main()
