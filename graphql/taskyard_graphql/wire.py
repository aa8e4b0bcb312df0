"""JSON as it comes in and goes out, over HTTP and WebSocket."""

import json
import re

import orjson

#: orjson makes a float of an integer above 64 bits: such a number must be refused later, not changed here.
_LONG_NUMBER = re.compile(rb"[0-9]{20}")


class BadJson(ValueError):
    """It is no JSON that is accepted here: broken, not UTF-8, nested too deeply, or not of Unicode characters."""


def decode(data: str | bytes) -> object:
    """The value of a JSON text. Raises `BadJson`, whatever is wrong with it."""
    try:
        raw = data.encode() if isinstance(data, str) else data
        value: object = orjson.loads(raw)
        if _LONG_NUMBER.search(raw):
            value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadJson(str(error)) from error
    return value


def encode(value: object) -> str:
    """The JSON text of an answer."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # What could just be stored is nested too deeply for it once the answer stands around it.
        return json.dumps(value, separators=(",", ":"))
