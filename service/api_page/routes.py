"""/docs"""

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse

from service.api_page import page

router = APIRouter(include_in_schema=False)


@router.head(page.PATH)
@router.get(page.PATH)
def show() -> Response:
    """The API, to read and to try."""
    return HTMLResponse(page.PAGE, headers=page.PAGE_HEADERS)


@router.head(page.START_PATH)
@router.get(page.START_PATH)
def start() -> Response:
    """What starts Swagger UI in the page."""
    return Response(page.START, headers=page.ASSET_HEADERS, media_type="text/javascript")


@router.head(page.SCRIPT_PATH)
@router.get(page.SCRIPT_PATH)
def script() -> Response:
    """Swagger UI."""
    return FileResponse(page.SCRIPT, headers=page.ASSET_HEADERS, media_type="text/javascript")


@router.head(page.STYLE_PATH)
@router.get(page.STYLE_PATH)
def style() -> Response:
    """Its style sheet."""
    return FileResponse(page.STYLE, headers=page.ASSET_HEADERS, media_type="text/css")
