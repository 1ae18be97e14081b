"""The documentation as pages: `mkdocs.yml` says which and how, `hooks` adds what is no Markdown in `docs/`."""
