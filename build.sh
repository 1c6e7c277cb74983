cd /tmp/h/docs; time NO_MKDOCS_2_WARNING=1 SOURCE_DATE_EPOCH=1 .venv/bin/python -m mkdocs build --strict 2>&1 | tail -${1:-60}
