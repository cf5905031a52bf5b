"""Drafts a pipeline file from a newcomer's own files, so that a first week runs in minutes.

`tables` reads the files, `columns` guesses what each column is, `deliveries` finds the sources,
`render` writes the file with every guess marked `# review:`, and `project` puts it all in place.
Guesses come from the reference set alone, as in a finished pipeline: what a provider delivers
never says what is allowed.
"""

from retraining.init_spec.project import Drafted, init_pipeline

__all__ = ["Drafted", "init_pipeline"]
