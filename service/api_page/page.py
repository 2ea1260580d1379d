"""The API as a page to read and to try: Swagger UI over /openapi.json, without a key and without another host.

The package fastapi-offline carries Swagger UI's files; the page and what starts it are ours, since FastAPI's own need a
script inside the page. The policy below lets the page load from and talk to this service alone, so that a key given to
it goes nowhere else; it is kept until the page is left.
"""

from importlib.resources import files
from pathlib import Path

PATH = "/docs"
_ASSETS = Path(str(files("fastapi_offline"))) / "static"
SCRIPT, STYLE = _ASSETS / "swagger-ui-bundle.js", _ASSETS / "swagger-ui.css"
SCRIPT_PATH, STYLE_PATH, START_PATH = f"{PATH}/{SCRIPT.name}", f"{PATH}/{STYLE.name}", f"{PATH}/start.js"
PATHS = frozenset({PATH, SCRIPT_PATH, STYLE_PATH, START_PATH})
"""All that needs no key."""

ASSET_HEADERS = {"Cache-Control": "public, max-age=3600"}
# Swagger UI writes style attributes, and has its icons in the style sheet as data: addresses.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
# Addresses are relative to the page's own, so that it may lie behind a proxy's prefix.
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lethe: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"><noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# validatorUrl: without it the document's address would be told to a host of Swagger's.
START = """\
"use strict";
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
