"""The ``lutrip`` command: assembles the sub-commands and turns errors into exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from hw.errors import LutripError, ToolError

COMMANDS = ("calibrate", "compile", "demo", "disasm", "doctor", "estimate", "evaluate", "explore",
            "generate", "mix", "report", "simulate")
WRONG_RESULT, WRONG_INPUT, TOOL_FAILED, INTERRUPTED = 1, 2, 3, 130


class LazyGroup(click.Group):
    """Sub-commands are modules, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"lutrip.commands.{name}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lutrip")
def cli() -> None:
    """Co-design simulator for quantized transformers on FPGAs.

    \b
    From a checkpoint to generated RTL, a bit-exact cycle-accurate run, joules and a report:
      lutrip compile --model smollm2-135m --scheme lut2d --hw sim --out runs/lut2d
      lutrip simulate runs/lut2d
      lutrip report runs/lut2d
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns 0 ok, 1 wrong result, 2 wrong input, 3 tool missing or failed."""
    try:
        status = cli.main(
            args=None if argv is None else list(argv), prog_name="lutrip", standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return WRONG_INPUT
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        print(f"lutrip: error: {error.format_message()}{hint}", file=sys.stderr)
        return WRONG_INPUT
    except (click.Abort, KeyboardInterrupt):
        print("lutrip: interrupted; nothing half-written was left in place", file=sys.stderr)
        return INTERRUPTED
    except ToolError as error:
        print(f"lutrip: error: {error}", file=sys.stderr)
        return TOOL_FAILED
    except LutripError as error:
        print(f"lutrip: error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"lutrip: error: {where}{error.strerror or error}", file=sys.stderr)
        return WRONG_INPUT
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
