"""How news travel: within this replica at once, to the others through PostgreSQL's LISTEN and NOTIFY."""
