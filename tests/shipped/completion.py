"""Completion for bash, zsh and fish, made from the parser of the command line.

shtab does the same, but what it writes holds functions of its own under the MPL.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from aiomilter._cli.options import HelpAll

_FILES: Final = frozenset({"FILE", "TARGET", "PROGRAM", "MESSAGE", "DIR"})
"""Words of a metavar that stand for files."""
_BASH: Final = """\
# Completion of aiomilter for bash; made from its command line.
_aiomilter() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' each offered=''
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$command $each" in
%(paths)s
        esac
    done
    COMPREPLY=()
    case "$command $before" in
%(values)s
    esac
    case "$command" in
%(offers)s
    esac
    [[ $word == -* || $offered != -* ]] && COMPREPLY=($(compgen -W "$offered" -- "$word"))
}
# Where nothing is offered bash completes files.
complete -o default -F _aiomilter aiomilter
"""
_ZSH: Final = """\
#compdef aiomilter
# Completion of aiomilter for zsh; made from its command line.
local command='' each
for each in ${words[2,CURRENT-1]}; do
    case "$command $each" in
%(paths)s
    esac
done
case "$command" in
%(specs)s
esac
"""


class _Option(NamedTuple):
    names: list[str]
    text: str
    metavar: str
    choices: list[str]
    files: bool


class _Command(NamedTuple):
    """A command, by its words; ``run`` has one, ``config check`` two, all of them none."""

    words: tuple[str, ...]
    options: list[_Option]
    below: Mapping[str, str]


def scripts(parser: argparse.ArgumentParser) -> Mapping[str, str]:
    """Return the script of each shell, by the name that it looks for."""
    commands = list(_commands(parser, ()))
    return {"aiomilter": _bash(commands), "_aiomilter": _zsh(commands), "aiomilter.fish": _fish(commands)}


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[_Command]:
    formatter, options, below = argparse.HelpFormatter(parser.prog), [], {}
    for action in parser._actions:
        if isinstance(action, HelpAll):
            action.show()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = {each.dest: each.help or "" for each in action._choices_actions}
            for name, each in action.choices.items():
                yield from _commands(each, (*words, name))
        elif action.option_strings:
            takes = action.nargs != 0
            metavar = (action.metavar or action.dest.upper()) if takes else ""
            parts = str(metavar).replace("[", " ").replace("]", " ").split()
            text = formatter._expand_help(action) if action.help else ""
            choices = [str(each) for each in action.choices or ()]
            options.append(
                _Option(list(action.option_strings), text, str(metavar), choices, not _FILES.isdisjoint(parts))
            )
    yield _Command(words, options, below)


def _paths(commands: list[_Command], indent: str) -> str:
    """Return how a word leads from one command to one below it."""
    steps = [command.words for command in commands if command.words]
    return "\n".join(f"{indent}'{' '.join(words[:-1])} {words[-1]}') command='{' '.join(words)}' ;;" for words in steps)


def _bash(commands: list[_Command]) -> str:
    values, offers = [], []
    for command in commands:
        words = " ".join(command.words)
        for option in command.options:
            if option.metavar:
                pattern = "|".join(f"'{words} {name}'" for name in option.names)
                offered = " ".join(option.choices)
                does = f'COMPREPLY=($(compgen -W "{offered}" -- "$word")); ' if offered else ""
                values.append(f"        {pattern}) {does}return ;;")
        offered = " ".join(command.below or (name for option in command.options for name in option.names))
        offers.append(f"        '{words}') offered='{offered}' ;;")
    return _BASH % {"paths": _paths(commands, " " * 12), "values": "\n".join(values), "offers": "\n".join(offers)}


def _zsh(commands: list[_Command]) -> str:
    def plain(text: str) -> str:
        return "".join(" " if character in "[]:'\\" else character for character in text)

    cases = []
    for command in commands:
        specs = [
            f"'{name}[{plain(option.text)}]"
            + (f":{plain(option.metavar)}:{_zsh_value(option)}'" if option.metavar else "'")
            for option in command.options
            for name in option.names
        ]
        if command.below:
            listed = " ".join(f"'{name}:{plain(text)}'" for name, text in command.below.items())
            does = f"local -a below=({listed}); _describe command below"
        else:
            does = "_arguments \\\n        " + " \\\n        ".join([*specs, "'*:file:_files'"])
        cases.append(f"'{' '.join(command.words)}')\n        {does} ;;")
    return _ZSH % {"paths": _paths(commands, " " * 8), "specs": "\n".join(f"    {case}" for case in cases)}


def _zsh_value(option: _Option) -> str:
    return f"({' '.join(option.choices)})" if option.choices else "_files" if option.files else " "


def _fish(commands: list[_Command]) -> str:
    lines = ["# Completion of aiomilter for fish; made from its command line."]
    for command in commands:
        seen = [f"__fish_seen_subcommand_from {word}" for word in command.words]
        below = f"not __fish_seen_subcommand_from {' '.join(command.below)}" if command.below else ""
        where = "; and ".join([*seen, *([below] if below else [])])
        begin = f"complete -c aiomilter -n {_quoted(where)}"
        lines += [f"{begin} -f -a {name} -d {_quoted(text)}" for name, text in command.below.items()]
        for option in command.options if command.words else ():
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -r" if option.metavar else ""
            lines.append(f"{begin} {names}{value} -d {_quoted(option.text)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
