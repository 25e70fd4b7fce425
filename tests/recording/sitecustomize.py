"""Python imports this file by itself at its start, where its folder is on PYTHONPATH.

In a stage of the pipeline it then writes down every parameter that is read: one line each, such as
"augment.tau_ref" (or "image.width|reid.image.width", where either may be meant), in the folder
RECORD_PARAMETERS, in a file per stage and process.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

MODULE = "posedive_lib.params"
PLACE, STAGE = os.environ.get("RECORD_PARAMETERS"), os.environ.get("DVC_STAGE")


def _is_section(field) -> bool:
    return hasattr(field.annotation, "model_fields")


class Recorder:
    """Reads of a section's fields, by the section's class."""

    def __init__(self, params):
        self.names: dict[type, set[str]] = {}
        self.seen: set[str] = set()
        self.active = True
        self._walk(params.Params, "")
        for section in self.names:
            self._watch(section)
        params.load = self._silent(params.load)
        self._watch_pick(params.Params)

    def _walk(self, section: type, prefix: str) -> None:
        self.names.setdefault(section, set()).add(prefix)
        for name, field in section.model_fields.items():
            if _is_section(field):
                self._walk(field.annotation, f"{prefix}{name}.")

    def _watch(self, section: type) -> None:
        fields, plain, dump = section.model_fields, section.__getattribute__, section.model_dump
        values = {name for name, field in fields.items() if not _is_section(field)}

        def read(instance, name):
            if name in values:
                self._note(section, name)
            return plain(instance, name)

        def dumped(instance, *args, **kwargs):
            for name in fields:
                self._note(section, f"{name}.*")
            return dump(instance, *args, **kwargs)

        section.__getattribute__, section.model_dump = read, dumped

    def _watch_pick(self, params: type) -> None:
        """`pick` dumps everything and takes some of it: only that was read."""
        pick = self._silent(params.pick)

        def picked(instance, *keys):
            for key in keys:
                self._note(params, f"{key}.*")
            return pick(instance, *keys)

        params.pick = picked

    def _silent(self, load):
        """What the function itself reads does not count."""

        def loaded(*args, **kwargs):
            before, self.active = self.active, False
            try:
                return load(*args, **kwargs)
            finally:
                self.active = before

        return loaded

    def _note(self, section: type, name: str) -> None:
        # Two sections may be of one class: then either may have been read.
        line = "|".join(sorted(f"{prefix}{name}" for prefix in self.names[section]))
        if self.active and line not in self.seen:
            self.seen.add(line)
            with (Path(PLACE) / f"{STAGE}.{os.getpid()}").open("a") as log:
                log.write(f"{line}\n")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the parameters' module as always, and starts a recorder once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def run_and_record(module):
            run(module)
            Recorder(module)

        spec.loader.exec_module = run_and_record
        return spec


RUNNER = "posedive_lib.bench.notebook"  # checks inputs; the notebook itself runs in a kernel

if PLACE and STAGE and RUNNER not in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
