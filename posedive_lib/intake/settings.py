"""Parameters in YAML files."""

import re
from pathlib import Path
from typing import Any

import yaml

from posedive_lib.errors import StudyError, unreadable
from posedive_lib.intake.files import read_text


def read_yaml(path: str | Path, mend: str) -> dict[str, Any]:
    """The names and values of a YAML file. StudyError where there are none; it ends with `mend`."""
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        raise StudyError(f"{path} cannot be read (it is not UTF-8 text); {mend}.") from None
    except OSError as error:
        raise unreadable(path, error, "cannot be read", mend) from None
    try:
        values = yaml.load(text, Loader=_Strict)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" on line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise StudyError(f"{path} is not valid YAML{place}: {problem}.") from None
    except (ValueError, RecursionError) as error:  # a date or a number that cannot be
        raise StudyError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(values, dict):
        raise StudyError(f"{path} holds no parameters; {mend}.")
    return values


# YAML 1.1 reads 010 as 8, and 1:30 as 90.
_OTHER_BASES = re.compile(r"[-+]?0[0-7_]+|[^:]+(:[^:]+)+")


class _Strict(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; here that is an error, and so is a link.

    A few links to links stand for more values than any memory holds. Tags, and numbers that are not
    what they look like, are errors too.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, "links (*name) are not read, write the value", event.start_mark
            )
        event = self.peek_event()
        if getattr(event, "tag", None):
            said = f"tags ({event.tag}) are not read, write a plain value"
            raise yaml.constructor.ConstructorError(None, None, said, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number that is written to base ten (or as 0x1F)."""
        if _OTHER_BASES.fullmatch(node.value):
            said = f"{node.value} is read as a number to base 8 or 60, write it to base 10"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        if node.tag.endswith("int"):
            return int(self.construct_yaml_int(node))
        return float(self.construct_yaml_float(node))


for _kind in ("int", "float"):
    _Strict.add_constructor(f"tag:yaml.org,2002:{_kind}", _Strict.construct_number)
