"""The pages for people: GraphiQL and the start page. Neither asks another server for anything."""

import html
import re
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from tests.support.real import need_assets

from taskyard_graphql import graphiql
from taskyard_web.start_page import start_page


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(
        routes=[
            Route("/", start_page),
            Route("/alone", partial(start_page, graphiql=False)),
            Route("/graphql", lambda _: graphiql.graphiql_page()),
            Mount("/graphiql", graphiql.graphiql_assets()),
        ]
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


def links(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]*)"', page)


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphiql/graphiql.js"])
async def test_pages_carry_the_headers_that_keep_them_to_themselves(client: httpx.AsyncClient, path: str) -> None:
    if path == "/graphql":
        need_assets()
    response = await client.get(path)

    assert response.status_code == 200
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-frame-options"] == "DENY"
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] in {"'self'", "'none'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "script-src" not in policy  # so scripts follow default-src: none inline, no eval
    assert "://" not in response.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/graphql"])
async def test_pages_link_to_no_other_origin(client: httpx.AsyncClient, path: str) -> None:
    page = (await client.get(path)).text

    assert [link for link in links(page) if "://" in link or link.startswith("//")] == []
    assert not re.search(r"<script(?! defer src=)|\son\w+=|\sstyle=", page)


@pytest.mark.usefixtures("assets")
async def test_every_file_that_graphiql_links_to_is_served_with_its_type(client: httpx.AsyncClient) -> None:
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    files = [link for link in links((await client.get("/graphql")).text) if link != "data:,"]

    assert len(files) == 7
    for file in files:
        response = await client.get(f"/{file}")
        assert response.status_code == 200, file
        assert response.headers["content-type"] == types[Path(file).suffix]
        again = await client.get(f"/{file}", headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304


async def test_nothing_beside_the_assets_is_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/graphiql/../graphiql.py")).status_code == 404
    assert (await client.get("/graphiql/%2e%2e/graphiql.py")).status_code == 404
    assert (await client.get("/graphiql/")).status_code == 404


async def test_without_assets_graphiql_says_how_to_build_them(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(graphiql, "ASSETS", tmp_path)

    response = await client.get("/graphql")

    assert response.status_code == 503
    assert "hatchling build --target wheel --hooks-only" in response.text
    assert "<script" not in response.text


async def test_start_page_creates_a_task_at_the_address_it_was_asked_at(client: httpx.AsyncClient) -> None:
    page = (await client.get("/", headers={"Host": "tasks.example:4000"})).text

    assert "curl -s http://tasks.example:4000/graphql -H" in page
    assert links(page) == ["data:,", "graphql", "api/ai/tasks/health"]


async def test_start_page_links_to_graphiql_only_when_it_is_on(client: httpx.AsyncClient) -> None:
    assert "graphql" not in links((await client.get("/alone")).text)


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", "x$(echo y)", "x';echo';'", 'x"&&echo"', "$curl"])
async def test_a_hostile_host_header_reaches_neither_the_page_nor_the_shell(
    client: httpx.AsyncClient, host: str
) -> None:
    page = (await client.get("/", headers={"Host": host})).text
    command = re.search(r"<code>(curl .*)</code>", page)

    assert "<script" not in page
    assert command is not None
    stub = """taskyard() { echo t0ken; }; curl() { printf '%s\\n' "$2" "$4"; }; """
    ran = subprocess.run(["sh", "-c", stub + html.unescape(command[1])], check=True, capture_output=True, text=True)
    address, authorization = ran.stdout.splitlines()
    assert address in {f"http://{host}/graphql", "http://testserver:None/graphql"}  # or not taken
    assert authorization == "Authorization: Bearer t0ken"
    assert ran.stderr == ""
