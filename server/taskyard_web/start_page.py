"""The plain page at `/`: what this server is, and the first thing to try."""

import base64
import hashlib
import html
import re
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from taskyard_graphql.graphiql import PAGE_HEADERS
from taskyard_web.first_task import curl_line

PAGE = Path(__file__).parent / "pages" / "start.html"
GRAPHIQL = '<li><a href="graphql">GraphiQL</a>: try queries, mutations and subscriptions in the browser</li>'


def start_page(request: Request, *, graphiql: bool = True) -> Response:
    """The page, without scripts and outside resources; `graphiql`: whether to link to it.

    The address in it is the one that the request named, and so not to be trusted: it is quoted for the shell,
    then for HTML.
    """
    template = PAGE.read_text("utf-8")
    curl = curl_line(f"{request.base_url}graphql", "$(taskyard token --sub me)")
    page = Template(template).substitute(curl=html.escape(curl), graphiql=GRAPHIQL if graphiql else "")
    style = re.findall(r"<style>(.*?)</style>", template, re.DOTALL)[0]
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(page, headers={**PAGE_HEADERS, "Content-Security-Policy": policy})
