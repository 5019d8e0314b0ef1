"""The delivery engine and its arq jobs: claim, sign, send, settle, retry, sweep."""
