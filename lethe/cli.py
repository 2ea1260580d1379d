"""The `lethe` command. Expected trouble is one sentence with its remedy on stderr and exit status 1; what was typed
wrongly is exit status 2; there is no traceback for either.
"""

import sys
from collections.abc import Sequence

import typer
from rich.markup import escape

from lethe.client import DownloadFailed, LetheProblem
from lethe.commands import auditing, keys, models, requests, running, versions
from lethe.commands.options import Mistake
from lethe.output import errors

app = typer.Typer(
    name="lethe",
    help="Makes language models forget, and proves what it measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for subject in (running, models, requests, versions, keys):
    subject.add_to(app)
app.add_typer(auditing.app, name="audit")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, the process's own by default. Ends with SystemExit."""
    try:
        app(args=arguments)
    except LetheProblem as problem:
        _refuse(problem.detail, [f"{error.pointer or 'body'}: {error.detail}" for error in problem.errors])
    except (DownloadFailed, Mistake) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": ") + ".")
    except Exception as error:
        if type(error).__module__.split(".")[0] == "records" and hasattr(error, "detail"):  # a LetheError
            _refuse(str(error))
        raise


def _refuse(sentence: str, details: Sequence[str] = ()) -> None:
    to = errors()
    to.print(f"[bold red]error[/]: {escape(sentence)}")
    for detail in details:
        if detail.partition(": ")[2] != sentence:
            to.print(f"  {escape(detail)}")
    sys.exit(1)


if __name__ == "__main__":
    main()
