"""All attacks, in the order in which they are carried out."""

from tests.e2e.attacks import rows_below, rows_codex, rows_gemini, rows_namespaces, rows_running, rows_start

ROWS = (
    *rows_start.ROWS,
    *rows_below.ROWS,
    *rows_running.ROWS,
    *rows_namespaces.ROWS,
    *rows_codex.ROWS,
    *rows_gemini.ROWS,
    *rows_below.LAST,
)
