"""A Prisma generator: turns the data model of schema.prisma into SQLAlchemy Core tables.

`prisma generate` starts this program and talks JSON-RPC to it: one request a line on stdin, one reply a
line on stderr. Standard library only. What cannot mean the same on both databases is refused by name.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Node = Mapping[str, Any]

_TYPES = {
    "String": "Text",
    "Int": "Integer",
    "BigInt": "BigInteger",
    "Float": "Double",
    "Boolean": "Boolean",
    "DateTime": "UtcDateTime",
    "Json": "Json",
}
_OURS = ("Json", "UtcDateTime")
_THEIRS = (
    "BigInteger",
    "Boolean",
    "Column",
    "Double",
    "Enum",
    "Index",
    "Integer",
    "MetaData",
    "PrimaryKeyConstraint",
    "Table",
    "Text",
    "UniqueConstraint",
    "text",
)
#: Wide enough that a new value of an enum changes only the CHECK, never the column's type.
_ENUM_LENGTH = 32
_LINE = 110
#: PostgreSQL cuts longer names without a word.
_MAX_NAME = 63

_HEAD = '''"""Generated from schema.prisma by `make schema`: change that file, not this one."""

from sqlalchemy import (
{theirs}
)
{ours}
metadata = MetaData(
    naming_convention={{
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }}
)
'''


class UnsupportedError(Exception):
    """The schema asks for something that tables.py does not do; the message says what and where."""


def render(datamodel: Node) -> str:
    """The text of tables.py; the same data model always gives the same text."""
    enums = {enum["name"]: enum for enum in datamodel["enums"]}
    body = "".join("\n" + "\n".join(_enum(enum)) + "\n" for enum in datamodel["enums"])
    for model in datamodel["models"]:
        indexes = [index for index in datamodel["indexes"] if index["model"] == model["name"]]
        body += "\n" + "\n".join(_table(model, enums, indexes)) + "\n"
    used = {"MetaData", *re.findall(r"\w+", re.sub(r'#.*|"(?:\\.|[^"\\])*"', "", body))}
    theirs = "\n".join(f"    {name}," for name in _THEIRS if name in used)
    ours = ", ".join(name for name in _OURS if name in used)
    ours = f"\nfrom taskyard.store.types import {ours}\n" if ours else ""
    return _HEAD.format(theirs=theirs, ours=ours) + body


def _enum(enum: Node) -> Iterator[str]:
    yield f"{_snake(enum['name'])} = Enum("
    for value in enum["values"]:
        yield f"    {_quote(value['dbName'] or value['name'])},"
    yield f"    name={_quote(_snake(enum['name']))},"
    yield "    native_enum=False,"
    yield "    create_constraint=True,"
    yield f"    length={_ENUM_LENGTH},"
    yield ")"


def _table(model: Node, enums: Mapping[str, Node], indexes: Sequence[Node]) -> Iterator[str]:
    table = _snake(model["dbName"] or model["name"])
    names = {field["name"]: field.get("dbName") or field["name"] for field in model["fields"]}
    key = [field["name"] for index in indexes if index["type"] == "id" for field in index["fields"]]
    yield from _comment(model, "")
    yield f"{table} = Table("
    yield f"    {_quote(table)},"
    yield "    metadata,"
    for field in model["fields"]:
        yield from _comment(field, "    ")
        where = f"{model['name']}.{field['name']}"
        yield from _call("Column", _column(where, field, enums, key), "    ", ",")
    for index in indexes:
        columns = [names[field["name"]] for field in index["fields"]]
        if index["type"] == "id" and len(columns) > 1:
            yield from _call("PrimaryKeyConstraint", [_quote(name) for name in columns], "    ", ",")
        elif index["type"] == "unique":
            arguments = [*map(_quote, columns), f"name={_name(index, 'uq', table, columns)}"]
            yield from _call("UniqueConstraint", arguments, "    ", ",")
    yield ")"
    for index in indexes:
        if index["type"] == "normal":
            columns = [names[field["name"]] for field in index["fields"]]
            arguments = [_name(index, "ix", table, columns)]
            for field, column in zip(index["fields"], columns, strict=True):
                arguments.append(f"{table}.c.{column}" + ".desc()" * (field.get("sortOrder") == "desc"))
            yield from _call("Index", arguments)
        elif index["type"] not in ("id", "unique"):
            raise UnsupportedError(f"{model['name']}: an index of the kind {index['type']}")


def _column(where: str, field: Node, enums: Mapping[str, Node], key: Sequence[str]) -> list[str]:
    if field["isList"] or field["kind"] not in ("scalar", "enum"):
        raise UnsupportedError(f"{where}: lists and relations are not used here")
    if field["type"] == "DateTime" and field["nativeType"] != ["Timestamptz", ["3"]]:
        raise UnsupportedError(f"{where}: a DateTime is written with @db.Timestamptz(3)")
    if field["type"] != "DateTime" and field["nativeType"]:
        raise UnsupportedError(f"{where}: the native type {field['nativeType'][0]}")
    in_key = field["name"] in key
    arguments = [_quote(field.get("dbName") or field["name"]), _type(where, field, key == [field["name"]])]
    if key == [field["name"]]:
        arguments.append("primary_key=True")
    elif not in_key:
        arguments.append(f"nullable={not field['isRequired']}")
    if in_key and field["type"] in ("Int", "BigInt"):
        arguments.append("autoincrement=False")
    if field["hasDefaultValue"]:
        arguments.append(f"server_default={_default(where, field, enums)}")
    return arguments


def _type(where: str, field: Node, is_key: bool) -> str:
    if field["kind"] == "enum":
        return _snake(field["type"])
    if field["type"] == "BigInt" and is_key:
        # SQLite keeps rows in the order of a key only if its type is exactly INTEGER.
        return 'BigInteger().with_variant(Integer(), "sqlite")'
    if field["type"] not in _TYPES:
        raise UnsupportedError(f"{where}: the type {field['type']}")
    return _TYPES[field["type"]]


def _default(where: str, field: Node, enums: Mapping[str, Node]) -> str:
    value = field["default"]
    if isinstance(value, (dict, list)):
        raise UnsupportedError(f"{where}: a default is a constant; the code gives what changes")
    if isinstance(value, bool):
        return f'text("{str(value).lower()}")'
    if field["kind"] == "enum":
        stored = {each["name"]: each["dbName"] or each["name"] for each in enums[field["type"]]["values"]}
        return _quote(stored[value])
    return _quote(value) if field["type"] in ("String", "Json") else f'text("{value}")'


def _name(index: Node, kind: str, table: str, columns: Sequence[str]) -> str:
    name = index.get("dbName") or f"{kind}_{table}_{'_'.join(columns)}"
    if len(name) > _MAX_NAME:
        raise UnsupportedError(f"{name}: longer than {_MAX_NAME} characters, give it a name with map:")
    return _quote(name)


def _call(function: str, arguments: Sequence[str], indent: str = "", end: str = "") -> Iterator[str]:
    """A call, broken over lines as ruff would break it."""
    line = f"{indent}{function}({', '.join(arguments)}){end}"
    if len(line) <= _LINE:
        yield line
        return
    line = f"{indent}    {', '.join(arguments)}"
    yield f"{indent}{function}("
    yield from [line] if len(line) <= _LINE else [f"{indent}    {argument}," for argument in arguments]
    yield f"{indent}){end}"


def _comment(node: Node, indent: str) -> Iterator[str]:
    for line in node.get("documentation", "").splitlines():
        yield f"{indent}# {line}".rstrip()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def answer(request: Node) -> Node:
    """The JSON-RPC reply to one request of Prisma; writes the file when it is asked to."""
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        if request["method"] == "getManifest":
            return reply | {"result": {"manifest": {"prettyName": "SQLAlchemy tables"}}}
        output = Path(request["params"]["generator"]["output"]["value"])
        text = render(request["params"]["dmmf"]["datamodel"])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
        return reply | {"result": None}
    except (UnsupportedError, OSError) as error:
        return reply | {"error": {"code": -32000, "message": str(error), "data": None}}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=sys.stderr, flush=True)
