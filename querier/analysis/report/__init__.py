"""`querier report`: tested runs on one self-contained HTML page; `page` says what stands on it."""
