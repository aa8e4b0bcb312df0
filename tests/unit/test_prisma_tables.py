"""The generator: from Prisma's data model to the text of tables.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from tools import prisma_tables
from tools.prisma_tables import UnsupportedError, render


def field(name: str, type_: str = "String", **more: Any) -> dict[str, Any]:
    plain = {
        "kind": "scalar",
        "isList": False,
        "isRequired": True,
        "hasDefaultValue": False,
        "nativeType": None,
    }
    if type_ == "DateTime":
        plain["nativeType"] = ["Timestamptz", ["3"]]
    if "default" in more:
        plain["hasDefaultValue"] = True
    return plain | {"name": name, "type": type_} | more


def index(kind: str, *fields: str, **more: Any) -> dict[str, Any]:
    names = [field.removeprefix("-") for field in fields]
    orders: list[dict[str, str]] = [{"sortOrder": "desc"} if field.startswith("-") else {} for field in fields]
    entries = [{"name": name} | order for name, order in zip(names, orders, strict=True)]
    return {"model": "BigThing", "type": kind, "fields": entries} | more


def datamodel(*fields: dict[str, Any], indexes: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    colour = {
        "name": "Colour",
        "values": [{"name": "RED", "dbName": None}, {"name": "BLUE", "dbName": "blue"}],
    }
    model = {"name": "BigThing", "dbName": None, "fields": [field("id"), *fields]}
    return {"enums": [colour], "models": [model], "indexes": [index("id", "id"), *indexes]}


def table(text: str) -> Table:
    namespace: dict[str, Any] = {}
    exec(compile(text, "tables.py", "exec"), namespace)
    made = namespace["big_thing"]
    assert isinstance(made, Table)
    return made


def ddl(text: str, dialect: Any) -> str:
    made = table(text)
    statements = [
        CreateTable(made),
        *(CreateIndex(each) for each in sorted(made.indexes, key=lambda i: str(i.name))),
    ]
    return "\n".join(" ".join(str(each.compile(dialect=dialect)).split()) for each in statements)


def test_every_type_and_default_on_postgresql() -> None:
    text = render(
        datamodel(
            field("count", "Int", default=3),
            field("total", "BigInt", isRequired=False),
            field("share", "Float", default=0.5),
            field("on", "Boolean", default=False),
            field("at", "DateTime"),
            field("doc", "Json", default='{"a": "it\'s"}'),
            field("word", default='say "hi"'),
            field("colour", "Colour", kind="enum", default="BLUE"),
        )
    )
    assert ddl(text, postgresql.dialect()) == (
        "CREATE TABLE big_thing ( id TEXT NOT NULL, count INTEGER DEFAULT 3 NOT NULL, total BIGINT,"
        ' share DOUBLE PRECISION DEFAULT 0.5 NOT NULL, "on" BOOLEAN DEFAULT false NOT NULL,'
        " at TIMESTAMP(3) WITH TIME ZONE NOT NULL, doc JSONB DEFAULT '{\"a\": \"it''s\"}' NOT NULL,"
        " word TEXT DEFAULT 'say \"hi\"' NOT NULL, colour VARCHAR(32) DEFAULT 'blue' NOT NULL,"
        " CONSTRAINT pk_big_thing PRIMARY KEY (id),"
        " CONSTRAINT ck_big_thing_colour CHECK (colour IN ('RED', 'blue')) )"
    )


def test_keys_uniques_and_sorted_indexes() -> None:
    text = render(
        {
            **datamodel(field("b", "Int"), field("c", dbName="see")),
            "indexes": [index("id", "id", "b"), index("unique", "b", "c"), index("normal", "c", "-b")],
        }
    )
    assert ddl(text, sqlite.dialect()) == (
        "CREATE TABLE big_thing ( id TEXT NOT NULL, b INTEGER NOT NULL, see TEXT NOT NULL,"
        " CONSTRAINT pk_big_thing PRIMARY KEY (id, b), CONSTRAINT uq_big_thing_b_see UNIQUE (b, see) )\n"
        "CREATE INDEX ix_big_thing_see_b ON big_thing (see, b DESC)"
    )
    assert not any(column.autoincrement is True for column in table(text).columns)


def test_a_single_big_key_is_the_row_id_of_sqlite_and_counts_by_itself_nowhere() -> None:
    text = render({**datamodel(field("n", "BigInt")), "indexes": [index("id", "n")]})
    assert "n INTEGER NOT NULL" in ddl(text, sqlite.dialect())
    assert "n BIGINT NOT NULL" in ddl(text, postgresql.dialect())
    assert table(text).c.n.autoincrement is False


def test_comments_are_kept_and_only_used_names_imported() -> None:
    text = render(datamodel(field("a", documentation="First line.\nSecond: Boolean.")))
    assert "    # First line.\n    # Second: Boolean.\n    Column(" in text
    assert "Boolean,\n" not in text
    assert "taskyard.store.types import \n" not in text


def test_the_same_model_gives_the_same_text() -> None:
    model = datamodel(field("at", "DateTime"), indexes=(index("normal", "at"),))
    assert render(model) == render(json.loads(json.dumps(model)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (field("a", isList=True), r"BigThing\.a: lists and relations"),
        (field("a", "Other", kind="object"), r"BigThing\.a: lists and relations"),
        (
            field("a", "DateTime", nativeType=None),
            r"BigThing\.a: a DateTime is written with @db\.Timestamptz\(3\)",
        ),
        (field("a", nativeType=["VarChar", ["9"]]), r"BigThing\.a: the native type VarChar"),
        (field("a", "Decimal"), r"BigThing\.a: the type Decimal"),
        (field("a", default={"name": "uuid", "args": [4]}), r"BigThing\.a: a default is a constant"),
    ],
)
def test_what_is_not_alike_on_both_databases_is_refused_by_name(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        render(datamodel(bad))


def test_other_kinds_of_index_and_long_names_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="BigThing: an index of the kind fulltext"):
        render(datamodel(indexes=(index("fulltext", "id"),)))
    long = "x" * 60
    with pytest.raises(UnsupportedError, match="longer than 63 characters"):
        render(datamodel(field(long), indexes=(index("normal", long),)))


def test_it_speaks_the_protocol_of_prisma(tmp_path: Path) -> None:
    output = tmp_path / "made" / "tables.py"
    params = {
        "generator": {"output": {"value": str(output)}},
        "dmmf": {"datamodel": datamodel(field("at", "DateTime"))},
    }
    broken = {**params, "dmmf": {"datamodel": datamodel(field("a", "Decimal"))}}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "getManifest", "params": {}},
        {"jsonrpc": "2.0", "id": 2, "method": "generate", "params": params},
        {"jsonrpc": "2.0", "id": 3, "method": "generate", "params": broken},
    ]
    done = subprocess.run(
        [sys.executable, "-I", prisma_tables.__file__],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        check=True,
    )
    manifest, made, refused = (json.loads(line) for line in done.stderr.splitlines())
    assert manifest["result"]["manifest"]["prettyName"]
    assert made == {"jsonrpc": "2.0", "id": 2, "result": None}
    assert "the type Decimal" in refused["error"]["message"]
    assert output.read_text(encoding="utf-8") == render(params["dmmf"]["datamodel"])
