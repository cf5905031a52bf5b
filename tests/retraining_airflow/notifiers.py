"""A notifier that writes what it would have sent to a file, and things that are no notifiers."""

from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class FileNotifier(BaseNotifier):
    """Appends its text, rendered, to a file."""

    template_fields = ("text",)

    def __init__(self, path: str, text: str = "{{ exception }}") -> None:
        super().__init__()
        self.path = path
        self.text = text

    def notify(self, context: Any) -> None:
        """Write the line."""
        with Path(self.path).open("a") as file:
            file.write(f"{context['ti'].task_id}: {self.text}\n")


class NotANotifier:
    """What an attacker who can edit a pipeline file would like to have built."""

    def __init__(self, path: str) -> None:
        Path(path).write_text("built")
