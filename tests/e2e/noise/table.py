"""The corpus: programs in normal use, and how many alerts each makes, folded.

The rows of CREDENTIALS state what holds once the shipped catalogue of credential paths is watched.
"""

from tests.e2e.noise import rows_credentials, rows_files, rows_tools
from tests.e2e.noise.row import Row

DECOYS: tuple[Row, ...] = (*rows_files.ROWS, *rows_tools.ROWS)
CREDENTIALS: tuple[Row, ...] = rows_credentials.ROWS

WATCHED_CREDENTIALS = True
"""Whether the monitor watches credential paths, and folds."""
ROWS = (*DECOYS, *CREDENTIALS) if WATCHED_CREDENTIALS else DECOYS
