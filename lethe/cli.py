"""The `lethe` command. Expected trouble, and a value that cannot be used, is one sentence with its remedy on stderr and
exit status 1; a command line that does not parse (no such command or option, no number) is exit status 2; there is no
traceback for either. What else a status means, the command's --help says.
"""

import sys
from collections.abc import Sequence

import typer
from rich.markup import escape

from lethe.client import DownloadFailed, FieldProblem, LetheProblem
from lethe.commands import auditing, backups, doctor, evaluate, keys, models, requests, running, versions
from lethe.commands.options import Mistake
from lethe.output import errors, escape_unknown_letters
from records.errors import LetheError

app = typer.Typer(
    name="lethe",
    help="Makes language models forget, and proves what it measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for subject in (running, models, requests, versions, keys, evaluate, doctor, backups):
    subject.add_to(app)
app.add_typer(auditing.app, name="audit")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, the process's own by default. Ends with SystemExit."""
    escape_unknown_letters()
    try:
        app(args=arguments)
    except LetheProblem as problem:
        _refuse(problem.detail, problem.errors)
    except (DownloadFailed, Mistake) as error:
        _refuse(str(error))
    except LetheError as error:
        _refuse(error.detail, [FieldProblem(one.pointer, one.detail) for one in error.errors])
    except OSError as error:
        _refuse(f"{error.strerror or type(error).__name__}: {error.filename or ''}".rstrip(": ") + ".")
    except Exception as error:
        sentence = _of_database(error)
        if sentence is None:
            raise
        _refuse(sentence)


def _of_database(error: Exception) -> str | None:
    """What the database did not do, in words; None for an error that is not the database's, or that is ours."""
    if "sqlalchemy" not in sys.modules:  # the client alone comes without it
        return None
    from records.database import DatabaseTrouble, is_away, refuses

    kind = type(error).__name__
    if not isinstance(error, DatabaseTrouble):
        return None
    if is_away(error):
        return (
            f"The database cannot be reached, or lets nobody in ({kind}). See that it runs, and that "
            "LETHE_DATABASE_URL (without one: --data-dir) says where it is."
        )
    if refuses(error):
        return f"The database is not as this code expects it ({kind}). Run 'lethe migrate', or mend LETHE_DATABASE_URL."
    return None


def _refuse(sentence: str, fields: Sequence[FieldProblem] = ()) -> None:
    to = errors()
    to.print(f"[bold red]error[/]: {escape(sentence)}")
    for field in fields:
        to.print(f"  at {escape(field.pointer or '/')}" + (f": {escape(field.detail)}" * (field.detail != sentence)))
    sys.exit(1)


if __name__ == "__main__":
    main()
