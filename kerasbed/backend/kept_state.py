"""A Keras model that no error and no Ctrl-C empties.

Keras takes a model's variables away while a loop runs on JAX and hands their values from program to program, each of
which may overwrite what it was given (JAX calls that donating). What a program returned is lost where a later batch of
the same call fails, or where Ctrl-C comes while it runs: the model then holds arrays that are deleted. So no program
here is given the state to overwrite, which costs a copy of the weights for every call of many steps, and
`jax_state_sync` knows the last state at every moment at which the variables are empty.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from kerasbed.backend.selection import NAME

if NAME == "jax":
    import jax
elif NAME == "torch":
    import torch

# Values of and lists of variables, which Keras would take for more variables, and look at at every call of many steps.
OWN = ("_jax_state", "_lists")

# What a mixin is mixed into, for type checkers only: it has every attribute of a Keras model.
KerasModel = keras.Model if TYPE_CHECKING else object


def as_batch(data: Any) -> Any:
    """A bare dict, as a torch DataLoader or tf.data yields it, is a batch without targets."""
    return (data,) if isinstance(data, dict) else data


class KeptState(KerasModel):
    """What `fit`, `evaluate` and `predict` do with a model's variables. Mix in before `keras.Model`."""

    _lists: dict[str, list] | None = None  # of the variables that the call under way has emptied, by Keras' names

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @contextlib.contextmanager
    def _weights_kept(self) -> Iterator[None]:
        """Context after whose error or Ctrl-C the variables have the values of the last call that ended."""
        outer, self._lists = self._lists, {}
        try:
            yield
        except BaseException:
            if NAME == "jax":
                self.jax_state_sync()
            raise
        finally:
            self._lists = outer

    def _get_jax_state(self, purge_model_variables=False, **chosen):
        """Keras' state; where the variables are emptied, `jax_state_sync` knows their values before they are.

        Keras looks for all variables each time that it reads, empties or fills them, which takes a fortieth of a small
        epoch; here they are looked for once in a call of `fit`, and what was emptied is filled again.
        """
        # Once they are emptied a program knows them, and there are no more of them until it ends.
        known = (self._lists or {}) if purge_model_variables else {}
        lists = {name: known.get(name) or self._listed(name) for name, wanted in chosen.items() if wanted}
        state = {name: [variable.value for variable in variables] for name, variables in lists.items()}
        if purge_model_variables:
            self._jax_state, self._lists, self._jax_state_synced = state, known | lists, False
            for variable in itertools.chain.from_iterable(lists.values()):
                variable._value = None
        return tuple(state.values())

    def _listed(self, name):
        return self.optimizer.variables if name == "optimizer_variables" else getattr(self, name)

    def jax_state_sync(self) -> None:  # of Keras: gives the variables the values that the last program returned
        if self._jax_state_synced or not self._lists:
            return super().jax_state_sync()
        for name, values in self._jax_state.items():
            for variable, value in zip(self._lists[name], values, strict=True):
                variable._direct_assign(value)
        self._jax_state_synced = True

    def make_test_function(self, force: bool = False):
        if self.test_function is not None and not force:
            return
        if NAME == "jax":
            self.test_function = self._make_function(self._program_of(self.test_step))
        elif NAME == "torch" and self.steps_per_execution > 1:
            self.test_function = self._tested_batches
        else:
            super().make_test_function(force=force)

    def _tested_batches(self, batches):
        """torch: the logs after several batches."""
        with torch.no_grad():
            for data in batches:
                logs = self.test_step(as_batch(data))
        return logs

    def make_predict_function(self, force: bool = False):
        if NAME != "jax" or (self.predict_function is not None and not force):
            return super().make_predict_function(force=force)

        def predict_step(state, data):
            outputs, others = self.predict_step(state, data)
            return outputs, (state[0], others)

        self.predict_function = self._make_function(self._program_of(predict_step), concatenate_outputs=True)
        return self.predict_function

    def _program_of(self, step):
        """JAX: `(state, batch) -> (what is told, state)`, compiled unless steps run eagerly; the state given stays."""
        return step if self.run_eagerly or not self.jit_compile else jax.jit(step)
