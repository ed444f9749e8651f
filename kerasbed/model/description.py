"""What the description of a saved model says, field by field."""

from typing import Any

from kerasbed.backend import errors, fields, functions, untrusted, versions
from kerasbed.backend.fields import Field

GRADIENTS = ("auto", "reparameterization", "score", "mixed")
MODEL, APPROXIMATOR = "kerasbed>DesignModel", "kerasbed>PosteriorApproximator"


def _is_record(value):
    return isinstance(value, dict)


def _is_object(value):
    return (
        isinstance(value, dict) and isinstance(value.get("class_name"), str) and isinstance(value.get("config"), dict)
    )


OBJECT = {
    "module": Field(fields.or_none(fields.is_text), "a module", False),
    "class_name": Field(fields.is_text, "the name of a class"),
    "registered_name": Field(fields.or_none(fields.is_text), "the name of a class", False),
    "config": Field(_is_record, "a record"),
    "build_config": Field(fields.or_none(_is_record), "a record", False),
    "compile_config": Field(fields.or_none(_is_record), "a record", False),
}
SIMULATOR = {
    "class": Field(fields.is_text, "the name of a class"),
    "registered_name": Field(fields.is_text, "the name of a class", False),
    "config": Field(_is_record, "a record"),
    "parameters": Field(
        lambda value: isinstance(value, dict) and all(fields.is_integer(size, 1, 10**6) for size in value.values()),
        "the size of each parameter",
    ),
}


def _is_layout(value):
    return isinstance(value, dict) and all(
        fields.is_text(name) and isinstance(shape, list) and all(fields.is_integer(size, 1, 10**6) for size in shape)
        for name, shape in value.items()
    )


FIELDS = {
    "name": Field(fields.is_text, "a text"),
    "simulator": Field(_is_record, "a record"),
    "design": Field(_is_object, "a class and its arguments"),
    "objective": Field(_is_object, "a class and its arguments"),
    "seed": Field(lambda value: fields.is_integer(value, 0, 2**128), "an integer of at least 0"),
    "fits": Field(fields.is_integer, "a number of trainings"),
    "gradient": Field(lambda value: value in GRADIENTS, f"one of {GRADIENTS}"),
    "paths": Field(fields.or_none(_is_record), "a record", False),
    "fitted_posterior": Field(fields.or_none(_is_object), "a class and its arguments", False),
    "starts": Field(lambda value: fields.is_integer(value, 1, 10_000), "a number of designs", False),
    "target": Field(fields.or_none(lambda value: isinstance(value, str | list | dict)), "names or a function", False),
    "wide": Field(fields.is_flag, "true or false", False),
    "direct_pairs": Field(fields.is_flag, "true or false", False),
    "leaves_out": Field(fields.is_flag, "true or false", False),
    "outcome_layout": Field(fields.or_none(_is_layout), "the shape of each entry of an outcome", False),
    "written_by": Field(_is_record, "a record", False),
    "cost": Field(fields.or_none(lambda value: isinstance(value, str | dict)), "a function", False),
    "budget": Field(fields.or_none(fields.is_number), "a number", False),
}
VERSIONS = ("kerasbed", "keras", "bayesflow")


def check_file(described: dict, path: object) -> None:
    """Whether a file describes a model of kerasbed that this version can build.

    Args:
        described: config.json.
        path: of the file, for the message.

    Raises:
        FileError: it does not, or names and declares what no model of kerasbed has.

    Warns:
        FileWarning: another series of BayesFlow wrote it.
    """
    name = described.get("registered_name") or described.get("class_name") or "an object without a class"
    if name not in (MODEL, APPROXIMATOR):
        raise errors.FileError(
            f"{path} is a Keras file that holds {str(name)[:60]!r}, not a kerasbed DesignModel; load it with "
            "keras.saving.load_model."
        )
    what = f"{path}: config.json"
    model = described.get("config")
    if name == APPROXIMATOR:
        model = model.get("model") if isinstance(model, dict) else None
        model = model.get("config") if isinstance(model, dict) else None
    if not isinstance(model, dict):
        raise errors.FileError(f"{what} lacks 'config', the description of a model.")
    _check_versions(model, path)
    fields.check(described, OBJECT, what)
    check_model(model, what)
    untrusted.check(_without_code(described), str(path))


def check_model(config: dict, what: str) -> None:
    """Whether a model's own fields are there and of their kinds.

    Raises:
        FileError: one is not.
    """
    fields.check(config, FIELDS, what)
    fields.check(config["simulator"], SIMULATOR, f"{what}, simulator")


def check_names(config: dict) -> None:
    """The same, and what the fields name and declare, of a model that Keras is about to build from any source."""
    if not functions.is_copying():
        check_model(config, "The description of the model")
        untrusted.check(_without_code(config), "The description of the model")


def _check_versions(model, path):
    written = model.get("written_by")
    if written is None:
        return
    good = isinstance(written, dict) and all(fields.is_text(written.get(name), 60) for name in VERSIONS)
    if not good or not fields.is_integer(written.get("format"), 1, 10**6):
        raise errors.FileError(
            f"{path}: config.json has written_by = {repr(written)[:60]}, but versions were expected."
        )
    versions.check_readable(path, written)


def _without_code(config: Any) -> Any:
    """The description without lambdas as cost and target: early files hold them, and nothing reads them."""
    if not isinstance(config, dict):
        return config
    code = [key for key in ("cost", "target") if functions.unregistered_name(config.get(key)) == "a lambda"]
    kept = {key: None if key in code else value for key, value in config.items()}
    for key in ("config", "model"):
        if isinstance(kept.get(key), dict):
            kept[key] = _without_code(kept[key])
    return kept
