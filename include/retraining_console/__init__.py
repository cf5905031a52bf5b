"""The on-call's pages in Airflow: read-only, for whoever may see the runs of the DAG.

They show stored pages that a signed record names, and decide nothing. The API server needs to read
the store, and the root's public key; it has no other key.
"""

from typing import Any

__all__ = ["console"]


async def console(scope: Any, receive: Any, send: Any) -> None:
    """The application, imported when somebody asks for a page.

    Airflow loads plugins in every process, tasks included; FastAPI alone takes half a second.
    """
    from retraining_console.app import app

    await app(scope, receive, send)
