"""All attacks, in the order in which they are carried out."""

from tests.e2e.attacks import (
    rows_accounts,
    rows_below,
    rows_clouds,
    rows_codex,
    rows_gemini,
    rows_gh,
    rows_index,
    rows_namespaces,
    rows_pnpm,
    rows_running,
    rows_ssh,
    rows_ssh_hosts,
    rows_start,
    rows_tools,
    rows_view,
)

ROWS = (
    *rows_start.ROWS,
    *rows_below.ROWS,
    *rows_running.ROWS,
    *rows_namespaces.ROWS,
    *rows_codex.ROWS,
    *rows_gemini.ROWS,
    *rows_accounts.ROWS,
    *rows_ssh.ROWS,
    *rows_ssh_hosts.ROWS,
    *rows_tools.ROWS,
    *rows_clouds.ROWS,
    *rows_index.ROWS,
    *rows_pnpm.ROWS,
    *rows_gh.ROWS,
    *rows_view.ROWS,
    *rows_below.LAST,
)
