"""What the tests of client libraries ask for: a type of one value, so that contents are certain whatever the model is."""
from typing import Literal

import pydantic


class Capital(pydantic.BaseModel, extra="forbid"):
    """A capital."""

    city: Literal["Paris"]
    country: Literal["France"]


PARIS = Capital(city="Paris", country="France")
# JSON mode holds to JSON alone; that it takes a schema too is an addition of fluxd's, which the small model needs.
HELD = {"response_format": {"type": "json_object", "schema": Capital.model_json_schema()}}
