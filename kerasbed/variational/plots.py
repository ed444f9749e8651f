"""Pictures of a variational fit, one function each; every one draws into `axes` and returns it."""

