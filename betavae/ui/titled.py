"""The title and description in previews of a link to the page, instead of Gradio's."""

import html
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio's template has these tags twice, once with Gradio's own name.
GRADIOS = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*')
HTML = b"text/html; charset=utf-8"


class Titled:
    """ASGI middleware that gives pages og: and twitter: tags with this title and description."""

    def __init__(self, app: ASGIApp, title: str, description: str):
        self.app = app
        said = {"og:type": "website", "og:title": title, "og:description": description, "description": description,
                "twitter:card": "summary", "twitter:title": title, "twitter:description": description}
        self.tags = "".join(f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(text)}">'
                            for name, text in said.items()).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; a page is buffered until it is complete."""
        start: dict[str, Any] | None = None
        body = b""

        async def sending(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and (b"content-type", HTML) in message["headers"]:
                start = dict(message)
            elif start is None:
                await send(message)
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                if b"gradio_config" in body:
                    body = GRADIOS.sub(b"", body).replace(b"<head>", b"<head>" + self.tags, 1)
                headers = [(key, value) for key, value in start["headers"] if key != b"content-length"]
                await send(start | {"headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({"type": "http.response.body", "body": body})

        page = scope["type"] == "http" and scope["method"] == "GET"
        await self.app(scope, receive, sending if page else send)
