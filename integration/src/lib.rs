//! Real processes and real clients against the built binary; everything is in `tests/all`.
