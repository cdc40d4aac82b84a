//! Any bytes into every decoder: the targets are in `tests/all`. Nothing else is here, for nothing else is built.
