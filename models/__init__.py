"""What is stored: tables, ids, states, the hot-path SQL and the migrations."""
