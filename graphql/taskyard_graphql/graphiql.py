"""GraphiQL, the page to try the API with: every file of it comes from this server."""

import os
from pathlib import Path

from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PAGES = Path(__file__).parent / "pages"
ASSETS = Path(__file__).parent / "static" / "graphiql"  # vendored, see hatch_build.py

PAGE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}
HEADERS = {
    **PAGE_HEADERS,
    # GraphiQL's dialogs insert <style> elements; it needs neither inline scripts nor eval.
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def graphiql_page() -> Response:
    """The page for a browser's GET of the GraphQL address: it sends its operations there.

    Its links are relative, so that it works behind a prefix: `graphiql_assets()` is mounted at `graphiql`
    beside it. Without the assets the answer is 503 and says how to build them.
    """
    built = (ASSETS / "STAMP").is_file()
    page = PAGES / ("graphiql.html" if built else "graphiql_missing.html")
    return HTMLResponse(page.read_text("utf-8"), 200 if built else 503, HEADERS)


def graphiql_assets() -> StaticFiles:
    """The page's scripts and styles, own and vendored, as an ASGI app to mount."""
    return _Assets()


class _Assets(StaticFiles):
    def __init__(self) -> None:
        super().__init__(directory=PAGES)
        self.all_directories.append(ASSETS)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response
