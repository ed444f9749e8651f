"""The examples of docstrings: what has to have one, and doctests that compare numbers to the digits written."""

import doctest
import inspect
import re
import types
from collections.abc import Iterator

import keras

import kerasbed as kb
from kerasbed import model, priors, simulators

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.(\d*))?(?:e[+-]?\d+)?(?![\w])")


def public_objects() -> dict[str, object]:
    """Name of the interface -> class or function, for all names of `kb.__all__`, of its modules and of the packages
    behind it, the methods that `DesignModel` adds to Keras' or explains anew, and the constructors of `Prior` and
    `Simulator`."""
    found = dict(_of_module("kb", kb))
    behind = [item for module in (priors, simulators, model) for item in _of_module(module.__name__, module)]
    found |= {name: value for name, value in behind if not any(value is known for known in found.values())}
    found |= {f"kb.DesignModel.{name}": method for name, method in _methods(kb.DesignModel, keras.Model)}
    found |= {f"kb.Prior.{name}": getattr(kb.Prior, name) for name in _static(kb.Prior)}
    found |= {f"kb.Simulator.{name}": getattr(kb.Simulator, name) for name in (*_static(kb.Simulator), "simulate")}
    return found


def _of_module(prefix, module) -> Iterator[tuple[str, object]]:
    for name in module.__all__ if hasattr(module, "__all__") else _own(module):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            yield from _of_module(f"{prefix}.{name}", value)
        elif isinstance(value, type | types.FunctionType):
            yield f"{prefix}.{name}", value


def _own(module) -> list[str]:
    """Public names that a module without `__all__` defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _methods(cls, base) -> Iterator[tuple[str, object]]:
    """Public methods with words of their own, but hooks that only Keras calls."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        explained = method.__doc__ and method.__module__.startswith("kerasbed") and not name.startswith("_")
        if explained and (not hasattr(base, name) or name in ("compile", "evaluate", "fit")):
            yield name, method


def _static(cls) -> list[str]:
    """Constructors under another name."""
    return [name for name, value in vars(cls).items() if isinstance(value, staticmethod) and not name.startswith("_")]


def parsed(name: str, value: object, names: dict[str, object]) -> doctest.DocTest:
    """The example of an object as a doctest that knows some names."""
    return doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", dict(names), name, None, 0)


def run(test: doctest.DocTest) -> str:
    """What went wrong in an example, in doctest's words; empty where nothing did. Its names stay in `test.globs`."""
    told = []
    doctest.DocTestRunner(Checker(), verbose=False, optionflags=OPTIONS).run(test, out=told.append, clear_globs=False)
    return "".join(told)


class Checker(doctest.OutputChecker):
    """Takes numbers for equal that agree to the last decimal written, and NumPy's scalars for Python's."""

    def check_output(self, want, got, optionflags):
        want, got = _plain(want), _plain(got)
        return super().check_output(want, _with_numbers_of(want, got), optionflags)


def _plain(text):
    scalars = re.sub(r"np\.(True|False)_|np\.\w+\(([^()]*)\)", lambda found: found[1] or found[2], text)
    return re.sub(r"(?<=[\[(])\s+|\s+(?=[\])])", "", scalars)


def _with_numbers_of(want, got):
    """What was printed, with the numbers expected in the places of those that are close to them."""
    wanted, found = list(NUMBER.finditer(want)), list(NUMBER.finditer(got))
    if len(wanted) != len(found):
        return got
    for expected, number in zip(wanted[::-1], found[::-1], strict=True):
        decimals = expected[1]
        if decimals is not None and abs(float(expected[0]) - float(number[0])) <= 1.01 * 10.0 ** -len(decimals):
            got = got[: number.start()] + expected[0] + got[number.end() :]
    return got
