"""papermill without a browser: what widgets print stays in their cell."""

from typing import Any

from nbclient.client import NotebookClient
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger
from papermill.utils import merge_kwargs, remove_args

ENGINE = "ddid"


class _Client(PapermillNotebookClient):
    """Plays no browser to output widgets: what they print stays in their cell, and nothing is sent
    while a reply is awaited, which nbclient would miss now and then (its issue 312)."""

    def on_comm_open_jupyter_widget(self, msg: dict[str, Any]) -> None:
        """Leave the widget to the kernel."""


class Engine(NBClientEngine):
    """papermill's engine with that client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, **options: Any
    ) -> NotebookClient:
        """Execute the notebook of `nb_man`; options as of the class above."""
        given = remove_args(["input_path", "start_timeout", "execution_timeout"], **options)
        return _Client(nb_man, **merge_kwargs(given, kernel_name=kernel_name, log=logger)).execute()


papermill_engines.register(ENGINE, Engine)
