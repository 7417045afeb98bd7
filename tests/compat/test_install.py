"""``install()``: pymilter's names give modules of ours, each when it is needed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pytest

from aiomilter.compat import MODULES
from tests.compat.forking import Forker
from tests.compat.rigs import pymilter
from tests.patience import PATIENCE
from tests.programs import need


def python(program: str, *path: Path) -> str:
    """Run a program in a Python of its own and return what it prints."""
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"PYTHONPATH": ":".join(map(str, [*sys.path, *path]))},
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


INSTALL = "from aiomilter.compat import install; install(); install()\n"


def test_both_modules_are_one_api_and_what_a_program_sets_is_set() -> None:
    program = """
import Milter, milter
from Milter import CONTINUE, Base, factory
from Milter.utils import parse_addr
import Milter.utils
print(Milter.milter is milter, Milter.error is milter.error, milter.error.__module__, Milter.utils.parse_addr is parse_addr)
Milter.factory = Base
from aiomilter.compat import classic
print(classic.factory is Base, CONTINUE)
"""
    assert python(INSTALL + program) == "True True milter True\nTrue 0"


NAMES = {
    "milter": "ACCEPT ADDHDRS CONTINUE CURR_ACTS P_NR_HDR TEMPFAIL error getdiag getversion main opensocket register "
    "set_connect_callback set_exception_policy set_flags setbacklog setconn setdbg settimeout stop",
    "Milter": "Base DisabledAction Milter OPTIONAL_CALLBACKS MACRO_CALLBACKS R close_callback connect_callback decode "
    "decode_mask dictfromlist enable_protocols envcallback error factory header_leading_space milter negotiate_callback "
    "nocallback noreply param2dict rejected_recipients runmilter set_flags stop symlist uniqueID",
    "Milter.cache": "AddrCache",
    "Milter.config": "MilterConfigParser",
    "Milter.dns": "DNSError DNSLookup Session",
    "Milter.dsn": "create_msg send_dsn",
    "Milter.dynip": "hpats ip3 is_dynip rehmac",
    "Milter.greylist": "Greylist",
    "Milter.greysql": "Greylist",
    "Milter.plock": "PLock",
    "Milter.policy": "MTAPolicy",
    "Milter.pyip6": "inet_ntop inet_pton",
    "Milter.sgmllib": "SGMLParseError SGMLParser",
    "Milter.test": "TestBase",
    "Milter.testctx": "TestCtx",
    "Milter.unsign": "unsign",
    "Milter.utils": "MASK MASK6 PAT_IP4 addr2bin bin2long6 cidr decode dnsre inet_ntop inet_pton ip4re ip6re iniplist "
    "parse_addr parse_header parseaddr",
    "mime": "HTMLScriptFilter MimeGenerator MimeMessage bad_extensions check_attachments check_ext check_html check_name "
    "defang message_from_file unquote zipnames",
}
"""What programs take from each module."""
OWN_IMPORTS = {
    "mime": "BytesGenerator HTMLParser declname declstringlit message_from_binary_file print_function quote",
    "Milter": "print_function priv wraps",
    "Milter.cache": "print_function",
    "Milter.dynip": "print_function",
    "Milter.greysql": "datetime log",
    "Milter.plock": "sleep",
    "Milter.pyip6": "PAT_IP4 RE_IP4 print_function",
    "Milter.test": "print_function",
    "Milter.testctx": "VERSION print_function",
    "Milter.utils": "decode_header",
}
"""Names in pymilter's modules that these have for themselves: imported from elsewhere, or parts of a parser."""
DEFINED = """
import importlib, types, warnings
warnings.simplefilter("ignore")
for module in {modules!r}:
    for name, value in vars(importlib.import_module(module)).items():
        if name[0] != "_" and not isinstance(value, types.ModuleType):
            print(module, name)
"""


def test_programs_find_what_they_take_from_each_module() -> None:
    """``MODULES`` has no name that the table lacks, and the other way around."""
    assert NAMES.keys() == MODULES.keys()
    taken = "\n".join(f"from {module} import {', '.join(names.split())}" for module, names in NAMES.items())
    assert python(f"{INSTALL}{taken}\nprint('all')") == "all"


@pytest.mark.interop
def test_each_module_has_what_pymilters_defines() -> None:
    """But for sgmllib, an old module of Python's: its patterns are not names for programs."""
    need(pymilter.missing())
    modules = [name for name in sorted(MODULES) if name.partition(".")[2] not in (*BROKEN, "sgmllib")]
    program = DEFINED.format(modules=modules)
    theirs = subprocess.run(
        [pymilter.PYTHON, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    lacking = {*theirs.stdout.splitlines()} - {*python(INSTALL + program).splitlines()}
    assert lacking == {f"{module} {name}" for module, names in OWN_IMPORTS.items() for name in names.split()}


WAYS = {
    "import": "import {package}.{name}",
    "import as": "import {package}.{name} as found",
    "from": "from {package} import {name}",
    "from as": "from {package} import {name} as found",
    "from with others": "from {package} import CONTINUE, {name}, Base",
    "its names": "from {package}.{name} import {public}",
    "all its names": "from {package}.{name} import *",
    "import_module": "import importlib; importlib.import_module('{package}.{name}')",
    "import_module of a part": "import importlib; importlib.import_module('.{name}', '{package}')",
    "__import__": "__import__('{package}.{name}')",
    "__import__ with names": "__import__('{package}', globals(), locals(), ['{name}'], 0)",
    "__import__ of a part": "__import__('{name}', {{'__package__': '{package}', '__name__': '{package}.x'}}, None, ['*'], 1)",
    "resolve_name": "import pkgutil; pkgutil.resolve_name('{package}.{name}')",
    "exec": "exec('from {package} import {name}')",
    "in a function": "def imported():\n    from {package} import {name}\nimported()",
    "reloaded": "import importlib; from {package} import {name}; importlib.reload({name})",
    "find_spec": "import importlib.util; importlib.util.find_spec('{package}.{name}').name; import {package}.{name}",
}
SUBMODULES = [name.partition(".")[2] for name in sorted(MODULES) if "." in name]
PUBLIC = {
    "cache": "AddrCache", "config": "MilterConfigParser", "dns": "Session", "dsn": "create_msg", "dynip": "is_dynip",
    "greylist": "Greylist", "greysql": "Greylist", "plock": "PLock", "policy": "MTAPolicy", "pyip6": "inet_pton",
    "sgmllib": "SGMLParser", "test": "TestBase", "testctx": "TestCtx", "unsign": "unsign", "utils": "parse_addr",
}  # fmt: skip
BROKEN = ("dns", "dsn", "greylist", "policy", "unsign")
"""What pymilter's own cannot be imported under Python 3, or without Berkeley DB."""
SHOWN = """
import sys
import Milter
for name in {names!r}:
    module = getattr(Milter, name)
    print(module is sys.modules["Milter." + name], module.__name__, module.__package__)
"""


def imports(way: str, names: list[str], *, package_first: bool) -> str:
    """A program that imports submodules in a way, and shows what the package has afterwards."""
    lines = "".join(WAYS[way].format(package="Milter", name=name, public=PUBLIC[name]) + "\n" for name in names)
    return ("import Milter\n" if package_first else "") + lines + SHOWN.format(names=names)


def found(names: list[str]) -> str:
    return "\n".join(f"True Milter.{name} Milter" for name in names)


COMMANDS = {
    "a program that installs": (
        sys.executable,
        "-c",
        f"{INSTALL}import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0])",
    ),
    "aiomilter compat": (sys.executable, "-m", "aiomilter", "compat"),
    "pymilter": (str(pymilter.PYTHON), "-W", "ignore"),
}


NEITHERS = ("configparser", "csv", "dbm", "email.message", "html.parser", "smtplib", "sqlite3", "zipfile")
"""Modules of Python's own that take half of the time it takes to import those of pymilter: imported once for all programs."""


@pytest.fixture(scope="module")
def forkers() -> Iterator[Callable[[str], Forker]]:
    """What runs programs in a process each that has imported nothing of pymilter's or ours."""
    with ExitStack() as stack:
        yield lru_cache(lambda name: stack.enter_context(Forker(COMMANDS[name], *NEITHERS)))


def run_by(forker: Forker, program: str, directory: Path) -> str:
    """Return what a program prints, or what it says of its failure."""
    script, printed, failed = (directory / name for name in ("program.py", "out", "err"))
    script.write_text(program)
    status = forker.start([str(script)], stdout=printed, stderr=failed).wait(PATIENCE)
    return printed.read_text().strip() + failed.read_text() + (f" (status {status})" if status else "")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_name_can_be_imported_first(name: str, tmp_path: Path, forkers: Callable[[str], Forker]) -> None:
    program = (
        f"import {name}, sys, importlib\nprint(sys.modules[{name!r}] is importlib.import_module({MODULES[name]!r}))\n"
    )
    assert run_by(forkers("a program that installs"), program, tmp_path) == "True"


@pytest.mark.parametrize("package_first", [True, False], ids=["after its package", "before its package"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", ["a program that installs", pytest.param("aiomilter compat", marks=pytest.mark.slow)])
def test_any_submodule_is_imported_in_any_way(
    run: str, way: str, package_first: bool, tmp_path: Path, forkers: Callable[[str], Forker]
) -> None:
    # One that two names share has the name it was imported by last.
    names = [name for name in SUBMODULES if name != "greylist"]
    assert run_by(forkers(run), imports(way, names, package_first=package_first), tmp_path) == found(names)


@pytest.mark.interop
@pytest.mark.parametrize("package_first", [True, False], ids=["after its package", "before its package"])
@pytest.mark.parametrize("way", WAYS)
def test_pymilter_is_imported_in_these_ways(
    way: str, package_first: bool, tmp_path: Path, forkers: Callable[[str], Forker]
) -> None:
    need(pymilter.missing())
    names = [name for name in SUBMODULES if name not in BROKEN]
    assert run_by(forkers("pymilter"), imports(way, names, package_first=package_first), tmp_path) == found(names)


def test_a_submodule_is_an_attribute_of_the_package_once_it_was_imported() -> None:
    program = "import Milter; print(hasattr(Milter, 'utils'), hasattr(Milter, 'milter'))\n"
    assert (
        python(f"{INSTALL}{program}import Milter.utils; print(Milter.utils.parse_addr('<a@b>'))")
        == "False True\n['a', 'b']"
    )
    program = "try:\n    from Milter import nothing\nexcept ImportError as error:\n    print(error.name, error)"
    assert python(INSTALL + program).startswith("Milter cannot import name 'nothing' from 'Milter'")


def test_what_is_printed_or_pickled_has_the_names_of_pymilter() -> None:
    program = """
import pickle
import mime
from Milter.cache import AddrCache
cache = AddrCache()
cache["a@b"] = 5
octets = pickle.dumps(cache)
print(AddrCache, mime.MimeMessage, b"Milter.cache" in octets, b"aiomilter" in octets, pickle.loads(octets)["a@b"])
"""
    assert python(INSTALL + program) == "<class 'Milter.cache.AddrCache'> <class 'mime.MimeMessage'> True False 5"


def test_milter_costs_no_dns_database_or_mail_import() -> None:
    program = "import sys, Milter; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = python(INSTALL + program).split()
    assert "aiomilter" in found
    assert set(found).isdisjoint({"dns", "sqlite3", "dbm", "email", "idna", "uvloop", "smtplib"})


def test_another_pymilter_is_neither_used_nor_harmed(tmp_path: Path) -> None:
    (tmp_path / "Milter").mkdir()
    (tmp_path / "Milter" / "__init__.py").write_text("other = True")
    (tmp_path / "milter.py").write_text("other = True")
    program = "import Milter, milter; print(hasattr(Milter, 'other'), hasattr(milter, 'other'))"
    assert python(program, tmp_path) == "True True"
    assert python(INSTALL + program, tmp_path) == "False False"


def test_what_is_not_pymilters_is_found_as_ever(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("here = True")
    program = """
import mine
try:
    import Milter.nothing
except ModuleNotFoundError as error:
    print(mine.here, error.name)
"""
    assert python(INSTALL + program, tmp_path) == "True Milter.nothing"


def test_a_program_that_logs_everything_gets_no_line_for_each_packet() -> None:
    program = "import logging; logging.basicConfig(level=logging.DEBUG); import Milter; log = logging.getLogger('aiomilter')\n"
    assert (
        python(f"{INSTALL}{program}print(log.isEnabledFor(logging.DEBUG), log.isEnabledFor(logging.INFO))")
        == "False True"
    )
    asked = "logging.getLogger('aiomilter').setLevel(logging.DEBUG); import Milter"
    program = program.replace("import Milter", asked)
    assert python(f"{INSTALL}{program}print(log.isEnabledFor(logging.DEBUG))") == "True"


def test_callbacks_without_a_reply_go_on_in_a_program_that_imports_milters_test() -> None:
    program = (
        "import Milter\nfrom Milter.testctx import TestCtx\n"
        "class Quiet(Milter.Base):\n    @Milter.noreply\n    def connect(self, *client):\n        return Milter.CONTINUE\n"
        "Milter.factory = Quiet\nprint(Milter.NOREPLY, TestCtx()._connect())\n"
        "import Milter.test\nprint(Milter.NOREPLY, TestCtx()._connect())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import aiomilter.compat\naiomilter.compat.install()\n{program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("7 7\n0 0\n", "")
