"""Tables of pandas where a dict of arrays is expected."""

from typing import Any

import pandas as pd


def columns_of(value: Any) -> Any:
    """A table as the dict of its columns, (rows, 1) each; anything else as it is."""
    if not isinstance(value, pd.DataFrame):
        return value
    return {name: value[name].to_numpy()[:, None] for name in value.columns}
