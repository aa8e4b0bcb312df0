"""The first thing to try, as a line to copy: what `taskyard dev` prints and the start page shows."""

import json
import shlex

QUERY = (
    'mutation { createAITask(input: {taskType: "mock_content",'
    ' inputData: {topic: "tide pools", length: "short"}}) { id status } }'
)


def curl_line(address: str, token: str) -> str:
    """The command that creates a task at this address, where `/graphql` is.

    `token` stands in double quotes: it is a token, or a `$(command)` of the shell that prints one.
    """
    return (
        f'curl -s {shlex.quote(address)} -H "Authorization: Bearer {token}"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(json.dumps({'query': QUERY}))}"
    )
