"""Routes. Airflow mounts a plugin's application without asking who is there: this one asks."""

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_dag,
    requires_authenticated,
)
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, RedirectResponse

from retraining.errors import RetrainingError
from retraining.gate_report import HTML, JSON
from retraining_airflow.naming import DIGITS, WEEKLY, dag_id_of
from retraining_console.store import page_of

log = logging.getLogger(__name__)

# A page is what a worker stored. It runs nothing, loads nothing, and no other site shows it.
_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline';"
    " img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # whoever logs in next on this machine may be somebody else
}
_NOT_SHOWN = """<!doctype html><meta charset="utf-8"><title>Not shown</title>
<style>body{{font:16px/1.5 sans-serif;max-width:46em;margin:3em auto;padding:0 1em}}</style>
<h1>This page cannot be shown here</h1>
<p>This server cannot read the store, or the store holds no such decision with a page. Its log says
which. Where the store can be read, the same page is made by</p>
<pre>retraining gate-report {digits}</pre>"""

app = FastAPI(
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_authenticated())],
)


# Of a decision: as many digits as the gate's log names, or more.
Digits = Annotated[str, Path(pattern=f"^[0-9a-f]{{{DIGITS},64}}$")]


@app.get("/gate/{digits}.json")
def as_json(digits: Digits, request: Request, user: GetUserDep) -> Response:
    """The page of a decision for machines."""
    return _page(digits, JSON, "application/json", request, user)


@app.get("/gate/{digits}")
def as_page(digits: Digits, request: Request, user: GetUserDep) -> Response:
    """The page of a decision, as the gate signed it."""
    return _page(digits, HTML, "text/html; charset=utf-8", request, user)


def _page(digits: str, name: str, media_type: str, request: Request, user: Any) -> Response:
    try:
        page = page_of(digits, name)
    except RetrainingError as error:
        # Paths and addresses are for whoever runs the server.
        log.warning("The page of decision %s cannot be shown: %s", digits, error)
        return _not_shown(503 if error.retryable else 404, digits)
    reader = requires_access_dag(
        method="GET",
        access_entity=DagAccessEntity.RUN,
        param_dag_id=dag_id_of(WEEKLY, page.model),
    )
    reader(request, user)
    return Response(page.content, media_type=media_type, headers=_HEADERS)


def _not_shown(status: int, digits: str) -> Response:
    return HTMLResponse(_NOT_SHOWN.format(digits=digits), status_code=status, headers=_HEADERS)


@app.exception_handler(HTTPException)
async def _log_in_first(request: Request, error: HTTPException) -> Response:
    """Lead whoever follows a link without being logged in to Airflow's login, and back."""
    if error.status_code == 401 and "text/html" in request.headers.get("accept", ""):
        login = get_auth_manager().get_url_login()
        return RedirectResponse(f"{login}?{urlencode({'next': str(request.url)})}")
    return await http_exception_handler(request, error)
