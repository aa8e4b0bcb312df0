"""Send text files to Taskyard and print their digest: `python submit.py docs/*.md`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import click
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError
from gql.transport.websockets import WebsocketsTransport

CREATE = "mutation ($input: CreateAITaskInput!) { createAITask(input: $input) { id } }"
RESULT = "query ($id: ID!) { aiTask(id: $id) { status errorMessage outputData } }"
CHANGES = """
subscription ($id: ID!) {
  aiTaskStatusChanged(taskId: $id) { status progressPercentage currentStep }
}
"""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "REJECTED")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default="http://127.0.0.1:4000", show_default=True, help="address of the server")
@click.option("--token", required=True, envvar="TASKYARD_TOKEN", help="by default TASKYARD_TOKEN")
@click.option("--sentences", type=int, default=3, show_default=True, help="longest summary of a file")
def main(files: tuple[Path, ...], url: str, token: str, sentences: int) -> None:
    """Print word counts, keywords and a summary of text files."""
    documents = [{"name": str(file), "text": text_of(file)} for file in files]
    order = {"taskType": "document_digest", "inputData": {"documents": documents, "sentences": sentences}}
    task_id = post(url, token, CREATE, {"input": order})["createAITask"]["id"]
    asyncio.run(wait(url, token, task_id))
    task = post(url, token, RESULT, {"id": task_id})["aiTask"]
    if task["status"] != "COMPLETED":
        raise click.ClickException(f"the task was {task['status'].lower()}: {task['errorMessage']}")
    show(task["outputData"])


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not a text in UTF-8") from error


def post(url: str, token: str, query: str, variables: dict[str, Any]) -> Any:
    """The data of one operation; what the server objects to is shown with its place."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = Request(f"{url}/graphql", body, headers)  # noqa: S310 - the address is the user's own
    try:
        with urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            answer = json.load(response)
    except HTTPError as error:
        raise click.ClickException(f"{url} answers {error.code}: {error.read().decode(errors='replace')}") from error
    except URLError as error:
        raise click.ClickException(f"{url} is not there: {error.reason}") from error
    for fault in answer.get("errors", ()):
        place = ".".join(map(str, fault.get("extensions", {}).get("path") or ()))
        raise click.ClickException(f"{fault['message']}" + (f" (at {place})" if place else ""))
    return answer["data"]


async def wait(url: str, token: str, task_id: str) -> None:
    """Until the task has ended; what it is doing is told on standard error."""
    transport = WebsocketsTransport(
        f"ws{url.removeprefix('http')}/graphql",
        init_payload={"Authorization": f"Bearer {token}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    try:
        async with Client(transport=transport) as session:
            # The first message tells how the task stands, so nothing is missed however fast it was.
            async for data in session.subscribe(GraphQLRequest(CHANGES, variable_values={"id": task_id})):
                task = data["aiTaskStatusChanged"]
                click.echo(f"{task['progressPercentage']:3.0f}% {task['currentStep'] or task['status']}", err=True)
                if task["status"] in ENDED:
                    return
    except TransportError as error:
        raise click.ClickException(f"the connection was lost: {error}; the task {task_id} goes on") from error


def show(digest: dict[str, Any]) -> None:
    for document in digest["documents"]:
        heading(document["name"], document)
        for sentence in document["summary"]:
            click.echo(click.wrap_text(sentence, 100, "  - ", "    "))
    if len(digest["documents"]) > 1:
        heading(f"all {digest['totals']['documents']} documents", digest["totals"])


def heading(name: str, part: dict[str, Any]) -> None:
    click.echo(f"\n{name}\n{'-' * len(name)}")
    click.echo(f"  {part['words']} words, {part['sentences']} sentences, {part['reading_minutes']:g} minutes to read")
    keywords = ", ".join(f"{keyword['word']} ({keyword['count']})" for keyword in part["keywords"])
    click.echo(click.wrap_text(keywords, 100, "  about: ", "         "))


if __name__ == "__main__":
    sys.exit(main())
